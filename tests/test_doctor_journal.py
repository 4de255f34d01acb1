"""journald's rate limit, read from files as journald.conf(5) has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.config import LogConfig
from artifactd.doctor.finding import Level
from artifactd.doctor.journal import journal, rate_limit, seconds_in
from artifactd.doctor.surroundings import Surroundings


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    write(tmp_path, "run/systemd/journal/socket", "")
    return Surroundings(environ={}, root=str(tmp_path))


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_a_journal_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(journal(LogConfig(level="debug"), Surroundings(environ={}, root=str(tmp_path)))) == []


def test_its_own_defaults_hold_where_nothing_is_set(around: Surroundings, tmp_path: Path) -> None:
    assert rate_limit(around) == (30.0, 10_000)
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\n#RateLimitBurst=7\n; RateLimitIntervalSec=1s\n")
    assert rate_limit(around) == (30.0, 10_000)
    (found,) = journal(LogConfig(), around)
    assert (found.level, found.cure) == (Level.OK, "")
    assert "10,000 lines of a service in 30s" in found.detail


def test_debug_has_a_line_for_each_file_so_lines_are_dropped(around: Surroundings) -> None:
    (found,) = journal(LogConfig(level="debug"), around)
    assert found.level is Level.NOTICE
    assert "LogRateLimitIntervalSec=0" in found.cure


def test_few_lines_are_too_few_for_files_stored(around: Surroundings, tmp_path: Path) -> None:
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\nRateLimitBurst=1000\n")
    (found,) = journal(LogConfig(), around)
    assert (found.level, "1,000 lines" in found.detail) == (Level.NOTICE, True)


def test_the_first_main_file_holds_and_drop_ins_go_before_it_by_name(around: Surroundings, tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/systemd/journald.conf", "[Journal]\nRateLimitIntervalSec=1h\nRateLimitBurst=1\n")
    assert rate_limit(around) == (3600.0, 1)
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\nRateLimitBurst=2\n")
    assert rate_limit(around) == (30.0, 2)
    write(tmp_path, "usr/lib/systemd/journald.conf.d/50-a.conf", "[Journal]\nRateLimitBurst=3\n")
    write(tmp_path, "run/systemd/journald.conf.d/10-b.conf", "[Journal]\nRateLimitBurst=4\n[Other]\nRateLimitBurst=9\n")
    assert rate_limit(around) == (30.0, 3)
    write(tmp_path, "etc/systemd/journald.conf.d/50-a.conf", "[Journal]\nRateLimitIntervalSec = 5min\n")
    assert rate_limit(around) == (300.0, 4), "the file of that name in /etc takes the place of the other"
    write(tmp_path, "etc/systemd/journald.conf.d/readme", "[Journal]\nRateLimitBurst=8\n")
    assert rate_limit(around) == (300.0, 4)


@pytest.mark.parametrize("off", ["RateLimitIntervalSec=0", "RateLimitBurst=0"])
def test_it_may_be_off(around: Surroundings, tmp_path: Path, off: str) -> None:
    write(tmp_path, "etc/systemd/journald.conf", f"[Journal]\n{off}\n")
    (found,) = journal(LogConfig(level="debug"), around)
    assert (found.level, found.detail) == (Level.OK, "its rate limit is off")


@pytest.mark.parametrize("odd", ["RateLimitIntervalSec=soon", "RateLimitBurst=many", "RateLimitIntervalSec=infinity"])
def test_what_cannot_be_read_is_said(around: Surroundings, tmp_path: Path, odd: str) -> None:
    write(tmp_path, "etc/systemd/journald.conf", f"[Journal]\n{odd}\n")
    (found,) = journal(LogConfig(), around)
    assert found.level is Level.NOTICE
    assert "systemd-analyze" in found.cure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("1min 30s", 90), ("2h", 7200), ("500ms", 0.5), ("1.5 minutes", 90), ("1d", 86400)],
)
def test_lengths_of_time_as_systemd_writes_them(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds
