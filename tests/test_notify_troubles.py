"""What is wrong, from what the ledger says and the free space."""

from __future__ import annotations

import shlex

import pytest

from artifactd.config import NotifyConfig
from artifactd.errors import Kind
from artifactd.ledger import Blockage, WatchView
from artifactd.ledger.needs import FailedFiles, Late, Needs
from artifactd.notify.troubles import TRIES, Disk, Trouble, find, still_waiting

NOW = 1_000_000.0
GIB = 2**30
PLENTY = Disk("/state", 50 * GIB, 100 * GIB)


def found(
    needs: Needs, disk: Disk | None = PLENTY, waiting: dict[str, float] | None = None, **config: object
) -> list[Trouble]:
    return sorted(find(needs, disk, NotifyConfig.model_validate(config), waiting or {}, NOW), key=lambda t: t.place)


def test_nothing_is_wrong() -> None:
    watch = WatchView(b"/d", "events", True, "3 overflows mended by scans")
    assert found(Needs(watches=(watch,))) == []
    assert found(Needs(), None) == []


def test_failed_files_are_one_trouble_for_each_folder() -> None:
    one = FailedFiles(b"/d/e/one", 1, b"/d/e/one/a", "it cannot be read", "Give it access")
    two = FailedFiles(b"/d/e/two", 7, b"/d/e/two/b", "the run was deleted", "`artifactd retry` makes it anew")
    again = FailedFiles(b"/d/e/two", 2, b"/d/e/two/c", "older", "")
    first, second = found(Needs(failed=(one, two, again)))
    assert (first.key, first.weight) == (("failure", "/d/e/one"), 1)
    assert first.detail == "/d/e/one/a: it cannot be read"
    assert first.next_step == "Give it access; then `artifactd retry /d/e/one`"
    assert (second.key, second.weight) == (("failure", "/d/e/two"), 9)
    assert second.detail.startswith("9 files failed, /d/e/two/b among them")
    assert found(Needs(failed=(two,)))[0].next_step == two.cure, "it is said there already"
    clash = FailedFiles(b"/d/e/one", 1, b"/d/e/one/a", "its place is taken", "Rename one of the two", needs_retry=False)
    assert found(Needs(failed=(clash,)))[0].next_step == "Rename one of the two", "a retry would do nothing"


def test_a_command_can_be_pasted_whatever_a_folder_is_called() -> None:
    one = FailedFiles(b"/d/e/my run; $(reboot)", 1, b"/d/e/my run; $(reboot)/a", "it cannot be read", "")
    late = Late(b"/d", b"/d/e/it's `late`", NOW - 7300)
    lag, failure = found(Needs(failed=(one,), late=(late,)), waiting={"/d": 0.0})
    command = failure.next_step.partition("then ")[2].strip("`")
    assert shlex.split(command) == ["artifactd", "retry", "/d/e/my run; $(reboot)"]
    assert shlex.split(lag.next_step.removesuffix(" says what it waits for")[1:-1])[-1] == "/d/e/it's `late`"


def test_a_line_names_nothing_twice() -> None:
    one = FailedFiles(b"/d/e/one", 1, b"/d/e/one/a", "it cannot be read", "")
    many = FailedFiles(b"/d/e/many", 7, b"/d/e/many/b", "it cannot be read", "")
    server = Blockage(Kind.PAUSED, "http://mlflow cannot be reached", "", 1, 0.0)
    lines = [trouble.line for trouble in found(Needs(failed=(one, many), targets={"http://mlflow": server}))]
    assert lines == [
        "paused: http://mlflow cannot be reached [AD101]",
        "failure: /d/e/many: 7 files failed, /d/e/many/b among them: it cannot be read",
        "failure: /d/e/one/a: it cannot be read",
    ]


def test_a_server_that_refuses_is_told_at_once_and_one_that_is_away_when_it_stays_so() -> None:
    def held(kind: Kind, attempts: int) -> Needs:
        block = Blockage(kind, "http://mlflow cannot be reached", "", attempts, 0.0)
        return Needs(targets={"http://mlflow": block}, runs={b"/d/e/r": block})

    server, run = sorted(found(held(Kind.PAUSED, 1)), key=lambda t: t.subject, reverse=True)
    assert (server.key, run.key) == (("paused", "http://mlflow"), ("paused", "/d/e/r"))
    assert server.detail == "http://mlflow cannot be reached [AD101]"
    assert server.next_step, "there is always one"
    assert found(held(Kind.TRANSIENT, TRIES - 1)) == []
    assert len(found(held(Kind.TRANSIENT, TRIES))) == 2


def test_a_run_that_cannot_be_ended_is_a_failure() -> None:
    block = Blockage(Kind.PERMANENT, "the server does not end it", "", 1, 0.0)
    (trouble,) = found(Needs(runs={b"/d/e/r": block}))
    assert trouble.key == ("failure", "/d/e/r")
    assert trouble.next_step == "See to the reason; then `artifactd retry /d/e/r`"


def test_what_waits_for_longer_than_the_limit() -> None:
    needs = Needs(late=(Late(b"/d", b"/d/e/r/a", NOW - 7300),))
    (trouble,) = found(needs, waiting={"/d": NOW - 9000})
    assert trouble.key == ("lag", "/d")
    assert trouble.detail == "/d/e/r/a has been waiting for 2h1m, more than 1h"
    assert trouble.next_step == "`artifactd explain /d/e/r/a` says what it waits for"
    assert found(needs, waiting={"/d": NOW - 9000}, lag="3h") == []


def test_a_file_that_was_old_when_it_was_found_is_not_late() -> None:
    needs = Needs(late=(Late(b"/d", b"/d/e/r/a", 0.0),))
    waiting = still_waiting({}, needs, NOW)
    assert waiting == {"/d": NOW}
    assert found(needs, waiting=waiting) == []
    assert still_waiting(waiting, needs, NOW + 3700) == waiting, "without a pause"
    assert still_waiting(waiting, Needs(), NOW + 15) == {}
    assert still_waiting({"/d": NOW}, needs, NOW - 50) == {"/d": NOW - 50}, "the clock was set back"
    (trouble,) = found(needs, waiting={"/d": NOW - 3700})
    assert "for 1h1m," in trouble.detail


def test_a_disk_that_is_almost_full() -> None:
    (trouble,) = found(Needs(), Disk("/state", 300 * 2**20 + 5, 100 * GIB + 5))
    assert trouble.key == ("disk", "/state")
    assert trouble.detail == "300MiB of 100GiB are free, less than 1GiB [AD711]"
    assert found(Needs(), Disk("/state", GIB, 100 * GIB)) == []
    assert [t.kind for t in find(Needs(), PLENTY, NotifyConfig(disk=60 * GIB), {}, NOW)] == ["disk"]
    assert found(Needs(), Disk("/state", 0, GIB))[0].detail.startswith("0 of 1GiB")


@pytest.mark.parametrize(("mode", "step"), [("waiting", "Mount"), ("scan", 'mode = "scan"')])
def test_a_watch_that_is_not_as_it_should_be(mode: str, step: str) -> None:
    (trouble,) = found(Needs(watches=(WatchView(b"/d", mode, False, "the folder is not there"),)))
    assert (trouble.key, trouble.detail) == (("watch", "/d"), "the folder is not there")
    assert step in trouble.next_step


def test_only_what_is_asked_for_is_told() -> None:
    needs = Needs(
        (FailedFiles(b"/d/e/one", 1, b"/d/e/one/a", "x", ""),),
        {"http://m": Blockage(Kind.PAUSED, "x", "", 1, 0.0)}, {},
        (Late(b"/d", b"/d/a", 0.0),), (WatchView(b"/d", "scan", False, "x"),),
    )  # fmt: skip
    full, waiting = Disk("/s", 0, 1), {"/d": 0.0}
    kinds = [trouble.kind for trouble in found(needs, full, waiting)]
    assert kinds == ["disk", "paused", "watch", "lag", "failure"]
    for kind in kinds:
        assert [trouble.kind for trouble in found(needs, full, waiting, on=[kind])] == [kind]


def test_texts_are_short_and_safe() -> None:
    needs = Needs(failed=(FailedFiles(b"/d/\xff\x1b", 1, b"/d/" + b"x" * 4000, "e" * 4000, "c" * 4000),))
    (trouble,) = found(needs)
    assert trouble.subject == "/d/\\xff\\x1b"
    assert max(len(trouble.detail), len(trouble.next_step)) <= 600
