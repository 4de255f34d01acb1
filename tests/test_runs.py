"""What run folders say of themselves, and what the ledger then holds of their runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import State
from artifactd.runs import NOTE_TAG
from artifactd.watching.scan import look
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
