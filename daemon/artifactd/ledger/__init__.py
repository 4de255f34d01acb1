"""The ledger: what artifactd remembers, in SQLite. The only SQL of the program lives in this room.

``schema`` opens and migrates the file, ``rows`` names what is in it, ``ledger`` is the service's side (one writer
at a time), ``report`` is the side of ``status``, ``explain`` and ``retry`` beside a running service, ``lock``
keeps it to one service per state folder.
"""

from artifactd.ledger.ledger import Ledger
from artifactd.ledger.lock import StateLock
from artifactd.ledger.order import Order
from artifactd.ledger.report import Report
from artifactd.ledger.rows import (
    END_REFUSED,
    NOTHING_SENT,
    Blockage,
    DueFile,
    FileId,
    FileView,
    Growth,
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

__all__ = [
    "END_REFUSED",
    "NOTHING_SENT",
    "Blockage",
    "DueFile",
    "FileId",
    "FileView",
    "Growth",
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
