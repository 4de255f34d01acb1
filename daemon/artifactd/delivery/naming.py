"""Versions' names, where changed files overwrite nothing: the next one of a file, and whether it is anybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import DueFile, Ledger, Run
from artifactd.ledger.destinations import destination
from artifactd.names import MAX_COMPONENT_BYTES
from artifactd.text import printable


def as_versions(
    ledger: Ledger, run: Run, claimed: Iterable[DueFile], under_way: Iterable[DueFile], now: float
) -> list[DueFile]:
    """Name claimed files as their contents shall be called.

    Args:
        ledger: Says which names are taken; told what becomes of files that are left out.
        run: Theirs.
        claimed: In order.
        under_way: What other jobs send into the run: their names are in no receipt yet.
        now: Unix seconds.

    Returns:
        Those that may be sent. One whose name is just being sent is put back; one whose name is another file's fails,
        with the reason.
    """
    sending = {version_destination(run, file) for file in under_way}
    going: list[DueFile] = []
    for one in claimed:
        # A growing file's snapshots are one artifact all the same.
        file = one if one.growth else ledger.as_next_version(one)
        name = version_destination(run, file)
        if name in sending:
            ledger.put_back(file.id)
        elif (failure := _refusal(ledger, run, file, name)) is not None:
            ledger.not_delivered(file.id, failure, now, touched=False)
        else:
            sending.add(name)
            going.append(file)
    return going


def version_destination(run: Run, file: DueFile) -> int:
    """The destination of the very artifact that a file's content becomes, versions told apart."""
    return destination(run.target, run.identity, _path(file))


def _path(file: DueFile) -> str:
    return f"{file.dir}/{file.leaf}" if file.dir else file.leaf


def _refusal(ledger: Ledger, run: Run, file: DueFile, name: int) -> Failure | None:
    holder = ledger.holder(name, file.id, run.id, _path(file))
    if holder is not None:
        why = f"is taken by {printable(holder)}"
    elif len(file.leaf.encode()) > MAX_COMPONENT_BYTES:
        why = "is too long for the store"
    else:
        return None
    what = "its version's name" if file.version > 1 else "its name in the run,"
    return Failure(Kind.PERMANENT, Scope.FILE, f"{what} {file.leaf} {why}", "Rename one of the files")
