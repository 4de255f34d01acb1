"""Rounds of elections, and what must be true after each: the same for every database and whatever is lost."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from faults.proxy import Fault, Proxy
from fleet_support import Fleet, seen

STEPS = (
    "candidate.before", "candidate.after", "vote.before", "vote.after", "crown.before", "crown.after",
    "election.tidied",
)  # fmt: skip
WRITES = ("/create", "/set-tag", "/delete")
PATIENCE = 60.0
"""Seconds for which a host that died may hold up the others."""


@dataclass
class Tally:
    """What happened over all rounds.

    Attributes:
        seconds: Of each round, until the last host knew its run.
        tries: Of all hosts that ended with a run.
        stood: Runs that stood and were not elected.
    """

    seconds: list[float] = field(default_factory=list)
    tries: int = 0
    stood: int = 0

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        took = f"{ordered[len(ordered) // 2]:.2f} s (median), {ordered[-1]:.2f} s (longest)"
        return f"{len(ordered)} rounds, one run each; {took}; {self.tries} tries; {self.stood} runs stood in vain"


def new_key() -> str:
    return hashlib.sha256(os.urandom(16)).hexdigest()[:40]


def rounds(client: Any, fleet: Fleet, times: int, experiment: str) -> Tally:
    """Have the fleet elect so many runs, each in one moment; after each there is one run and nothing else."""
    tally = Tally()
    for _ in range(times):
        key = new_key()
        begun = time.monotonic()
        answers = [answer for answer in fleet.elect(key, experiment) if answer is not None]
        tally.seconds.append(time.monotonic() - begun)
        assert len(answers) == len(fleet.hosts)
        tally.tries += sum(map(len, answers))
        elected = {answer[-1] for answer in answers}
        assert len(elected) == 1, answers
        shown = seen(client, key, experiment)
        assert shown.keyed == shown.active == list(elected), (shown, answers)
        assert shown.elections == []
        tally.stood += shown.deleted
    return tally


def killed_at(client: Any, fleet: Fleet, uri: str, step: str, experiment: str) -> float:
    """A host that is the first one dies at a step; the others elect at once. Returns their seconds."""
    key = new_key()
    with Fleet([uri], {0: {"_ARTIFACTD_FAILPOINT": f"{step}:1"}}) as first:
        assert first.elect(key, experiment) == [None], f"it lived on after {step}"
        assert first.hosts[0].process.wait(10) == -9
    begun = time.monotonic()
    answers = fleet.elect(key, experiment)
    took = time.monotonic() - begun
    assert took < PATIENCE
    _one(client, key, experiment, answers)
    return took


def killed_among(client: Any, fleet: Fleet, uri: str, step: str, experiment: str) -> None:
    """A host dies at a step while the others elect; the next one that looks for its run finds nothing left over."""
    key = new_key()
    with Fleet([uri], {0: {"_ARTIFACTD_FAILPOINT": f"{step}:1"}}) as victim:
        for host in (*fleet.hosts, *victim.hosts):
            host.tell(key, experiment)
        answers = [host.answer() for host in fleet.hosts]
        victim.hosts[0].answer()  # it may have found the run before it came to that step
    with Fleet([uri]) as again:
        answers += again.elect(key, experiment)
    _one(client, key, experiment, answers)


def _one(client: Any, key: str, experiment: str, answers: list[list[str] | None]) -> None:
    assert None not in answers
    elected = {answer[-1] for answer in answers if answer is not None}
    shown = seen(client, key, experiment)
    assert shown.keyed == shown.active == list(elected), (shown, answers)
    assert shown.elections == []


@contextmanager
def losing_answers(upstream: str, one_in: int) -> Iterator[Proxy]:
    """A line on which the server's answer to one in so many of an election's writes is lost."""
    proxy = Proxy(upstream)
    proxy.start(Fault("drop", where=_every(one_in)))
    try:
        yield proxy
    finally:
        proxy.close()


def _every(one_in: int) -> Callable[[str, str], bool]:
    lock, count = threading.Lock(), [0]

    def meets(method: str, path: str) -> bool:
        if method != "POST" or not path.endswith(WRITES):
            return False
        with lock:
            count[0] += 1
            return count[0] % one_in == 0

    return meets
