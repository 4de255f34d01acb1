"""What can go wrong, in one small hierarchy: each error names the thing, the reason and the next step.

Two kinds live here. ``ArtifactdError`` ends a command and is printed as it stands. ``Failure`` is data: one
try's outcome as the retry policy and the ledger need it, cheap to send between processes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """How a failure is to be treated; the values are the contract's words in ``status --json``."""

    TRANSIENT = "transient"
    """Time mends it: try again with backoff."""
    PERMANENT = "permanent"
    """Time does not mend it: the file goes to 'failed' until a person or a change of the file acts."""
    PAUSED = "paused"
    """The whole target refuses us (credentials, permission, store): its files wait, one probe a backoff."""


class Scope(enum.StrEnum):
    """What a failure concerns: this file, its run, or everything that goes to the same target."""

    FILE = "file"
    RUN = "run"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one try did not succeed.

    Attributes:
        kind: How to treat it.
        scope: What it concerns.
        error: One line for people: the thing and the reason, secrets masked.
        cure: One line: what the user can do; empty when waiting is all there is.
        retry_after: Seconds that the server asked us to wait; 0 if it did not.
        crowded: It was asked for too much at a time.
    """

    kind: Kind
    scope: Scope
    error: str
    cure: str = ""
    retry_after: float = 0.0
    crowded: bool = False

    def __str__(self) -> str:
        return f"{self.error}. {self.cure}" if self.cure else self.error


def then_retry(cure: str, retry: str = "`artifactd retry`") -> str:
    """What to do about what is not tried again by itself, up to the try: done alone, it would change nothing.

    Args:
        cure: What to do first; empty where nobody knows.
        retry: The command that has it tried again.
    """
    if "artifactd retry" in cure or "looked at again" in cure:
        return cure
    return f"{cure or 'See to the reason'}; then {retry}"


class ArtifactdError(Exception):
    """An error a user can cause or mend; printed without a traceback.

    Attributes:
        exit_code: The command's exit code (the contract: 1 not in order, 2 usage, 75 unreachable).
    """

    exit_code = 1

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.cure}" if self.cure else self.problem


class UsageError(ArtifactdError):
    """Wrong flags, paths or configuration."""

    exit_code = 2


class UnreachableError(ArtifactdError):
    """The tracking server cannot be reached now; EX_TEMPFAIL, so schedulers try again."""

    exit_code = 75


class DeliveryError(ArtifactdError):
    """A try failed; carries the ``Failure`` that says how to go on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error, failure.cure)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Unstored:
    """A file that is not stored.

    Attributes:
        path: Absolute, as people may see it.
        reason: What it waits for, or that it failed.
        error: The last error; empty for none.
        cure: What the user can do; empty when waiting is all there is.
        kind: How the error is treated: transient, permanent, paused; None for no error.
        next_try: Unix seconds; None when no time is known.
        held: It is the server that takes nothing now.
    """

    path: str
    reason: str
    error: str = ""
    cure: str = ""
    kind: str | None = None
    next_try: float | None = None
    held: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}{f': {self.error}' if self.error else ''}"


class NotStoredError(ArtifactdError):
    """Not all of a folder is stored.

    Attributes:
        files: What is not, and why.
    """

    exit_code = 3

    def __init__(self, problem: str, cure: str, files: tuple[Unstored, ...]) -> None:
        super().__init__(problem, cure)
        self.files = files


class FailedError(NotStoredError):
    """Files failed, and time alone does not mend them."""


class WaitTimeoutError(NotStoredError):
    """The time is over, and files still wait."""
