"""Which runs a person means by a run id or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from artifactd.errors import ArtifactdError
from artifactd.ledger import FileView, Report, VersionView
from artifactd.ledger.runviews import RunView
from artifactd.paths import within
from artifactd.text import printable
from artifactd.tracking.lookup import Model

_RUN_ID = re.compile(rb"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Found:
    """A run that is meant.

    Attributes:
        run_id: Its id on the server.
        views: What the ledger knows of it, one for each folder that delivers into it; none for a foreign run.
        place: The run folder relative to the folder that was asked for; ``b""`` when it is that folder, or no folder
            was.
        only: An absolute folder inside the run folder, to which the question is confined.
        model: Not a run but this model is meant; `run_id` is where it comes from, "" for nowhere.
    """

    run_id: str
    views: tuple[RunView, ...] = ()
    place: bytes = b""
    only: bytes | None = None
    model: Model | None = None

    @property
    def title(self) -> str:
        """The run as people know it."""
        if self.model is not None:
            return self.model.title
        return f"{self.views[0].experiment}/{self.views[0].run}" if self.views else self.run_id

    def files(self, report: Report | None) -> list[FileView]:
        """What the ledger knows of its files."""
        if report is None:
            return []
        files = [file for view in self.views for file in report.files(run=view.row)]
        return [file for file in files if self.only is None or within(file.path, self.only)]

    def versions(self, report: Report | None) -> list[VersionView]:
        """What the ledger knows of the contents that its files had."""
        if report is None:
            return []
        versions = [version for view in self.views for version in report.versions(view.row)]
        return [version for version in versions if self.only is None or within(version.path, self.only)]


class UnknownError(ArtifactdError):
    """The ledger knows no run for it."""


def find_runs(report: Report | None, what: bytes | None, target: str) -> list[Found]:
    """Find the runs that are meant, in the order in which they were first seen.

    Args:
        report: The ledger, None when there is none.
        what: A run id, or the path of a run folder, of one above it or of one inside it; None for all runs.
        target: The tracking URI without secrets, as the ledger names it.

    Raises:
        UnknownError: No run is known for it.
        ArtifactdError: It is known on another server alone.
    """
    views = [view for view in (report.runs() if report is not None else []) if view.run_id is not None]
    # A folder that was given another run later keeps the old one's row, without files.
    views = [view for view in views if view.stored or view.pending or view.failed] or views
    if what is not None and _RUN_ID.fullmatch(what):
        run_id = what.decode()
        mine = [view for view in views if view.run_id == run_id]
        return _grouped(_on(target, mine), None) if mine else [Found(run_id)]
    path = what if what is None or report is None else report.own_path(what)
    found = [view for view in views if path is None or within(view.folder, path)]
    inside = [view for view in views if path is not None and within(path, view.folder)]
    if not found and not inside:
        raise _unknown(path)
    if found:
        return _grouped(_on(target, found), path)
    nearest = max(len(view.folder) for view in inside)  # and not the run that this one is nested in
    inside = [view for view in inside if len(view.folder) == nearest]
    return [Found(str(view.run_id), (view,), only=path) for view in _on(target, inside)]


def _grouped(views: Sequence[RunView], base: bytes | None) -> list[Found]:
    runs: dict[str, list[RunView]] = {}
    for view in views:
        runs.setdefault(str(view.run_id), []).append(view)
    return [
        Found(run_id, tuple(of), b"" if base is None else _below(of[0].folder, base)) for run_id, of in runs.items()
    ]


def _below(folder: bytes, base: bytes) -> bytes:
    return b"" if folder == base else os.path.relpath(folder, base)


def _on(target: str, views: Sequence[RunView]) -> list[RunView]:
    here = [view for view in views if view.target == target]
    if not here:
        elsewhere = ", ".join(dict.fromkeys(view.target for view in views))
        raise ArtifactdError(
            f"it was delivered to {elsewhere}, and the configuration names {target}",
            "Name that configuration with --config, or that server with MLFLOW_TRACKING_URI",
        )
    return here


def _unknown(path: bytes | None) -> UnknownError:
    if path is None:
        return UnknownError("the ledger knows no run yet", "`artifactd status` says what is under way")
    path = os.path.abspath(path)
    cure = "`artifactd status` lists the runs; a run id of 32 hex digits works too"
    if re.fullmatch(rb"[0-9A-Fa-f]{6,31}", os.path.basename(path)) and not os.path.exists(path):
        cure = "A run id has 32 hex digits: give it whole; `artifactd status --json` has it"
    return UnknownError(f"no run is known for {printable(path)}", cure)
