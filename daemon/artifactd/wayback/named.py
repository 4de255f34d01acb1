"""What a name means that is no folder and no run id: a run, or a model, which the server is asked for."""

from __future__ import annotations

from artifactd.errors import ArtifactdError
from artifactd.ledger import Report
from artifactd.tracking.lookup import PREFIX
from artifactd.wayback.find import Found, UnknownError, find_runs
from artifactd.wayback.shelf import Shelf


def may_be_name(what: str) -> bool:
    """Whether this can be a name on the server, and is not plainly a path."""
    return not what.startswith(("/", ".", "~")) and bool(what.strip())


def find_named(shelf: Shelf, report: Report | None, what: str, target: str, unknown: UnknownError) -> list[Found]:
    """Find the run of ``experiment/run name``, or a model.

    Args:
        shelf: The server.
        report: The ledger, None when there is none.
        what: The name; with ``models:/`` before it, that of a model.
        target: The tracking URI without secrets, as the ledger names it.
        unknown: What to say when the server knows neither.

    Raises:
        ArtifactdError: Several runs have that name; or nothing has it.
    """
    if not what.startswith(PREFIX):
        ids = shelf.named(what)
        if len(ids) == 1:
            return find_runs(report, ids[0].encode(), target)
        if ids:
            listed = "\n  ".join(ids)
            raise ArtifactdError(
                f"{len(ids)} runs are named {what}", f"Give one of them by its id, the newest first:\n  {listed}"
            )
    model = shelf.model(what)
    if model is None:
        raise unknown
    return [Found(model.run_id, model=model)]
