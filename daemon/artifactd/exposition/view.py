"""What the page shows, as JSON: how all stands, a page of files, a page of runs. Each at a bounded cost.

Names and texts are made safe to print, and what may hold a secret is masked; the page takes all of it as text.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from artifactd import __version__
from artifactd.causes import coded
from artifactd.explain import wait_of
from artifactd.exposition.asked import Answer, Asked, plain
from artifactd.exposition.counts import Counts
from artifactd.exposition.links import run_page
from artifactd.ledger import Blockage, FileView, State
from artifactd.ledger.browse import NoSuchPageError, Wanted
from artifactd.ledger.runviews import RunView
from artifactd.metrics import Figures
from artifactd.secrets import mask
from artifactd.text import printable, visible

RATE_OVER = 5
"""Looks, a second each, over which a rate is taken."""

_FEW = 20
"""Held back servers and runs, and watched folders, that are named: one would be enough to act upon."""

_RUNS = 50
_LONGEST = 500
"""Characters of a filter."""

_STATES = {
    State.DUE: "waiting", State.UPLOADING: "uploading", State.STORED: "stored", State.FAILED: "failed",
    State.IGNORED: "ignored",
}  # fmt: skip

_FITTING: dict[str, Callable[[RunView], bool]] = {
    "all": lambda run: True,
    "open": lambda run: bool(run.pending or run.failed or run.error),
    "failed": lambda run: bool(run.failed or run.error or run.status in ("FAILED", "KILLED")),
    "running": lambda run: run.status == "RUNNING",
}


class View:
    """Used from one thread, that of the listener, once it is made.

    Args:
        counts: Of the ledger.
        figures: What the process counts.
        stalled: Whether the service's loop stands still.
    """

    def __init__(self, counts: Counts, figures: Figures, stalled: Callable[[], bool]) -> None:
        self._counts = counts
        self._figures = figures
        self._stalled = stalled
        self._past: deque[tuple[float, int, float]] = deque(maxlen=RATE_OVER + 1)

    def now(self) -> bytes:
        """How all stands, as one line; the same bytes while nothing changes."""
        counted = self._counts.all.get()
        totals = counted.totals
        held = {visible(what): block for what, block in counted.targets.items()}
        held |= {printable(folder): block for folder, block in counted.runs.items()}
        data = {
            "version": self._counts.version(),
            "program": __version__,
            "host": socket.gethostname(),
            "stalled": self._stalled(),
            "files": {name: totals.states.get(state, 0) for state, name in _STATES.items()},
            "bytes": {
                "waiting": totals.pending_bytes, "stored": totals.stored_bytes, "sent": totals.bytes_sent,
                "unique": totals.bytes_unique,
            },
            "oldest": totals.oldest_due,
            "runs": sum(counted.statuses.values()),
            "rate": self._rate(),
            "held": [_held(what, block) for what, block in list(held.items())[:_FEW]],
            "more_held": max(0, len(held) - _FEW),
            "watches": [
                {
                    "path": printable(w.path), "mode": w.mode, "healthy": w.healthy, "detail": _text(coded(w.detail)),
                    "cure": "" if w.healthy else w.next_step,
                }
                for w in sorted(counted.watches, key=lambda w: w.healthy)[:_FEW]
            ],
            "more_watches": max(0, len(counted.watches) - _FEW),
        }  # fmt: skip
        return json.dumps(data, separators=(",", ":")).encode()

    def unseen(self) -> None:
        """Nobody looks any more: what is kept for the next look goes."""
        self._past.clear()
        self._counts.by_run.forget()

    def files(self, asked: Asked) -> Answer:
        """A page of files: ``show``, ``text``, ``run`` and ``after`` say which."""
        query = asked.query
        now = time.time()
        try:
            wanted = Wanted(
                query.get("show", "open"), query.get("text", "")[:_LONGEST], _number(query.get("run", "")),
                query.get("after", ""),
            )  # fmt: skip
            with self._counts.browser.snapshot():
                page = self._counts.browser.page(wanted)
        except NoSuchPageError as exc:
            return plain(HTTPStatus.BAD_REQUEST, str(exc))
        return _json({"at": now, "files": [_file(file, now) for file in page.files], "after": page.after})

    def runs(self, asked: Asked) -> Answer:
        """A page of runs, the newest first: ``show``, ``text`` and ``after`` say which.

        Their counts may be those of an earlier ``version`` than that of now: then they are to be asked for again.
        """
        query = asked.query
        fits = _FITTING.get(query.get("show", "all"))
        try:
            before = _number(query.get("after", ""))
        except NoSuchPageError as exc:
            return plain(HTTPStatus.BAD_REQUEST, str(exc))
        if fits is None:
            return plain(HTTPStatus.BAD_REQUEST, "there is " + ", ".join(_FITTING))
        counts = self._counts.by_run.get()
        found = self._counts.browser.newest_runs(
            counts, before=before, text=query.get("text", "")[:_LONGEST], most=_RUNS + 1, fits=fits
        )
        after = str(found[_RUNS - 1].row) if len(found) > _RUNS else None
        return _json(
            {
                "at": time.time(),
                "version": self._counts.by_run.of,
                "runs": [_run(run) for run in found[:_RUNS]],
                "after": after,
            }
        )

    def _rate(self) -> dict[str, float]:
        seconds, size = self._figures.seconds, self._figures.sizes
        self._past.append((time.monotonic(), sum(seconds.counts), size.total))
        (begun, files, sent), (now, files_now, sent_now) = self._past[0], self._past[-1]
        span = now - begun
        if span <= 0:
            return {"files": 0.0, "bytes": 0.0}
        return {"files": round((files_now - files) / span, 1), "bytes": round((sent_now - sent) / span)}


def _held(what: str, block: Blockage) -> dict[str, Any]:
    return {
        "what": mask(what), "error": _text(coded(block.error)), "cure": _text(block.next_step), "kind": block.kind,
        "tries": block.attempts, "next": block.again,
    }  # fmt: skip


def _file(file: FileView, now: float) -> dict[str, Any]:
    why, cure, again = coded(file.error or ""), file.next_step, None
    if file.state in (State.DUE, State.UPLOADING):
        wait = wait_of(file, None, now)
        why = f"waits for {wait.reason}" + (f": {coded(wait.error)}" if wait.error else "")
        cure, again = wait.cure, wait.until
    elif file.state is State.IGNORED:
        why = "left out by a rule: artifactd explain names it"
    return {
        "path": printable(file.path),
        "state": _STATES[file.state],
        "retrying": file.state is State.DUE and file.kind is not None,
        "size": file.size,
        "stored_size": file.stored_size,
        "stored_at": file.stored_at,
        "experiment": _name(file.experiment),
        "run": _name(file.run),
        "row": file.run_row,
        "link": run_page(file.target or "", file.run_id),
        "artifact": _name(file.artifact_path),
        "why": _text(why),
        "cure": _text(cure),
        "next": again,
        "tries": file.attempts,
    }


def _run(run: RunView) -> dict[str, Any]:
    return {
        "row": run.row,
        "experiment": _name(run.experiment),
        "run": _name(run.run),
        "run_id": run.run_id,
        "link": run_page(run.target, run.run_id),
        "folder": printable(run.folder),
        "status": run.status,
        "stored": run.stored,
        "stored_bytes": run.stored_bytes,
        "waiting": run.pending,
        "failed": run.failed,
        "why": _text(coded(run.error) if run.error else run.reason),
        "since": None if run.error else run.since,
    }


def _name(name: str | None) -> str:
    return visible(name or "").replace("\n", "\\x0a")


def _text(text: str) -> str:
    return visible(mask(text))


def _number(text: str) -> int | None:
    """A row's number.

    Raises:
        NoSuchPageError: It is none.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise NoSuchPageError(f"{text[:20]!r} is no number of a row", "Begin with the first page")
    return int(text)


def _json(data: object) -> Answer:
    return Answer(HTTPStatus.OK, "application/json", json.dumps(data, separators=(",", ":")).encode())
