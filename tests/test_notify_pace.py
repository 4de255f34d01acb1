"""What is told when: never more than one message a period, all that lasts, each end once, whatever is restarted."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from artifactd.notify import keeping
from artifactd.notify.keeping import Kept
from artifactd.notify.pace import MOST, Memory, News, next_news, see, told, tried
from artifactd.notify.troubles import Trouble

EVERY = 900.0
TOPICS = ("failure", "paused", "lag", "disk", "watch")


def trouble(subject: str, weight: int = 1, kind: str = "failure") -> Trouble:
    return Trouble(kind, subject, "it is so", "do that", weight)  # type: ignore[arg-type]  # one of the topics


class One:
    """Somebody who is told, by the steps that the bell takes."""

    def __init__(self, every: float = EVERY) -> None:
        self.memory = Memory()
        self.every = every
        self.news: list[News] = []
        self.tries: list[float] = []

    def look(
        self, now: float, *troubles: Trouble, arrives: bool = True, topics: tuple[str, ...] = TOPICS
    ) -> News | None:
        self.memory = see(self.memory, troubles, topics, now)
        news = next_news(self.memory, troubles, now, self.every)
        if news is None:
            return None
        self.tries.append(now)
        self.memory = tried(self.memory, now)
        if arrives:
            self.memory = told(self.memory, news)
            self.news.append(news)
        return news


def said(news: News | None) -> tuple[list[str], list[str], list[str]]:
    """Subjects that are new, those that go on, and those that are over."""
    assert news is not None
    new = [one.trouble.subject for one in news.troubles if one.new]
    return new, [one.trouble.subject for one in news.troubles if not one.new], [over.subject for over in news.resolved]


def test_nothing_is_told_while_nothing_is_wrong() -> None:
    assert One().look(0.0) is None


def test_the_first_is_told_at_once_and_others_with_the_next_period() -> None:
    one = One()
    assert said(one.look(0, trouble("a"))) == (["a"], [], [])
    assert one.look(15, trouble("a"), trouble("b")) is None
    assert one.look(EVERY - 1, trouble("a"), trouble("b"), trouble("c")) is None
    news = one.look(EVERY, trouble("a"), trouble("b"), trouble("c"))
    assert said(news) == (["b", "c"], ["a"], []), "grouped, with how all stands"
    assert news is not None
    assert {t.trouble.subject: t.since for t in news.troubles} == {"a": 0, "b": 15, "c": EVERY - 1}
    assert one.look(10 * EVERY, trouble("a"), trouble("b"), trouble("c")) is None, "what lasts is told once"


def test_an_end_is_told_once_in_its_time() -> None:
    one = One()
    one.look(0, trouble("a"))
    assert one.look(15) is None
    assert said(one.look(EVERY)) == ([], [], ["a"])
    assert one.look(2 * EVERY) is None
    assert one.look(9 * EVERY) is None
    assert said(one.look(9 * EVERY + 1, trouble("a"))) == (["a"], [], []), "and then it is a new one"


def test_what_comes_and_goes_between_two_messages_is_not_told() -> None:
    one = One()
    one.look(0, trouble("a"))
    one.look(15, trouble("a"), trouble("b"))
    one.look(30)
    one.look(45, trouble("a"))
    assert one.look(EVERY, trouble("a")) is None


def test_what_grows_is_told_again_and_what_shrinks_is_not() -> None:
    one = One()
    one.look(0, trouble("a", 3))
    assert one.look(EVERY, trouble("a", 2)) is None
    assert said(one.look(2 * EVERY, trouble("a", 3))) == (["a"], [], []), "it was two, and is more again"
    assert one.look(3 * EVERY, trouble("a", 3)) is None


def test_what_did_not_arrive_is_told_anew_with_the_next_period() -> None:
    one = One()
    assert one.look(0, trouble("a"), arrives=False)
    assert one.look(15, trouble("a")) is None
    assert said(one.look(EVERY, trouble("a"), trouble("b"), arrives=False)) == (["a", "b"], [], [])
    assert said(one.look(2 * EVERY, trouble("b"))) == (["b"], [], []), "an end of what nobody heard of is not told"
    assert one.look(3 * EVERY, arrives=False)
    assert said(one.look(4 * EVERY)) == ([], [], ["b"])


def test_a_topic_that_is_wanted_no_more_is_not_said_to_be_over() -> None:
    one = One()
    one.look(0, trouble("a"), trouble("/s", kind="disk"))
    assert one.look(EVERY, trouble("a"), topics=("failure",)) is None
    assert said(one.look(2 * EVERY, topics=("failure",))) == ([], [], ["a"])


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    one = One()
    one.look(1e9, trouble("a"))
    assert said(one.look(1e6, trouble("a"), trouble("b"))) == (["b"], ["a"], [])


def test_of_too_many_those_that_were_told_stay_and_the_others_are_counted() -> None:
    one = One()
    late = [trouble(f"z{n:03}") for n in range(MOST)]
    assert len(said(one.look(0, *late))[0]) == MOST
    early = [trouble(f"a{n:03}") for n in range(5)]
    assert one.look(EVERY, *early, *late) is None, "none of those that were told is said to be over"
    news = one.look(2 * EVERY, *early, *late[3:])
    assert said(news) == (["a000", "a001", "a002"], [t.subject for t in late[3:]], [t.subject for t in late[:3]])
    assert news is not None
    assert news.more == 2
    assert len(one.memory.known) == len(early) + len(late) - 3


def test_the_gravest_comes_first() -> None:
    kinds = ["failure", "lag", "watch", "paused", "disk"]
    news = One().look(0, *(trouble("x", kind=kind) for kind in kinds))
    assert news is not None
    assert [one.trouble.kind for one in news.troubles] == kinds[::-1]


LOOKS = st.lists(
    st.tuples(
        st.floats(0, 1200),  # seconds since the look before
        st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4),
        st.booleans(),  # whether a message would arrive
        st.booleans(),  # whether the service is restarted after it
    ),
    max_size=40,
)


def restarted(memory: Memory) -> Memory:
    """What the next process knows."""
    return keeping._kept(json.loads(json.dumps(keeping._data(Kept({"one": memory}))))).memories["one"]


@given(looks=LOOKS)
def test_whatever_happens(looks: list[tuple[float, dict[str, int], bool, bool]]) -> None:
    one, unbroken = One(), One()
    now = 1e9
    heard: dict[str, int] = {}  # what somebody who reads each message believes to be wrong
    for pause, wrong, arrives, restart in looks:
        now += pause
        troubles = [trouble(subject, weight) for subject, weight in wrong.items()]
        news = one.look(now, *troubles, arrives=arrives)
        assert news == unbroken.look(now, *troubles, arrives=arrives), "a restart changes nothing"
        if news is not None and arrives:
            new, going_on, over = said(news)
            assert new or over, "there is something to tell"
            assert set(over) <= heard.keys(), "an end is told once, of what was told"
            assert not set(over) & wrong.keys()
            for subject in over:
                del heard[subject]
            assert set(going_on) <= heard.keys()
            assert {*new, *going_on} == wrong.keys()
            heard.update(wrong)
        if restart:
            one.memory = restarted(one.memory)
    assert all(b - a >= EVERY for a, b in zip(one.tries, one.tries[1:], strict=False)), "one message a period"
    # Whatever lasts for two periods from now on is told, and so is every end.
    last = looks[-1][1] if looks else {}
    for _ in range(2):
        now += EVERY
        news = one.look(now, *(trouble(subject, weight) for subject, weight in last.items()))
        if news is not None:
            for resolved in news.resolved:
                del heard[resolved.subject]
            heard.update((t.trouble.subject, t.trouble.weight) for t in news.troubles)
    assert heard.keys() == last.keys()
    assert all(heard[subject] >= weight for subject, weight in last.items())
