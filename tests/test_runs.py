"""What run folders say of themselves, and what the ledger then holds of their runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import State
from artifactd.runs import NOTE_TAG, began
from artifactd.watching.scan import look
from artifactd.watching.signature import Signature
from desk import RUN_ID, SETTLE, Desk, at_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with at_desk(tmp_path) as made:
        yield made


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


def test_a_restored_folder_is_the_run_that_its_note_says_and_the_note_goes_nowhere(desk: Desk) -> None:
    desk.write("e/r/artifactd.toml", 'name = "n"\n')
    desk.write("e/r/.artifactd-run", f"{RUN_ID}\n")
    desk.write("e/r/a")
    desk.scan()
    assert [r.identity for r in desk.runs()] == [f"run:{RUN_ID}"]
    assert sorted(desk.due()) == ["e/r/a", "e/r/artifactd.toml"]
    desk.write("e/r/.artifactd-run", "no id\n")
    desk.scan()
    assert "run:" not in desk.runs()[-1].identity, "it is a folder as any other"
    desk.write("e/r/artifactd.toml", f'run_id = "{RUN_ID[::-1]}"\n')
    desk.write("e/r/.artifactd-run", f"{RUN_ID}\n")
    desk.scan()
    assert desk.runs()[-1].identity == f"run:{RUN_ID[::-1]}", "what the user says comes first"


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


def test_a_readme_is_the_runs_description(desk: Desk) -> None:
    desk.write("e/r/README.md", "# Larger crops\n")
    desk.scan()
    (run,) = desk.runs()
    assert run.tags[NOTE_TAG] == "# Larger crops"
    desk.write("e/r/artifactd.toml", 'description = "mine"\n')
    desk.scan()
    assert desk.runs()[0].tags[NOTE_TAG] == "mine", "what is said on purpose goes first"


def test_a_readme_that_changes_is_told_once_it_is_at_rest(desk: Desk) -> None:
    desk.write("e/r/README.md", "one")
    desk.scan()
    (run,) = desk.runs()
    desk.ledger.set_run_id(run.id, RUN_ID, "RUNNING", run.settings_text)
    desk.deliver()
    desk.write("e/r/README.md", "other")
    desk.scan()
    assert desk.ledger.run(run.id).tags[NOTE_TAG] == "one"
    desk.scan(time.time() + SETTLE + 1)
    assert desk.ledger.run(run.id).tags[NOTE_TAG] == "other"


def test_a_readme_says_nothing_of_a_run_that_is_adopted_or_where_it_is_not_delivered(desk: Desk) -> None:
    desk.write("e/r/README.md", "one")
    desk.write("e/r/artifactd.toml", f'run_id = "{RUN_ID}"\n')
    desk.write("e/below/sub/README.md", "of a part")
    desk.scan()
    assert [NOTE_TAG in run.tags for run in desk.runs()] == [False, False]
    desk.rules(exclude=["*.md"])
    desk.write("e/r2/README.md", "two")
    desk.write("e/r2/a")
    desk.scan()
    assert not any(NOTE_TAG in run.tags for run in desk.runs())


def test_what_a_run_folder_says_of_its_end_is_in_the_ledger(desk: Desk) -> None:
    desk.write("e/r/a")
    desk.scan()
    (run,) = desk.runs()
    desk.ledger.set_run_id(run.id, RUN_ID, "RUNNING", run.settings_text)
    desk.deliver()
    marker = desk.write("e/r/.done", "")
    desk.scan()
    desk.deliver()
    ((_, end),) = desk.ledger.runs_to_end({b".done": "FINISHED"})
    assert (end.status, end.at) == ("FINISHED", marker.stat().st_mtime_ns // 1_000_000)
    marker.write_text("3\n")  # and this is known as soon as it is seen
    desk.look(b"e/r")
    desk.deliver()
    ((_, end),) = desk.ledger.runs_to_end({b".done": "FINISHED"})
    assert (end.status, end.reason) == ("FAILED", "exit code 3")
    marker.unlink()
    desk.look(b"e/r")
    assert desk.ledger.runs_to_end({b".done": "FINISHED"}) == []


def test_a_run_begins_with_its_folder_and_not_with_what_was_copied_there(desk: Desk) -> None:
    before = time.time()
    path = desk.write("e/r/data.csv")
    os.utime(path, (1e9, 1e9))
    desk.scan()
    (run,) = desk.runs()
    at = desk.ledger.began(run.id)
    assert at is not None
    assert before - 1 < at / 1000 <= time.time()


def test_of_a_tree_that_was_restored_the_end_is_known(desk: Desk) -> None:
    desk.write("e/r/a")
    os.utime(desk.write("e/r/.done"), (1e9, 1e9))
    desk.scan()
    assert [desk.ledger.began(run.id) for run in desk.runs()] == [1_000_000_000_000]


def test_the_watched_folder_itself_is_no_jobs_so_its_files_say_when_its_run_began(desk: Desk) -> None:
    desk.rules(template=".", experiment="e", run="r")
    first = desk.write("a")
    desk.write("b")
    desk.scan()
    assert [desk.ledger.began(run.id) for run in desk.runs()] == [first.stat().st_ctime_ns // 1_000_000]


def test_no_begin_is_in_the_future_or_before_1970() -> None:
    late = [Signature(1, 1, int(5e18), 1)]
    assert began(-1, b"", late, None, 100.0) == 100.0
    assert began(-1, b"", late, -5.0, 100.0) > 0
    assert began(-1, b"nowhere", (), None, 100.0) == 100.0


def test_a_run_is_nested_in_that_of_the_folder_above(desk: Desk) -> None:
    desk.rules(template="{experiment}/{parent}/{run}")
    desk.write("e/sweep/t1/sub/a")
    desk.look(b"e/sweep/t1/sub")  # the deepest first
    (child,) = desk.runs()
    parent, nests = desk.ledger.nesting(child.id)
    assert parent is not None
    assert not nests
    above = desk.ledger.run(parent)
    assert (above.name, above.folder, above.experiment) == ("sweep", b"e/sweep", "e")
    assert desk.ledger.nesting(parent) == (None, True)
    assert child.tags["artifactd.parent"] == "sweep"
    desk.write("e/sweep/plan")
    desk.scan()
    assert {r.id for r in desk.runs()} == {child.id, parent}


def test_a_sweep_that_adopts_a_run_takes_its_runs_along(desk: Desk) -> None:
    desk.rules(template="{experiment}/{parent}/{run}")
    desk.write("e/sweep/t1/a")
    desk.scan()
    (child,) = desk.runs()
    first, _ = desk.ledger.nesting(child.id)
    desk.write("e/sweep/artifactd.toml", f'run_id = "{RUN_ID}"\n')
    desk.scan()
    second, _ = desk.ledger.nesting(child.id)
    assert second not in (None, first)
    assert desk.ledger.run(second or 0).identity == f"run:{RUN_ID}"


@pytest.mark.parametrize("says", ["artifactd.toml", ".artifactd-run"])
def test_a_run_that_is_adopted_is_nested_where_its_maker_has_it(says: str, desk: Desk) -> None:
    """As in a restored folder: no run is made for the folder above it, nor is it nested in another."""
    desk.rules(template="{experiment}/{parent}/{run}")
    desk.write(f"e/sweep/t1/{says}", f'run_id = "{RUN_ID}"\n' if says.endswith("toml") else f"{RUN_ID}\n")
    desk.write("e/sweep/t1/a")
    desk.scan()
    (child,) = desk.runs()
    assert child.identity == f"run:{RUN_ID}"
    assert desk.ledger.nesting(child.id) == (None, False)


def test_what_is_wrong_in_a_sweep_holds_its_runs_back_until_mended(desk: Desk) -> None:
    desk.rules(template="{experiment}/{parent}/{run}")
    desk.write("e/sweep/artifactd.toml", "nmae = 1\n")
    desk.write("e/sweep/t1/a")
    desk.scan()
    assert desk.due() == {}
    desk.write("e/sweep/artifactd.toml", 'name = "right"\n')
    desk.scan()
    assert sorted(desk.due()) == ["e/sweep/artifactd.toml", "e/sweep/t1/a"]
