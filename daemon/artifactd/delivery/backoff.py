"""When to try again: tenacity's exponential backoff with full jitter, computed from a count that is kept durably.

The count lives in the ledger, so that a restart does not start the waits anew, and a wait is a time written
down, never a sleeping thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_random_exponential

from artifactd.errors import Failure, Kind


@dataclass(frozen=True, slots=True)
class Backoff:
    """The ``[retry]`` policy.

    Attributes:
        initial: Upper bound of the first wait, seconds.
        maximum: Upper bound of every wait, seconds.
        give_up_after: Seconds after which a transient failure of a file counts as permanent; None for never.
    """

    initial: float
    maximum: float
    give_up_after: float | None = None

    def delay(self, attempt: int, kind: Kind = Kind.TRANSIENT) -> float:
        """Seconds to wait after the `attempt`-th failure in a row (1 is the first), which was of this kind.

        Uniform between 0 and min(maximum, initial * 2^(attempt-1)): a hundred hosts whose server comes back do not
        come back at once. What is paused waits for a person or a service that renews credentials and rights, and no
        sign of that may come: so it is looked for within ``PAUSED_MAXIMUM``.
        """
        most = min(self.maximum, PAUSED_MAXIMUM) if kind is Kind.PAUSED else self.maximum
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        return float(wait_random_exponential(multiplier=self.initial, max=most)(state))

    def judge(self, failure: Failure, attempt: int, *, alone: bool = True) -> Failure:
        """A transient failure of a file that stayed too long is permanent: time did not mend it.

        Besides ``give_up_after`` there is a cap for errors that the server gives to one file `alone`, while it takes
        others: they look transient and never are.
        """
        if failure.kind is not Kind.TRANSIENT:
            return failure
        spent = sum(min(self.maximum, self.initial * 2.0**n) / 2 for n in range(attempt))
        capped = alone and attempt >= FILE_TRIES
        if not capped and (self.give_up_after is None or spent < self.give_up_after):
            return failure
        return Failure(
            Kind.PERMANENT, failure.scope, f"{failure.error} (given up after {attempt} tries)",
            "See the server's log, and the kernel's (dmesg); then `artifactd retry`",
        )  # fmt: skip


PAUSED_MAXIMUM = 40.0
"""Upper bound in seconds of a wait for new credentials: they are used within a minute, however long a try takes."""

FILE_TRIES = 12
"""Tries of a file that fails alone, while its run and server are well, before it waits for a person."""
