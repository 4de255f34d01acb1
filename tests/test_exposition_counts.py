"""What is dear to count is counted when there is something new, and not for too much."""

from __future__ import annotations

import time

import pytest

from artifactd.exposition.counts import Sparing


def test_it_counts_again_when_there_is_something_new_and_it_has_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, spent = [100.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    version, counted = [1], list[int]()

    def count() -> int:
        spent[0] += 0.5
        counted.append(version[0])
        return version[0]

    sparing = Sparing(lambda: version[0], count)
    assert [sparing.get(), sparing.get()] == [1, 1]
    version[0] = 2
    clock[0] += 9.9  # half a second of a core is worth a rest of ten
    assert sparing.get() == 1
    clock[0] += 0.2
    assert sparing.get() == 2
    assert counted == [1, 2]
    clock[0] += 100
    assert sparing.get() == 2
    sparing.forget()
    assert sparing.get() == 2
    assert counted == [1, 2, 2]
