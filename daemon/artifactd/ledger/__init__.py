"""The ledger: what artifactd remembers, in SQLite. The only SQL of the program lives in this room.

``schema`` opens and migrates the file, ``rows`` names what is in it, ``ledger`` is the service's side (one writer
at a time), ``report`` is the side of ``status``, ``explain`` and ``retry`` beside a running service, ``lock``
keeps it to one service per state folder.

The service's side is imported when it is asked for: who only reads starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifactd.ledger.lock import StateLock
from artifactd.ledger.report import Report
from artifactd.ledger.rows import (
    END_REFUSED,
    NOTHING_SENT,
    Blockage,
    DueFile,
    FileId,
    FileView,
    Growth,
    Held,
    KnownFile,
    Name,
    Run,
    Runaway,
    State,
    Totals,
    VersionView,
    Wanted,
    WatchView,
)
from artifactd.ledger.schema import LedgerError

if TYPE_CHECKING:
    from artifactd.ledger.ledger import Ledger
    from artifactd.ledger.order import Order

__all__ = [
    "END_REFUSED",
    "NOTHING_SENT",
    "Blockage",
    "DueFile",
    "FileId",
    "FileView",
    "Growth",
    "Held",
    "KnownFile",
    "Ledger",
    "LedgerError",
    "Name",
    "Order",
    "Report",
    "Run",
    "Runaway",
    "State",
    "StateLock",
    "Totals",
    "VersionView",
    "Wanted",
    "WatchView",
]


def __getattr__(name: str) -> Any:
    """Import what writes when it is asked for."""
    if name not in ("Ledger", "Order"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 (readers do without)

    return getattr(importlib.import_module(f"{__name__}.{name.lower()}"), name)
