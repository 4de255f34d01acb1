"""Looks at real folders, against a real ledger: what they make due, and what they leave alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import Failure, Kind, Scope
from artifactd.layout import Route
from artifactd.ledger import Growth, Name, Report, State
from artifactd.ledger.rows import CLASH
from artifactd.pace import NEWS_EVERY
from artifactd.watching.scan import Listing, look
from desk import RUN_ID, SETTLE, Desk, at_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with at_desk(tmp_path) as made:
        yield made


def test_new_files_are_due_when_they_will_be_at_rest(desk: Desk) -> None:
    path = desk.write("e/r/models/m.pkl")
    desk.scan()
    file = desk.due()["e/r/models/m.pkl"]
    assert (file.dir, file.leaf) == ("models", "m.pkl")
    assert file.due_at == pytest.approx(path.stat().st_ctime + SETTLE, abs=0.01)


def test_a_second_look_at_the_same_finds_nothing(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.write("stray")
    os.mkfifo(desk.drop / "e" / "r" / "pipe")
    assert desk.scan() == 3
    assert desk.scan() == 0
    desk.deliver()
    assert desk.scan() == 0


def test_a_touched_and_a_changed_file_are_due_again_with_their_receipt(desk: Desk) -> None:
    path = desk.write("e/r/a")
    desk.scan()
    desk.deliver()
    os.utime(path)
    assert desk.scan() == 1
    assert desk.due()["e/r/a"].digest == b"d" * 32


def test_a_rewrite_of_the_same_size_with_its_old_mtime_is_seen(desk: Desk) -> None:
    path = desk.write("e/r/a", "aaaa")
    desk.scan()
    desk.deliver()
    before = path.stat()
    path.write_text("bbbb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    desk.scan()
    assert list(desk.due()) == ["e/r/a"]


def test_a_vanished_file_that_was_never_sent_is_forgotten_and_a_sent_one_is_remembered(desk: Desk) -> None:
    desk.write("e/r/sent")
    desk.scan()
    desk.deliver()
    desk.write("e/r/new")
    desk.scan()
    (desk.drop / "e/r/sent").unlink()
    (desk.drop / "e/r/new").unlink()
    desk.scan()
    assert desk.states() == {b"sent": State.STORED}
    assert desk.due() == {}


def test_a_vanished_folder_takes_what_was_due_below_it(desk: Desk) -> None:
    path = desk.write("e/r/deep/er/a")
    desk.scan()
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    desk.look(b"e/r/deep")
    assert desk.due() == {}


def test_a_changed_rule_is_a_reason_to_look_again(desk: Desk) -> None:
    desk.write("e/r/a.csv")
    desk.write("e/r/b.txt")
    desk.scan()
    desk.deliver()
    desk.rules(exclude=["*.txt"], routes=[Route("*.csv", "tables", "artifact")])
    desk.scan()
    assert desk.states() == {b"a.csv": State.DUE, b"b.txt": State.IGNORED}
    file = desk.due()["e/r/a.csv"]
    assert (file.dir, file.digest) == ("tables", None), "nothing is stored there yet"
    desk.deliver()
    assert desk.scan() == 0


def test_another_target_is_another_store(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.scan()
    desk.deliver()
    desk.rules(target="http://other")
    desk.scan()
    assert list(desk.due()) == ["e/r/a"]


def test_two_files_for_one_destination_are_a_failure_with_a_reason_and_never_an_overwrite(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    desk.write("e/r/a/x.png")
    desk.write("e/r/b/x.png")
    desk.write("e/r/plots/y.png")
    desk.scan()
    assert sorted(desk.due()) == ["e/r/a/x.png", "e/r/plots/y.png"]
    folder, _ = desk.ledger.folder(desk.root, b"e/r/b", create=False) or (0, "")
    assert desk.ledger.known_files(folder)[b"x.png"].kind == CLASH
    desk.deliver()
    desk.scan()
    assert desk.states(b"e/r/b") == {b"x.png": State.FAILED}, "what is stored is not overwritten later either"
    (desk.drop / "e/r/b/x.png").rename(desk.drop / "e/r/b/z.png")
    desk.scan()
    assert list(desk.due()) == ["e/r/b/z.png"]


@pytest.mark.parametrize("natural_first", [True, False])
def test_a_file_that_lies_where_a_route_brings_another_one_is_a_clash(desk: Desk, natural_first: bool) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    for rel in ("e/r/plots/x.png", "e/r/a/x.png")[:: 1 if natural_first else -1]:
        desk.write(rel)
        desk.scan()
        desk.deliver()
    states = [*desk.states(b"e/r/plots").values(), *desk.states(b"e/r/a").values()]
    assert states == ([State.STORED, State.FAILED] if natural_first else [State.FAILED, State.STORED])


def test_the_file_in_the_way_may_have_a_name_that_is_no_text(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    odd = os.fsencode(desk.drop) + b"/e/r/\xff"
    os.makedirs(odd)
    for folder in (odd, os.fsencode(desk.drop) + b"/e/r"):
        with open(folder + b"/x.png", "w"):
            pass
        desk.scan()
    assert desk.states()[b"x.png"] is State.FAILED


def test_a_clash_ends_when_the_other_gives_way(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    desk.write("e/r/a/x.png")
    desk.write("e/r/b/x.png")
    desk.scan()
    (desk.drop / "e/r/a/x.png").unlink()
    desk.scan()
    assert list(desk.due()) == ["e/r/b/x.png"]


def test_links_and_pipes_become_ignored_and_a_file_in_their_place_is_due(desk: Desk) -> None:
    desk.write("e/r/a")
    link = desk.drop / "e/r/link"
    link.symlink_to("/etc/hostname")
    desk.scan()
    assert desk.states() == {b"a": State.DUE, b"link": State.IGNORED}
    link.unlink()
    link.write_text("now a file")
    desk.scan()
    assert desk.states()[b"link"] is State.DUE
    link.unlink()
    link.symlink_to("/etc/hostname")
    desk.scan()
    assert desk.states()[b"link"] is State.IGNORED


def test_a_single_name_look_forgets_only_what_it_was_asked_for(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.write("e/r/b")
    desk.scan()
    (desk.drop / "e/r/a").unlink()
    (desk.drop / "e/r/b").unlink()
    desk.looker.apply(desk.fd, look(desk.fd, b"e/r", {b"a"}), time.time())
    desk.looker.forget_name(b"e/r", b"a")
    assert list(desk.due()) == ["e/r/b"]


def test_a_changed_file_that_was_away_for_a_moment_is_due_when_it_is_back(desk: Desk) -> None:
    path = desk.write("e/r/a")
    desk.scan()
    desk.deliver()
    path.write_text("other")
    desk.scan()
    assert desk.states() == {b"a": State.DUE}
    (desk.drop / "e" / "r").rename(desk.drop / "aside")
    desk.look(b"e/r")
    assert desk.states() == {b"a": State.STORED}, "the receipt of what was stored stays"
    (desk.drop / "aside").rename(desk.drop / "e" / "r")  # the file itself is as it was, to the last sign
    desk.scan()
    assert desk.states() == {b"a": State.DUE}, "its new content was never stored"
    assert desk.due()["e/r/a"].digest == b"d" * 32


def test_a_link_in_a_files_place_for_a_moment_does_not_keep_it_ignored(desk: Desk) -> None:
    path = desk.write("e/r/a")
    desk.scan()
    listing = look(desk.fd, b"e/r")
    desk.looker.apply(desk.fd, Listing(b"e/r", others={b"a": "symbolic link"}), time.time())
    assert desk.states() == {b"a": State.IGNORED}
    desk.looker.apply(desk.fd, listing, time.time())
    assert desk.states() == {b"a": State.DUE}
    assert path.exists()


def test_another_settle_reaches_what_waits(desk: Desk) -> None:
    path = desk.write("e/r/a")
    desk.scan()
    desk.rules(settle=60.0)
    desk.scan()
    assert desk.due_at("e/r/a") == pytest.approx(path.stat().st_ctime + 60, abs=0.01)


def test_what_comes_back_to_a_destination_is_asked_for_and_paced_anew(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.scan()
    desk.deliver()
    desk.rules(exclude=["a"])
    desk.scan()
    assert desk.states() == {b"a": State.IGNORED}
    desk.rules()
    desk.scan()
    file = desk.due()["e/r/a"]
    assert (file.digest, file.ask) == (None, True), "the store may hold it still"


def test_a_stored_file_that_became_a_folder_is_a_clash_and_so_is_a_folder_that_became_a_file(desk: Desk) -> None:
    desk.write("e/r/x")
    desk.write("e/r/y/inner")
    desk.scan()
    desk.deliver()
    (desk.drop / "e/r/x").unlink()
    desk.write("e/r/x/deep/inner")
    (desk.drop / "e/r/y/inner").unlink()
    (desk.drop / "e/r/y").rmdir()
    desk.write("e/r/y")
    desk.write("e/r/z")
    desk.scan()
    assert desk.states(b"e/r/x/deep") == {b"inner": State.FAILED}
    states = desk.states()
    assert (states[b"y"], states[b"z"]) == (State.FAILED, State.DUE)
    (desk.drop / "e/r/y").rename(desk.drop / "e/r/y2")
    desk.scan()
    assert desk.states()[b"y2"] is State.DUE


def test_a_folder_of_which_nothing_was_stored_is_in_nobodys_way(desk: Desk) -> None:
    desk.write("e/r/y/inner")
    desk.scan()
    (desk.drop / "e/r/y/inner").unlink()
    (desk.drop / "e/r/y").rmdir()
    desk.write("e/r/y")
    desk.look(b"e/r/y")
    desk.scan()
    assert desk.states()[b"y"] is State.DUE


def test_what_a_crash_left_in_the_middle_of_its_removal_is_told_at_each_look_and_never_due(desk: Desk) -> None:
    desk.write("e/r/.artifactd-removing.f")
    for _ in range(2):
        assert desk.looker.apply(desk.fd, look(desk.fd, b"e/r"), time.time()).aside == [b"e/r/.artifactd-removing.f"]
    assert desk.states() == {}


def test_a_look_at_one_name_under_other_rules_does_not_pass_for_one_at_the_whole_folder(desk: Desk) -> None:
    desk.write("e/r/d/a")
    desk.scan()
    desk.rules(exclude=["**/d/"])
    desk.looker.apply(desk.fd, look(desk.fd, b"e/r/d", [b"a"]), time.time())
    assert desk.states(b"e/r/d") == {b"a": State.IGNORED}
    desk.rules()
    desk.scan()
    assert desk.states(b"e/r/d") == {b"a": State.DUE}


def test_a_look_reads_no_table_from_end_to_end(desk: Desk) -> None:
    """With a million files each statement of a look must be served by an index: one that is not makes it quadratic."""
    for n in range(20):
        desk.write(f"e/r/d{n % 3}/f{n}")
    desk.scan()
    desk.deliver()
    said: list[str] = []
    connection = desk.ledger._con
    connection.set_trace_callback(said.append)
    desk.write("e/r/d1/new")
    desk.write("e/r/d1/f1", "changed")
    desk.looker.apply(desk.fd, look(desk.fd, b"e/r/d1"), time.time())
    desk.looker.apply(desk.fd, look(desk.fd, b"e/r/d1", [b"f1"]), time.time() + 1, repace=True)
    connection.set_trace_callback(None)
    assert len(said) > 10
    for statement in set(said):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [step for step in plan if step.startswith("SCAN")], (statement, plan)


def test_a_renamed_folder_of_an_adopted_run_keeps_what_is_stored(desk: Desk) -> None:
    desk.write("e/r/artifactd.toml", f'run_id = "{RUN_ID}"')
    desk.write("e/r/d/a")
    desk.scan()
    desk.deliver()
    (desk.drop / "e" / "r").rename(desk.drop / "e" / "r2")
    desk.scan()
    assert desk.states(b"e/r2/d") == {b"a": State.DUE}
    assert desk.due()["e/r2/d/a"].digest == b"d" * 32, "it is only compared, and not sent"
    assert desk.states(b"e/r/d") == {}


def test_another_file_in_the_place_of_one_that_is_gone_is_told_so(desk: Desk) -> None:
    for folder in ("r", "r2"):
        desk.write(f"e/{folder}/artifactd.toml", f'run_id = "{RUN_ID}"')
        desk.write(f"e/{folder}/a", folder)
        if folder == "r":
            desk.scan()
            desk.deliver()
            shutil.rmtree(desk.drop / "e" / "r")
    desk.scan()
    assert desk.states(b"e/r2") == {b"a": State.FAILED, b"artifactd.toml": State.FAILED}
    report = Report(desk.base)
    assert {"which is gone" in str(f.error) for f in report.files(states=(State.FAILED,))} == {True}
    report.close()


def test_a_watch_of_a_folder_within_takes_its_files_over(desk: Desk) -> None:
    desk.write("e/r/d/a")
    changes = desk.write("e/r/d/changes")
    desk.scan()
    desk.deliver()
    changes.write_text("other content")
    desk.watch_within("e", "{run}", experiment="e")
    desk.scan()
    assert desk.states(b"r/d") == {b"a": State.DUE, b"changes": State.DUE}
    assert {f.digest for f in desk.due().values()} == {b"d" * 32}, "what is as it was is compared, and not sent"
    assert desk.ledger._con.execute("SELECT count(*) FROM files").fetchone() == (2,), "nobody else is known there"


def test_a_second_name_of_a_file_is_no_renamed_one(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    first = desk.write("e/r/x/a.png")
    desk.scan()
    desk.deliver()
    (desk.drop / "e" / "r" / "y").mkdir()
    os.link(first, desk.drop / "e" / "r" / "y" / "a.png")
    desk.scan()
    assert desk.states(b"e/r/y") == {b"a.png": State.FAILED}


@pytest.mark.parametrize("fleet", [True, False])
def test_in_a_run_of_a_fleet_each_name_is_asked_for_first(desk: Desk, fleet: bool) -> None:
    desk.rules(fleet=fleet)
    desk.write("e/r/a")
    desk.scan()
    assert desk.due()["e/r/a"].name is (Name.STRANGE if fleet else Name.OURS)


def test_a_folder_that_comes_to_belong_to_a_fleet_owns_no_name_there(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.scan()
    desk.deliver()
    desk.rules(fleet=True)
    desk.scan()
    assert desk.due()["e/r/a"].name is Name.STRANGE


PARAMS = Route("*.json", None, "params")


def tell(desk: Desk, *, failure: Failure | None = None) -> None:
    """Deliver all that is due, as if the run had been told what it says, or could not be."""
    for run, _ in desk.ledger.runs_with_due():
        for f in desk.ledger.claim(run, time.time() + 100, 1000, 10**9):
            desk.ledger.delivered(f, b"d" * 32, size=f.signature.size, now=0, sent=True, due_again=0)
            if failure is None:
                desk.ledger.told(f, b"d" * 32, time.time())
            else:
                desk.ledger.not_told(f.id, failure, 0)


def test_a_kind_that_is_new_makes_a_stored_file_due_with_its_receipt(desk: Desk) -> None:
    desk.write("e/r/a.json")
    desk.write("e/r/b")
    desk.scan()
    desk.deliver()
    desk.rules(routes=[PARAMS])
    desk.scan()
    (file,) = desk.due().values()
    assert (file.rel, file.role, file.digest, file.told) == (b"e/r/a.json", "params", b"d" * 32, None)
    tell(desk)
    assert desk.scan() == 0
    desk.rules(routes=[Route("*.json", None, "dataset", context="training")])
    desk.scan()
    assert desk.due()["e/r/a.json"].told is None, "what was told of it as params says nothing of it as a dataset"
    with contextlib.closing(Report(desk.base)) as report:
        assert [(f.told_as, f.told_at) for f in report.files() if f.path.endswith(b"a.json")] == [(None, None)]


def test_what_could_not_be_told_is_failed_until_it_changes(desk: Desk) -> None:
    desk.rules(routes=[PARAMS])
    path = desk.write("e/r/a.json")
    desk.scan()
    tell(desk, failure=Failure(Kind.PERMANENT, Scope.FILE, "no", "mend it"))
    assert desk.states()[b"a.json"] is State.FAILED
    assert desk.scan() == 0
    path.write_text("other")
    desk.scan()
    assert desk.states()[b"a.json"] is State.DUE


def test_a_growing_metrics_file_is_due_for_its_news_between_two_uploads(desk: Desk) -> None:
    desk.rules(routes=[Route("*.csv", None, "metrics")])
    path = desk.write("e/r/m.csv", "step,loss\n0,1\n")
    desk.scan()
    assert desk.due()["e/r/m.csv"].growth is Growth.SNAPSHOT
    for run, _ in desk.ledger.runs_with_due():
        for f in desk.ledger.claim(run, time.time() + 100, 1000, 10**9):
            desk.ledger.was_sent(f.id, f.signature.size, time.time(), in_a_row=1)
            desk.ledger.delivered(f, b"d" * 32, size=f.signature.size, now=0, sent=True, due_again=0)
            desk.ledger.told(f, b"d" * 32, time.time())
    with path.open("a") as stream:
        stream.write("1,2\n")
    desk.scan()
    file = desk.due()["e/r/m.csv"]
    assert (file.growth, file.told) == (Growth.NEWS, b"d" * 32)
    assert 10 < file.due_at - time.time() <= NEWS_EVERY
    desk.write("e/r/.done")
    desk.scan()
    assert desk.due()["e/r/m.csv"].growth is Growth.QUIET, "the end is sent, and told with it"
