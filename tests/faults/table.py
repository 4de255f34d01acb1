"""What the fault tests came to, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from support import aligned


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: Its name.
        times: How often it was done.
        lost: Files missing or stale in the store; None where one verdict at the end covers several faults.
        torn: Contents in the store that the file never had.
        sends: Uploads of what the same path held already.
        runs: Runs beyond one a folder.
        recover: Most seconds until a file was stored again.
    """

    fault: str
    times: int
    lost: int | None = None
    torn: int | None = None
    sends: int | None = None
    runs: int | None = None
    recover: float | None = None


_HEADS = ("fault", "times", "lost", "torn", "duplicate sends", "duplicate runs", "seconds to recover")


def lines(rows: Sequence[Row]) -> list[str]:
    """The table as text; a dot where it was not measured, or the storm's one verdict says it."""
    cells = [_HEADS] + [
        (r.fault, str(r.times), *(("." if n is None else str(n)) for n in (r.lost, r.torn, r.sends, r.runs)),
         "." if r.recover is None else f"{r.recover:.1f}")
        for r in rows
    ]  # fmt: skip
    return aligned(cells)
