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
from artifactd.wayback.find import Found, find_runs
from artifactd.wayback.shelf import Shelf

WHAT = "RUN|DIR"


class Back:
    """The settings, the ledger (None when there is none) and the way to the server."""

    def __init__(self, config: Config, report: Report | None) -> None:
        self.config = config
        self.report = report

    def find(self, what: str | None) -> list[Found]:
        """The runs that are meant by a run id or a folder; all for None."""
        return find_runs(self.report, None if what is None else os.fsencode(what), mask(self.config.tracking_uri))

    def shelf(self) -> Shelf:
        """Make contact with the server; the seconds of MLflow's import are spent here."""
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
