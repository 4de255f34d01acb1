"""Real folders before a real ledger, looked at by hand: what the tests of looks and of run folders share."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifactd.checkpoints import Checkpoint
from artifactd.layout import Layout, Route
from artifactd.ledger import DueFile, Ledger, Run, State
from artifactd.look import Looker
from artifactd.runs import Place
from artifactd.watching.inside import open_root
from artifactd.watching.scan import look, walk

SETTLE = 5.0
RUN_ID = "0123456789abcdef" * 2


class Desk:
    """A drop folder, its ledger, and looks at it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.drop = base / "drop"
        self.drop.mkdir()
        self.ledger = Ledger(base)
        self.root = self.ledger.use_roots([os.fsencode(self.drop)])[os.fsencode(self.drop)]
        self.fd = open_root(os.fsencode(self.drop))
        self.rules()

    def rules(
        self, *, exclude: Sequence[str] = (), routes: Sequence[Route] = (), template: str = "{experiment}/{run}",
        host: str = "h1", target: str = "http://m", fleet: bool = False, settle: float = SETTLE,
        checkpoints: Sequence[Checkpoint] = (), live: Sequence[str] = (), removes: bool = False, **constants: str,
    ) -> None:  # fmt: skip
        self.layout = Layout(
            template, constants=constants, include=["**"], exclude=exclude, live=live, routes=routes,
            checkpoints=checkpoints,
        )  # fmt: skip
        place = Place(target, host, fleet)
        self.looker = Looker(
            self.ledger, self.root, os.fsencode(self.drop), self.layout, settle, place, removes=removes
        )

    def watch_within(self, rel: str, template: str, experiment: str) -> None:
        """Watch a folder in the watched one in its stead."""
        os.close(self.fd)
        self.drop /= rel
        self.root = self.ledger.use_roots([os.fsencode(self.drop)])[os.fsencode(self.drop)]
        self.fd = open_root(os.fsencode(self.drop))
        self.rules(template=template, experiment=experiment)

    def write(self, rel: str, content: str = "x") -> Path:
        path = self.drop / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def scan(self, now: float | None = None) -> int:
        changed = 0
        with self.ledger.transaction():
            for listing in walk(self.fd):
                changed += self.looker.apply(self.fd, listing, now or time.time()).changed
        return changed

    def look(self, rel: bytes) -> None:
        self.looker.apply(self.fd, look(self.fd, rel), time.time())

    def due(self) -> dict[str, DueFile]:
        """What would be handed out when everything has come to rest; handed back at once."""
        later = time.time() + 100
        files = [f for run, _ in self.ledger.runs_with_due() for f in self.ledger.claim(run, later, 1000, 10**9)]
        for f in files:
            self.ledger.put_back(f.id)
        return {os.fsdecode(f.rel): f for f in files}

    def due_at(self, rel: str) -> float:
        folder, name = os.path.split(os.fsencode(rel))
        ident, _ = self.ledger.folder(self.root, folder, create=False) or (0, "")
        query = "SELECT due_at FROM files WHERE folder = ? AND name = ?"
        return float(self.ledger._con.execute(query, (ident, name)).fetchone()[0])

    def deliver(self) -> None:
        later = time.time() + 100
        for run, _ in self.ledger.runs_with_due():
            for f in self.ledger.claim(run, later, 1000, 10**9):
                self.ledger.delivered(f, b"d" * 32, size=f.signature.size, now=0, sent=True, due_again=0)

    def states(self, rel: bytes = b"e/r") -> dict[bytes, State]:
        folder, _ = self.ledger.folder(self.root, rel, create=True) or (0, "")
        return {name: known.state for name, known in self.ledger.known_files(folder).items()}

    def runs(self) -> list[Run]:
        return [self.ledger.run(run) for run, _ in self.ledger.runs_with_due()]


@contextlib.contextmanager
def at_desk(base: Path) -> Iterator[Desk]:
    """One below `base`, closed at the end."""
    made = Desk(base)
    try:
        yield made
    finally:
        os.close(made.fd)
        made.ledger.close()
