"""What is configured as a limit, as the delivery processes see it: by the clock, and by a reload that stops nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from artifactd.config import Config, UploadConfig, WatchConfig
from artifactd.config.timetable import parse_timetable
from artifactd.delivery.limits import BATCH_BYTES, Limits
from artifactd.engine import Engine
from support import wait_for

MIB = 2**20
BY_DAY = parse_timetable("08:00,10MiB 20:00,0")


def at(hour: int, minute: int = 0) -> float:
    return datetime(2026, 6, 1, hour, minute).astimezone().timestamp()


@pytest.fixture
def limits() -> Iterator[Limits]:
    made = Limits()
    yield made
    made.close()


def test_the_clock_changes_the_rate_and_the_log_says_so(limits: Limits) -> None:
    with structlog.testing.capture_logs() as said:
        limits.use(UploadConfig(bandwidth_limit=BY_DAY, read_limit=5), at(7, 59))
        rates = []
        for now in (at(7, 59), at(8), at(12), at(19, 59), at(20), at(8, 30)):  # the clock may be set back, too
            limits.keep(now)
            rates.append(limits.shared.line.rate)
    assert rates == [0, 10 * MIB, 10 * MIB, 10 * MIB, 0, 10 * MIB]
    assert limits.shared.reading.rate == 5
    assert [(e["limit"], e["rate"]) for e in said] == [
        ("bandwidth_limit", "10MiB/s"), ("bandwidth_limit", "none"), ("bandwidth_limit", "10MiB/s"),
    ]  # fmt: skip


def test_processes_are_told_once_that_there_are_limits(limits: Limits) -> None:
    none, some, night = UploadConfig(), UploadConfig(read_limit=5), UploadConfig(bandwidth_limit=BY_DAY)
    told = [limits.use(config, at(3)) for config in (none, night, some, night, none, some)]
    assert told == [False, True, False, False, False, True]
    assert limits.shared.wanted
    assert (limits.shared.line.rate, limits.shared.reading.rate) == (0, 5)


def test_a_job_is_no_longer_than_some_seconds_at_the_limit(limits: Limits) -> None:
    sizes = []
    for upload in (
        UploadConfig(), UploadConfig(bandwidth_limit=MIB), UploadConfig(read_limit=MIB),
        UploadConfig(bandwidth_limit=2**40),
    ):  # fmt: skip
        limits.use(upload, at(3))
        sizes.append(limits.batch())
    assert sizes == [BATCH_BYTES, 5 * MIB, 5 * MIB, BATCH_BYTES]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(config(tmp_path), "test", events=False)
    yield made
    made.close()


def config(base: Path, settle: float = 1, **upload: Any) -> Config:
    (base / "drop").mkdir(exist_ok=True)
    watch = WatchConfig(path=base / "drop", settle=settle)
    return Config(state_dir=base / "state", watch=(watch,), upload=UploadConfig(**upload))


def test_a_reload_of_limits_alone_leaves_the_workers_where_they_are(engine: Engine, tmp_path: Path) -> None:
    pool, watched = engine._pool, engine.watched
    for upload in ({"bandwidth_limit": MIB}, {"bandwidth_limit": MIB, "read_limit": BY_DAY}, {}):
        new = config(tmp_path, **upload)
        assert engine.limit(new)
        assert engine.config is new
        assert engine._limits.shared.line.rate == upload.get("bandwidth_limit", 0)
    assert (engine._pool, engine.watched) == (pool, watched)


@pytest.mark.parametrize(
    "other", [{}, {"settle": 2}, {"bandwidth_limit": MIB, "settle": 2}, {"bandwidth_limit": MIB, "order": "small"}]
)
def test_any_other_reload_is_a_new_beginning(engine: Engine, tmp_path: Path, other: dict[str, Any]) -> None:
    before = engine.config
    assert not engine.limit(config(tmp_path, **other))
    assert engine.config is before
    assert engine._limits.shared.line.rate == 0


def test_the_engine_asks_the_clock_as_it_turns(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: at(7, 59))
    assert engine.limit(config(tmp_path, bandwidth_limit=BY_DAY))
    engine.turn(0.0)
    assert engine._limits.shared.line.rate == 0
    monkeypatch.setattr(time, "time", lambda: at(8))
    engine.wake()  # at rest it sends nothing, and does not ask
    wait_for(lambda: engine.turn(0.0), "it turns")
    assert engine._limits.shared.line.rate == 10 * MIB
