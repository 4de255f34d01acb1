"""Which answers to a part of a big object are worth another try, and how long all of them may take."""

from __future__ import annotations

from artifactd.tracking.sdks import again


def test_only_what_passes_by_itself_is_asked_for_again() -> None:
    assert [status for status in range(200, 600) if again.passes(status)] == [429, 500, 502, 503, 504]


def test_the_waits_leave_time_for_the_answer_to_be_known() -> None:
    waits = [[again.wait(tries) for tries in range(1, again.TRIES + 1)] for _ in range(200)]
    assert max(map(sum, waits)) <= 3
    assert len({round(first, 3) for first, *_ in waits}) > 20, "parts that were refused together come back apart"
