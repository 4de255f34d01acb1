"""A checkpoint's marker, looked at by hand: held back while the rest is not stored, given up, judged anew."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactd.checkpoints import REST, Checkpoint
from artifactd.errors import Failure, Kind, Scope
from artifactd.explain import checkpoint_note
from artifactd.layout import Route
from artifactd.ledger import DueFile, Growth, Report, State
from artifactd.pace import GIVE_UP, GIVE_UP_ENDED, LOOK_AGAIN
from artifactd.runfolder import MARKERS
from artifactd.watching.scan import look
from desk import SETTLE, Desk, at_desk

MARKER = "e/r/c-1/last"
RULES = (Checkpoint("**/c-*/last", (("model*", "weights*"),)),)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with at_desk(tmp_path) as made:
        made.rules(checkpoints=RULES)
        yield made


def save(desk: Desk, *names: str, folder: str = "e/r/c-1") -> None:
    for name in (*names, "last"):
        desk.write(f"{folder}/{name}", name)


def row(desk: Desk, rel: str = MARKER) -> tuple[State, str, float]:
    """State, reason and time of a file."""
    folder, _, name = rel.rpartition("/")
    state, error, due_at = desk.ledger._con.execute(
        "SELECT f.state, f.error, f.due_at FROM files f JOIN folders d ON d.id = f.folder WHERE d.rel = ? AND name = ?",
        (folder.encode(), name.encode()),
    ).fetchone()
    return State(state), error or "", due_at or 0.0


def claim(desk: Desk, later: float = SETTLE + 1) -> dict[str, DueFile]:
    """As the dispatcher does: what is due is looked at once more, and then taken."""
    now = time.time() + later
    found: dict[str, DueFile] = {}
    for run, _ in desk.ledger.runs_with_due():
        for folder, name in desk.ledger.peek(run, now, 1000):
            desk.looker.apply(desk.fd, look(desk.fd, folder, [name]), now, repace=True)
        found |= {os.fsdecode(f.rel): f for f in desk.ledger.claim(run, now, 1000, 10**9)}
    return found


def store(desk: Desk, *files: DueFile) -> list[bytes]:
    """Takes receipts, and looks at the markers that waited for them, as the watch does; gives these."""
    ready = []
    for file in files:
        desk.ledger.delivered(file, b"d" * 32, size=file.signature.size, now=1, sent=True, due_again=0)
        ready += desk.looker.checkpoints.stored(file.rel)
    for marker in ready:
        folder, _, name = marker.rpartition(b"/")
        desk.looker.apply(desk.fd, look(desk.fd, folder, [name]), time.time())
    return ready


def test_a_marker_goes_when_all_the_others_are_stored(desk: Desk) -> None:
    save(desk, "config", "model", "deep/model-2")
    desk.scan()
    assert row(desk)[:2] == (State.DUE, f"{REST}: 3 files to be stored")
    files = claim(desk)
    assert files.keys() == {"e/r/c-1/config", "e/r/c-1/model", "e/r/c-1/deep/model-2"}
    first, second, third = files.values()
    assert store(desk, first, second) == []
    assert claim(desk, 2 * LOOK_AGAIN) == {}
    assert row(desk)[1] == f"{REST}: 1 file to be stored"
    assert store(desk, third) == [MARKER.encode()], "it need not wait for its next look"
    assert row(desk)[:2] == (State.DUE, "")
    assert row(desk)[2] <= time.time() + SETTLE
    assert claim(desk).keys() == {MARKER}


def test_a_claim_never_takes_what_is_held_back_even_if_no_look_came_first(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    for run, _ in desk.ledger.runs_with_due():
        assert [f.rel for f in desk.ledger.claim(run, time.time() + 1e6, 1000, 10**9)] == [b"e/r/c-1/model"]


def test_a_service_that_starts_anew_knows_what_a_marker_waits_for(desk: Desk) -> None:
    save(desk, "model", "optimizer")
    desk.scan()
    files = claim(desk)
    store(desk, files.pop("e/r/c-1/model"))
    desk.ledger.recover()  # what was under way is due again
    desk.rules(checkpoints=RULES)
    assert row(desk)[2] <= time.time() + SETTLE + 1 + LOOK_AGAIN, "it is looked at without a scan"
    later = SETTLE + 1 + LOOK_AGAIN
    files = claim(desk, later)
    assert files.keys() == {"e/r/c-1/optimizer"}
    assert store(desk, *files.values()) == [MARKER.encode()]
    assert claim(desk, 2 * later).keys() == {MARKER}


def test_a_file_that_changes_before_the_marker_is_taken_holds_it_again(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    store(desk, *claim(desk).values())
    assert row(desk)[1] == ""
    desk.write("e/r/c-1/model", "another")
    assert claim(desk) == {}, "no look has seen the change but that of the marker itself"
    assert row(desk)[1] == f"{REST}: 1 file to be stored"


def test_a_checkpoint_that_is_written_anew_waits_anew(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    store(desk, *claim(desk).values())
    store(desk, *claim(desk).values())
    assert row(desk)[0] is State.STORED
    desk.write("e/r/c-1/model", "trained again")
    desk.write(MARKER, "again")
    desk.scan()
    assert row(desk)[:2] == (State.DUE, f"{REST}: 1 file to be stored")
    store(desk, *claim(desk).values())
    assert claim(desk).keys() == {MARKER}


def test_a_half_deleted_checkpoint_is_given_up_after_long_quiet(desk: Desk) -> None:
    save(desk, "config")
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk) == {}
    assert row(desk)[1] == f"{REST}, which lacks model*"
    assert claim(desk, GIVE_UP - 2) == {}
    assert claim(desk, GIVE_UP + 2).keys() == {MARKER}


def test_and_sooner_once_the_run_is_over(desk: Desk) -> None:
    save(desk, "config")
    desk.write("e/r/.done")
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk, GIVE_UP_ENDED - 2) == {}
    assert claim(desk, GIVE_UP_ENDED + 2).keys() == {MARKER}


def test_what_is_still_to_be_stored_is_waited_for_however_long_it_takes(desk: Desk) -> None:
    save(desk, "model")
    desk.write("e/r/.done")
    desk.scan()
    files = claim(desk)
    assert MARKER not in files
    assert claim(desk, 100 * GIVE_UP) == {}, "the store is slow: the model is under way"


def test_so_is_what_a_person_must_see_to(desk: Desk) -> None:
    save(desk, "model", "optimizer")
    desk.scan()
    files = claim(desk)
    failure = Failure(Kind.PERMANENT, Scope.FILE, "it may not be read", "chmod")
    desk.ledger.not_delivered(files["e/r/c-1/model"].id, failure, 0, touched=False)
    store(desk, files["e/r/c-1/optimizer"])
    assert claim(desk, 100 * GIVE_UP) == {}
    assert row(desk)[1] == f"{REST}: model cannot be stored"


def test_a_file_that_went_while_the_marker_stood_is_missed(desk: Desk) -> None:
    """Rotation begins with what is not needed to load the model, and training is killed in the middle of it."""
    save(desk, "model", "optimizer")
    desk.scan()
    store(desk, claim(desk)["e/r/c-1/model"])
    (desk.drop / "e/r/c-1/optimizer").unlink()
    desk.scan()
    assert claim(desk, SETTLE + 1 + LOOK_AGAIN) == {}
    assert row(desk)[1] == f"{REST}, which lacks optimizer"


def test_one_that_was_renamed_is_not(desk: Desk) -> None:
    save(desk, "model", "some.part")
    desk.scan()
    store(desk, claim(desk)["e/r/c-1/model"])
    (desk.drop / "e/r/c-1/some.part").rename(desk.drop / "e/r/c-1/some")
    desk.scan()
    store(desk, claim(desk)["e/r/c-1/some"])
    assert claim(desk).keys() == {MARKER}


def test_growing_files_and_the_runs_own_do_not_count(desk: Desk) -> None:
    desk.rules(
        checkpoints=(Checkpoint("last", (("model",),)),), live=["**/events*"],
        routes=[Route("loss.csv", None, "metrics"), Route("other", None, "artifact")],
    )  # fmt: skip
    save(desk, "model", "events.1", "loss.csv", ".done", "artifactd.toml", folder="e/r")
    (desk.drop / "e/r/artifactd.toml").write_text("")
    desk.scan()
    assert row(desk, "e/r/last")[1] == f"{REST}: 1 file to be stored"


def test_what_a_marker_says_may_be_told_while_it_is_held_back(desk: Desk) -> None:
    desk.rules(checkpoints=RULES, routes=[Route("**/last", None, "metrics")])
    save(desk, "model")
    desk.scan()
    marker = claim(desk)[MARKER]
    assert marker.growth is Growth.NEWS, "nothing of it is sent, though it is the first that is taken"
    desk.ledger.put_back(marker.id)
    desk.ledger.told(marker, b"mark", time.time() + SETTLE + 1)
    desk.ledger.recover()
    files = claim(desk)
    assert files.keys() == {"e/r/c-1/model"}
    assert row(desk)[1] == f"{REST}: 1 file to be stored"
    store(desk, *files.values())
    assert [f.growth for f in claim(desk).values()] == [Growth.NONE]


def test_of_two_markers_in_a_folder_none_waits_for_the_other(desk: Desk) -> None:
    desk.rules(checkpoints=(*RULES, Checkpoint("**/c-*/.metadata", (("model",),))))
    save(desk, "model", ".metadata")
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk).keys() == {MARKER, "e/r/c-1/.metadata"}


def test_what_the_rules_leave_out_is_not_waited_for(desk: Desk) -> None:
    desk.rules(checkpoints=RULES, exclude=["**/model"])
    save(desk, "model", "config")
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk).keys() == {MARKER}


def test_what_was_removed_once_it_was_stored_is_there(desk: Desk) -> None:
    desk.rules(checkpoints=RULES, removes=True)
    save(desk, "model", "optimizer")
    desk.scan()
    files = claim(desk)
    store(desk, files["e/r/c-1/model"])
    (desk.drop / "e/r/c-1/model").unlink()
    desk.scan()
    assert row(desk)[1] == f"{REST}: 1 file to be stored"
    store(desk, files["e/r/c-1/optimizer"])
    (desk.drop / "e/r/c-1/optimizer").unlink()
    desk.scan()
    assert claim(desk).keys() == {MARKER}


def test_and_what_changed_and_went_before_it_was_sent_is_not(desk: Desk) -> None:
    desk.rules(checkpoints=RULES, removes=True)
    save(desk, "model")
    desk.scan()
    store(desk, *claim(desk).values())
    desk.write("e/r/c-1/model", "trained again")
    desk.scan()
    (desk.drop / "e/r/c-1/model").unlink()
    desk.scan()
    assert claim(desk) == {}
    assert "which lacks model" in row(desk)[1]


def test_a_marker_whose_upload_a_crash_ended_is_judged_anew(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk).keys() == {MARKER}
    desk.ledger.recover()
    desk.rules(checkpoints=RULES)
    desk.write("e/r/c-1/model", "trained again while nothing ran")
    assert claim(desk) == {}
    desk.scan()
    store(desk, *claim(desk).values())
    assert claim(desk).keys() == {MARKER}


def test_a_run_that_is_abandoned_does_not_wait_for_a_marker_that_nothing_releases(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    ((run, _),) = desk.ledger.runs_with_due()
    desk.ledger.set_run_id(run, "f" * 32, "RUNNING", desk.ledger.run(run).settings_text)
    desk.ledger.abandon(run, time.time(), "quiet")
    assert desk.ledger.runs_to_end(dict(MARKERS)) == [], "the model is due"
    failure = Failure(Kind.PERMANENT, Scope.FILE, "it may not be read", "chmod")
    desk.ledger.not_delivered(claim(desk)["e/r/c-1/model"].id, failure, 0, touched=False)
    ((row_id, end),) = desk.ledger.runs_to_end(dict(MARKERS))
    assert (row_id.id, end.status) == (run, "KILLED")


def test_a_failing_marker_keeps_its_next_try(desk: Desk) -> None:
    save(desk, "model")
    desk.scan()
    store(desk, *claim(desk).values())
    (marker,) = claim(desk).values()
    again = time.time() + 50
    desk.ledger.not_delivered(marker.id, Failure(Kind.TRANSIENT, Scope.FILE, "no", "wait"), again, touched=True)
    desk.scan()
    assert row(desk) == (State.DUE, "no", again)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("model",), "Its checkpoint is whole"),
        (("config",), "Its checkpoint is not whole in the store: it lacks model*"),
    ],
)
def test_a_stored_marker_tells_of_its_checkpoint(desk: Desk, names: tuple[str, ...], said: str) -> None:
    save(desk, *names)
    desk.write("e/r/c-10/model")
    desk.scan()
    store(desk, *claim(desk).values())
    store(desk, *claim(desk, GIVE_UP + 2).values())
    report = Report(desk.base)
    root = os.fsencode(desk.drop)

    def of(name: bytes) -> Any:
        file = report.file(root, b"e/r/c-1", name)
        assert file is not None
        return checkpoint_note(report, desk.layout, root, file)

    assert of(b"last") == said
    assert of(names[0].encode()) == ""
    report.close()
