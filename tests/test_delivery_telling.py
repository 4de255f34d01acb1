"""A worker tells a run what a stored file says: what was stored, and nothing that came after it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from artifactd.delivery.messages import Heard, Stored
from artifactd.delivery.telling import tell_stored
from artifactd.ledger.rows import DueFile, Growth
from artifactd.tracking import runs
from artifactd.tracking.told import Told, is_told
from artifactd.watching.inside import open_root
from test_delivery_worker import Bench, bench, meanwhile, shared

__all__ = ["bench", "shared"]  # fixtures


def params(bench: Bench) -> dict[str, str]:
    found: Any = bench.worker._client(bench.target).get_run(bench.run_id).data.params
    return dict(found)


def deliver(bench: Bench, file: DueFile) -> Any:
    (result,) = bench.deliver(file)
    return result


def test_a_stored_file_is_told_and_not_again(bench: Bench) -> None:
    content = b'{"once": 1}'
    (bench.drop / "a.json").write_bytes(content)
    result = deliver(bench, bench.due("a.json", role="params"))
    assert isinstance(result, Stored)
    assert result.told is not None
    assert result.told.failure is None
    assert is_told(result.told.mark, hashlib.sha256(content).digest())
    assert params(bench)["once"] == "1"
    again = deliver(bench, bench.due("a.json", role="params", digest=result.digest, told=result.told.mark))
    assert (again.sent, again.told) == (None, Told(result.told.mark))


def test_a_file_without_a_role_is_told_nothing(bench: Bench) -> None:
    (bench.drop / "b.json").write_text('{"never": 1}')
    assert deliver(bench, bench.due("b.json")).told is None
    assert "never" not in params(bench)


@pytest.mark.parametrize("role", ["params", "dataset"])
def test_what_came_after_the_upload_is_not_told(bench: Bench, role: str) -> None:
    path = bench.drop / "c.json"
    path.write_text('{"before": 1}')
    file = bench.due("c.json", role=role)
    stored = deliver(bench, bench.due("c.json"))
    path.write_text('{"behind": 2}')
    client = bench.worker._client(bench.target)
    info = runs.inspect_run(client, bench.run_id, bench.target.uri)
    root = open_root(str(bench.drop))
    try:
        told = tell_stored(client, info, bench.target.uri, root, file, stored.digest, stored.size)
    finally:
        os.close(root)
    assert told == Told()
    assert not {"before", "behind"} & params(bench).keys()


def test_a_file_that_is_gone_by_then_is_not_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.drop / "d.json"
    path.write_text('{"gone": 1}')
    file = bench.due("d.json", role="params")
    meanwhile(monkeypatch, path.unlink)
    result = deliver(bench, file)
    assert not isinstance(result, Stored) or result.told == Told()
    assert "gone" not in params(bench)


def test_news_of_a_growing_file_are_told_and_nothing_is_sent(bench: Bench) -> None:
    path: Path = bench.drop / "m.jsonl"
    path.write_text('{"step": 0, "loss": 1}\n{"step": 1, "lo')
    result = deliver(bench, bench.due("m.jsonl", role="metrics", growth=Growth.NEWS))
    assert isinstance(result, Heard)
    assert result.told.failure is None
    assert not (bench.store / "m.jsonl").exists()
    history: Any = bench.worker._client(bench.target).get_metric_history(bench.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0)]


def test_what_was_left_of_a_growing_file_is_told_at_its_end_though_nothing_was_added(bench: Bench) -> None:
    """A last line without its newline may be a part of one, until the file is over."""
    (bench.drop / "left.csv").write_text("step,left\n0,1\n1,2")
    news = deliver(bench, bench.due("left.csv", role="metrics", growth=Growth.NEWS))
    history: Any = bench.worker._client(bench.target).get_metric_history
    assert [m.step for m in history(bench.run_id, "left")] == [0]
    deliver(bench, bench.due("left.csv", role="metrics", growth=Growth.QUIET, told=news.told.mark))
    assert sorted(m.step for m in history(bench.run_id, "left")) == [0, 1]
