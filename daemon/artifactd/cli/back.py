"""What ``ls``, ``pull``, ``verify`` and ``ui`` share: the ledger if there is one, and the server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from artifactd import log
from artifactd.cli import common
from artifactd.config import Config
from artifactd.ledger import LedgerError, Report
from artifactd.secrets import mask
from artifactd.settings import reader_config
from artifactd.tracking.environment import require_engine
from artifactd.tracking.lookup import PREFIX
from artifactd.wayback.find import Found, UnknownError, find_runs
from artifactd.wayback.named import find_named, may_be_name
from artifactd.wayback.shelf import Shelf

WHAT = "RUN|DIR"
MEANS = (
    "A run id, a folder at, above or inside a run folder, experiment/run-name, or a model: models:/name/3,"
    " models:/name@alias, a name (its newest version), models:/m-…"
)


class Back:
    """The settings, the ledger (None when there is none) and the way to the server."""

    def __init__(self, config: Config, report: Report | None) -> None:
        self.config = config
        self.report = report
        self._shelf: Shelf | None = None

    def find(self, what: str | None) -> list[Found]:
        """The runs, or the model, that are meant; all runs for None. The server is asked for names alone."""
        target = mask(self.config.tracking_uri)
        try:
            if what is not None and what.startswith(PREFIX):
                raise UnknownError(f"there is no model {what}", "MLflow's UI lists the registered models")
            return find_runs(self.report, None if what is None else os.fsencode(what), target)
        except UnknownError as exc:
            if what is None or not may_be_name(what):
                raise
            return find_named(self.shelf(), self.report, what, target, exc)

    def shelf(self) -> Shelf:
        """Make contact with the server; the seconds of MLflow's import are spent here, the first time."""
        if self._shelf is None:
            self._shelf = self._contact()
        return self._shelf

    def _contact(self) -> Shelf:
        log.configure("console", "error")  # MLflow's warnings are no answer to what was asked
        require_engine(self.config.tracking_uri)
        embedded = self.config.embedded_artifacts if self.config.embedded else None
        whom = "the embedded store" if self.config.embedded else mask(self.config.tracking_uri)
        with waiting(f"Asking {whom} …"):
            return Shelf(self.config.tracking_uri, embedded)


@contextlib.contextmanager
def back(file: Path | None, state_dir: Path | None) -> Iterator[Back]:
    """Open what is needed to look back.

    Args:
        file: ``--config``.
        state_dir: ``--state-dir``.
    """
    config = reader_config(file, state_dir)
    try:
        report = Report(config.state_dir)
    except LedgerError:
        if (config.state_dir / "ledger.db").exists():
            raise
        report = None
    try:
        yield Back(config, report)
    finally:
        if report is not None:
            report.close()


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something takes its time; nothing off a terminal."""
    console = common.messages()
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield
