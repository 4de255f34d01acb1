from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from artifactd.pace import FREE_SENDS, LONGEST, NEWS_EVERY, NEWS_RATE, Past, news_due, pace, sends_now, spacing
from artifactd.watching.signature import Signature

NOW = 1_000_000.0


def sig(size: int, changed: float = NOW) -> Signature:
    return Signature(size, 0, int(changed * 1e9), 1)


def test_a_new_file_is_due_once_it_is_at_rest() -> None:
    due = pace(sig(10), Past(), live=False, ended=False, settle=5, now=NOW)
    assert (due.due_at, due.snapshot, due.reason) == (NOW + 5, False, "")


def test_a_last_upload_in_the_future_delays_nothing() -> None:
    """The clock was set back by a day since."""
    past = Past(sends=1, sent_bytes=100, last=NOW + 86_400)
    assert pace(sig(10), past, live=False, ended=False, settle=5, now=NOW).due_at == NOW + 5


def test_the_first_rewrites_are_not_held_back() -> None:
    past = Past(sends=FREE_SENDS - 1, sent_bytes=100, last=NOW - 1)
    assert pace(sig(10), past, live=False, ended=False, settle=5, now=NOW).due_at == NOW + 5


def test_a_file_rewritten_for_a_day_is_sent_a_bounded_number_of_times_and_its_last_state_always() -> None:
    """Rewritten every 8 s with 5 s of settle: it does come to rest each time."""
    past, sent = Past(), 0
    for changed in range(0, 86_400, 8):
        due = pace(sig(10, changed), past, live=False, ended=False, settle=5, now=changed)
        if due.due_at <= changed + 8:  # else it is rewritten before its time comes
            sent += 1
            past = Past(sends_now(past, due.due_at, 5) + 1, past.sent_bytes + 10, due.due_at)
    assert 24 <= sent < 50
    last = pace(sig(10, 86_400), past, live=False, ended=False, settle=5, now=86_400)
    assert last.due_at <= 86_400 + LONGEST


@given(st.integers(0, 10_000), st.floats(0, 600))
def test_spacing_grows_and_is_bounded(sends: int, settle: float) -> None:
    assert 0 <= spacing(sends, settle) <= spacing(sends + 1, settle) <= LONGEST


def test_a_file_that_was_left_alone_begins_anew() -> None:
    past = Past(sends=20, sent_bytes=200, last=NOW - 5 * LONGEST)
    assert pace(sig(10), past, live=False, ended=False, settle=5, now=NOW).due_at == NOW + 5


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300))
def test_snapshots_and_the_final_whole_stay_below_two_and_a_half_times_the_size(steps: list[int]) -> None:
    past, size = Past(), 0
    for n, step in enumerate(steps):
        size += step
        now = NOW + n
        if pace(sig(size, now), past, live=True, ended=False, settle=5, now=now).snapshot:
            past = Past(past.sends, past.sent_bytes + size, now)
    assert past.sent_bytes > 0
    assert past.sent_bytes + size <= 2.5 * size


def test_a_growing_file_is_whole_once_quiet_and_a_false_end_makes_it_wait_longer() -> None:
    past = Past(sends=0, sent_bytes=1000, last=NOW - 10)
    first = pace(sig(1001), past, live=True, ended=False, settle=5, now=NOW)
    again = pace(sig(1001), Past(2, 2000, NOW - 10), live=True, ended=False, settle=5, now=NOW)
    assert NOW + 5 < first.due_at < again.due_at
    assert first.reason


def test_the_end_of_the_run_is_the_end_of_its_growing_files() -> None:
    past = Past(sends=1, sent_bytes=1000, last=NOW - 10)
    assert pace(sig(1001), past, live=True, ended=True, settle=5, now=NOW).due_at == NOW + 5


def test_news_are_due_at_once_and_then_now_and_then() -> None:
    assert news_due(sig(10), None, NOW) == NOW
    assert news_due(sig(20), NOW - 5, NOW) == NOW - 5 + NEWS_EVERY
    assert news_due(sig(20, NOW - 10), NOW - 5, NOW) is None, "what was written before was told"
    assert news_due(sig(20, NOW - 5.5), NOW - 5, NOW) is not None, "it may have been read before"


def test_news_of_a_big_file_are_told_less_often() -> None:
    """All of it is read for them."""
    assert news_due(sig(15 * NEWS_RATE), NOW - 5, NOW) == NOW - 5 + NEWS_EVERY
    assert news_due(sig(1024 * NEWS_RATE), NOW - 5, NOW) == NOW - 5 + 1024


def test_a_telling_in_the_future_delays_nothing() -> None:
    """The clock was set back by a day since."""
    assert news_due(sig(20), NOW + 86_400, NOW) == NOW + NEWS_EVERY
