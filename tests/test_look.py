"""Looks at real folders, against a real ledger: what they make due, and what they leave alone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from artifactd.layout import Layout, Route
from artifactd.ledger import DueFile, Ledger, Report, Run, State
from artifactd.ledger.looks import CLASH
from artifactd.look import Looker
from artifactd.runs import NOTE_TAG, Place
from artifactd.watching.inside import open_root
from artifactd.watching.scan import Listing, look, walk

SETTLE = 5.0


class Desk:
    """A drop folder, its ledger, and looks at it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.drop = base / "drop"
        self.drop.mkdir()
        self.ledger = Ledger(base)
        self.root = self.ledger.use_roots([os.fsencode(self.drop)])[os.fsencode(self.drop)]
        self.fd = open_root(os.fsencode(self.drop))
        self.rules()

    def rules(
        self, *, exclude: Sequence[str] = (), routes: Sequence[Route] = (), template: str = "{experiment}/{run}",
        host: str = "h1", target: str = "http://m", fleet: bool = False, **constants: str,
    ) -> None:  # fmt: skip
        layout = Layout(template, constants=constants, include=["**"], exclude=exclude, live=[], routes=routes)
        self.looker = Looker(self.ledger, self.root, os.fsencode(self.drop), layout, SETTLE, Place(target, host, fleet))

    def write(self, rel: str, content: str = "x") -> Path:
        path = self.drop / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def scan(self, now: float | None = None) -> int:
        changed = 0
        with self.ledger.transaction():
            for listing in walk(self.fd):
                changed += self.looker.apply(self.fd, listing, now or time.time()).changed
        return changed

    def look(self, rel: bytes) -> None:
        self.looker.apply(self.fd, look(self.fd, rel), time.time())

    def due(self) -> dict[str, DueFile]:
        """What would be handed out when everything has come to rest; handed back at once."""
        later = time.time() + 100
        files = [f for run, _ in self.ledger.runs_with_due() for f in self.ledger.claim(run, later, 1000, 10**9)]
        for f in files:
            self.ledger.put_back(f.id)
        return {os.fsdecode(f.rel): f for f in files}

    def due_at(self, rel: str) -> float:
        folder, name = os.path.split(os.fsencode(rel))
        ident, _ = self.ledger.folder(self.root, folder, create=False) or (0, "")
        query = "SELECT due_at FROM files WHERE folder = ? AND name = ?"
        return float(self.ledger._con.execute(query, (ident, name)).fetchone()[0])

    def deliver(self) -> None:
        later = time.time() + 100
        for run, _ in self.ledger.runs_with_due():
            for f in self.ledger.claim(run, later, 1000, 10**9):
                self.ledger.delivered(f, b"d" * 32, size=f.signature.size, now=0, sent=True, due_again=0)

    def states(self, rel: bytes = b"e/r") -> dict[bytes, State]:
        folder, _ = self.ledger.folder(self.root, rel, create=True) or (0, "")
        return {name: known.state for name, known in self.ledger.known_files(folder).items()}

    def runs(self) -> list[Run]:
        return [self.ledger.run(run) for run, _ in self.ledger.runs_with_due()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    os.close(made.fd)
    made.ledger.close()


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


def test_a_clash_ends_when_the_other_gives_way(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    desk.write("e/r/a/x.png")
    desk.write("e/r/b/x.png")
    desk.scan()
    (desk.drop / "e/r/a/x.png").unlink()
    desk.scan()
    assert list(desk.due()) == ["e/r/b/x.png"]


def test_folder_identity_is_stable_and_differs_by_folder_host_and_target(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.write("e/r2/a")
    desk.scan()
    first, second = (r.identity for r in desk.runs())
    assert first != second
    desk.rules()
    desk.write("e/r/b")
    desk.scan()
    assert [r.identity for r in desk.runs()] == [first, second]
    desk.rules(host="h2")
    desk.scan()
    assert not {r.identity for r in desk.runs()} & {first, second}


def test_a_fleet_shares_the_identity_whatever_the_host(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.rules(fleet=True, host="h1")
    desk.scan()
    (first,) = (r.identity for r in desk.runs())
    desk.rules(fleet=True, host="h2")
    desk.scan()
    assert [r.identity for r in desk.runs()] == [first]


def test_names_beyond_experiment_and_run_become_tags(desk: Desk) -> None:
    desk.rules(template="{user}/{experiment}/{run}")
    desk.write("ana/vision/r1/a")
    desk.scan()
    (run,) = desk.runs()
    assert (run.experiment, run.name, run.tags["artifactd.user"]) == ("vision", "r1", "ana")
    assert run.tags["artifactd.path"] == str(desk.drop / "ana/vision/r1")


RUN_ID = "0123456789abcdef" * 2


def test_settings_of_the_run_folder(desk: Desk) -> None:
    desk.write("e/r/artifactd.toml", 'name = "n"\ndescription = "d"\n[tags]\nteam = "x"\n[params]\nlr = 1\n')
    desk.write("e/r/sub/a")
    desk.look(b"e/r/sub")  # the deeper folder first: the settings are read all the same
    (run,) = desk.runs()
    assert (run.name, run.tags[NOTE_TAG], run.tags["team"], run.settings["params"]) == ("n", "d", "x", {"lr": "1"})


def test_a_run_that_is_adopted_later_takes_all_files_along(desk: Desk) -> None:
    desk.write("e/r/sub/a")
    desk.scan()
    desk.deliver()
    desk.write("e/r/artifactd.toml", f'run_id = "{RUN_ID}"\n')
    with desk.ledger.transaction():
        seen = desk.looker.apply(desk.fd, look(desk.fd, b"e/r"), time.time())
    assert seen.look_deep == [b"e/r"]
    desk.scan()
    assert sorted(desk.due()) == ["e/r/artifactd.toml", "e/r/sub/a"]
    assert {r.identity for r in desk.runs()} == {f"run:{RUN_ID}"}
    assert {file.digest for file in desk.due().values()} == {None}
    receipts = desk.ledger._con.execute("SELECT count(*) FROM files WHERE digest IS NOT NULL").fetchone()
    assert receipts == (0,), "what another run holds is no receipt for this one"


def test_a_folder_named_by_a_run_id_is_that_run(desk: Desk) -> None:
    desk.write(f"e/{RUN_ID}/a")
    desk.scan()
    assert [r.identity for r in desk.runs()] == [f"run:{RUN_ID}"]


def test_wrong_settings_hold_the_folder_back_until_mended(desk: Desk) -> None:
    desk.write("e/r/artifactd.toml", 'nmae = "typo"\n')
    desk.write("e/r/sub/a")
    desk.scan()
    assert desk.due() == {}
    assert desk.states(b"e/r/sub") == {b"a": State.FAILED}
    desk.write("e/r/artifactd.toml", 'name = "right"\n')
    with desk.ledger.transaction():
        assert desk.looker.apply(desk.fd, look(desk.fd, b"e/r"), time.time()).look_deep == [b"e/r"]
    desk.scan()
    assert sorted(desk.due()) == ["e/r/artifactd.toml", "e/r/sub/a"]


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


def test_another_settle_reaches_what_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.write("e/r/a")
    desk.scan()
    monkeypatch.setitem(globals(), "SETTLE", 60.0)
    desk.rules()
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


def test_settings_of_a_run_that_exists_are_taken_from_a_file_at_rest(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.scan()
    (run,) = desk.runs()
    desk.ledger.set_run_id(run.id, "r1", "RUNNING", run.settings_text)
    path = desk.write("e/r/artifactd.toml", "[params]\nlr = 0.0")
    written = path.stat().st_ctime
    desk.scan(written + 1)
    assert [r.id for r in desk.ledger.runs_to_update("http://m")] == [], (
        "MLflow never lets a param change, and this one is half written"
    )
    desk.scan(written + SETTLE + 0.01)
    assert [r.id for r in desk.ledger.runs_to_update("http://m")] == [run.id]
    assert desk.ledger.run(run.id).settings["params"] == {"lr": "0.0"}


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


def test_a_second_name_of_a_file_is_no_renamed_one(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact")])
    first = desk.write("e/r/x/a.png")
    desk.scan()
    desk.deliver()
    (desk.drop / "e" / "r" / "y").mkdir()
    os.link(first, desk.drop / "e" / "r" / "y" / "a.png")
    desk.scan()
    assert desk.states(b"e/r/y") == {b"a.png": State.FAILED}
