"""Which runs live, on a real folder and ledger; the clock is the test's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.abandoned import judge
from artifactd.runfolder import MARKERS
from artifactd.watching.claim import Claim
from desk import Desk, at_desk

HOUR = 3600.0


class Site:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def under_way(self) -> None:
        """All is looked at, stored, and its runs are there."""
        self.desk.scan()
        for run in self.desk.runs():
            self.desk.ledger.set_run_id(run.id, f"id-{run.name}", "RUNNING", run.settings_text)
        self.desk.deliver()

    def judge(self, after: float) -> None:
        """As a scan that is over `after` seconds from now does."""
        now = time.time() + after
        self.desk.scan(now)
        self.desk.deliver()
        with self.desk.ledger.transaction():
            judge(self.desk.ledger, self.desk.fd, self.desk.root, now, now, HOUR)

    def told(self) -> dict[str, str]:
        return {run.name: end.status for run, end in self.desk.ledger.runs_to_end(dict(MARKERS))}

    def tell(self) -> None:
        for run, end in self.desk.ledger.runs_to_end(dict(MARKERS)):
            self.desk.ledger.ask_end(run.id, end)
            self.desk.ledger.set_run_status(run.id, end.status)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with at_desk(tmp_path) as desk:
        yield Site(desk)


def test_a_run_whose_files_are_quiet_for_long_enough_is_given_up(site: Site) -> None:
    path = site.desk.write("e/r/a")
    site.under_way()
    site.judge(HOUR - 10)
    assert site.told() == {}
    site.judge(HOUR + 10)
    ((_, end),) = site.desk.ledger.runs_to_end(dict(MARKERS))
    assert (end.status, end.at) == ("KILLED", path.stat().st_ctime_ns // 1_000_000)
    assert end.reason.startswith("no sign of life since 20")


def test_what_changed_while_the_scan_was_under_way_counts(site: Site) -> None:
    site.desk.write("e/r/a")
    site.under_way()
    began = time.time() + HOUR + 10
    with site.desk.ledger.transaction():
        judge(site.desk.ledger, site.desk.fd, site.desk.root, began - HOUR, began, HOUR)
    assert site.told() == {}, "the scan began before the time was over"


def test_files_that_are_ignored_are_signs_of_life_as_well(site: Site) -> None:
    site.desk.rules(exclude=["*.tmp"])
    old = site.desk.write("e/r/a")
    site.under_way()
    run = site.desk.ledger.under_way(site.desk.root)[0][0]
    before = site.desk.ledger.quiet(site.desk.root, 9e9, nested=False)[0].moved_at
    path = site.desk.write("e/r/deep/x.tmp")
    site.desk.scan()
    (quiet,) = site.desk.ledger.quiet(site.desk.root, 9e9, nested=False)
    assert (quiet.run, quiet.moved_at) == (run, path.stat().st_ctime_ns / 1e9)
    assert before == old.stat().st_ctime_ns / 1e9


def test_a_run_with_a_marker_that_waits_for_a_failed_file_is_not_given_up(site: Site) -> None:
    site.desk.write("e/r/a")
    site.desk.write("e/r/.done")
    site.under_way()
    site.desk.ledger._con.execute("UPDATE files SET state = 3 WHERE name = ?", (b"a",))
    site.judge(9 * HOUR)
    assert site.told() == {}


def test_what_a_run_folder_names_keeps_it_alive_and_brings_it_back(site: Site) -> None:
    site.desk.write("e/r/artifactd.toml", '[alive]\npid_file = "train.pid"\nheartbeat = "beat/now"\n')
    pid = site.desk.write("e/r/train.pid", str(os.getpid()))
    site.under_way()
    site.judge(9 * HOUR)
    assert site.told() == {}
    (quiet,) = site.desk.ledger.quiet(site.desk.root, 9e9, nested=False)
    assert (quiet.moved_at or 0) > time.time() + 8 * HOUR
    pid.write_text("")
    site.judge(20 * HOUR)
    assert site.told() == {"r": "KILLED"}
    site.tell()
    site.judge(21 * HOUR)
    assert site.told() == {}
    pid.write_text(str(os.getpid()))
    site.judge(22 * HOUR)
    assert site.told() == {"r": "RUNNING"}


def test_a_run_that_exec_holds_lives(site: Site) -> None:
    path = site.desk.write("e/r/a").parent
    site.under_way()
    st = path.stat()
    claim = Claim(st.st_dev, st.st_ino)
    try:
        site.judge(9 * HOUR)
        assert site.told() == {}
    finally:
        claim.release()
    site.judge(20 * HOUR)
    assert site.told() == {"r": "KILLED"}


def test_a_sweep_lives_as_long_as_one_of_its_runs(site: Site) -> None:
    site.desk.rules(template="{experiment}/{parent}/{run}")
    site.desk.write("e/sweep/plan")
    site.desk.write("e/sweep/t1/artifactd.toml", '[alive]\npid_file = "p"\n')
    pid = site.desk.write("e/sweep/t1/p", str(os.getpid()))
    site.under_way()
    site.judge(9 * HOUR)
    assert site.told() == {}
    pid.unlink()
    site.judge(20 * HOUR)
    assert site.told() == {"sweep": "KILLED", "t1": "KILLED"}
    site.tell()
    site.desk.write("e/sweep/t1/model")
    os.utime(site.desk.drop / "e/sweep/t1/model")
    site.desk.ledger._con.execute("UPDATE lives SET moved_at = 1, asked_at = 1")  # what was judged above is yet to come
    site.desk.scan()
    assert site.told() == {"sweep": "RUNNING", "t1": "RUNNING"}


def test_a_clock_that_was_set_back_delays_nothing_for_longer_than_is_allowed(site: Site) -> None:
    site.desk.write("e/r/a")
    site.under_way()
    site.desk.ledger._con.execute("UPDATE lives SET moved_at = ?", (time.time() + 1000 * HOUR,))
    site.judge(0)
    site.judge(HOUR + 10)
    assert site.told() == {"r": "KILLED"}
