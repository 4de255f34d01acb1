"""artifactd before a store, as a benchmark uses it: files are dropped, receipts are read from its log."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from costs import MIB
from receipts import Receipts

from stores.form import Form
from support import Program, wait_for

SETTLE = 0.3
"""Seconds of the settle time that ``support.Program`` sets by itself."""

USUAL_SETTLE = 5.0
"""Seconds that users have, who set none."""

RUN = "run-1"


class Service:
    """The real command, watching a folder of its own.

    Args:
        base: A folder for all of it; dropped sources must be on its disk.
        form: The store.
        experiment: Its name there.
        watch: Further keys of the watch.
        environ: Further variables; ``PYTHONPATH`` runs another version of the program.
        wrapper: A command that becomes the service.
        settle: Seconds.
    """

    def __init__(
        self, base: Path, form: Form, *, experiment: str = "benchmark", watch: str = "",
        environ: dict[str, str] | None = None, wrapper: tuple[str, ...] = (), settle: float = SETTLE,
    ) -> None:  # fmt: skip
        location = "" if form.artifact_location is None else f'artifact_location = "{form.artifact_location}"\n'
        base.mkdir(parents=True, exist_ok=True)
        self.program = Program(base, tracking_uri=form.tracking_uri, more=location, watch=watch, settle=settle)
        self.settle = settle
        self.program.wrapper = wrapper
        self.receipts = Receipts(self.program.log)
        self.experiment = self.program.drop / experiment
        self.run = self.experiment / RUN
        self._environ = {**form.environ, **(environ or {})}
        self._ends = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.run.mkdir(parents=True, exist_ok=True)
        self._process = self._ends.enter_context(self.program.running(**self._environ))
        return self

    def __exit__(self, *_: object) -> None:
        self._process = None
        self._ends.close()

    @property
    def pid(self) -> int:
        """Of the main process."""
        assert self._process is not None
        return self._process.pid

    def another_run(self, name: str) -> None:
        """From now on `run` is another folder."""
        self.run = self.experiment / name
        self.run.mkdir()

    def drop(self, source: Path, *, into: Path | None = None, deadline: float = 900) -> float:
        """Move a folder into the watched one; seconds until its last file is stored.

        Args:
            source: Was written at least a settle time ago.
            into: The run's folder, or `run`.
            deadline: Seconds.
        """
        files = sum(path.is_file() for path in source.rglob("*"))
        begun = time.time()
        source.rename((into or self.run) / source.name)
        return self.all_stored(f"{source.name}/", files, begun, deadline) - begun

    def all_stored(self, prefix: str, files: int, since: float, deadline: float = 900) -> float:
        """Wait until so many artifacts whose path begins so are stored since then; unix seconds of the last receipt."""
        end = time.monotonic() + deadline
        while True:
            # Counted twenty times a second at most: the machine has other things to do.
            time.sleep(0.05)
            stored = self.receipts.stored()
            if len(stored) >= files:
                times = [at for name, at in stored.items() if at >= since and name.startswith(prefix)]
                if len(times) >= files:
                    return max(times)
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > end:
                why = "the service has ended" if ended else f"not within {deadline:.0f} s: {files} of {prefix}"
                raise AssertionError(f"{why}\n{self.program.text()[-3000:]}")

    def rests(self, deadline: float = 150) -> None:
        """Wait until no delivery process is left."""
        from costs import family  # noqa: PLC0415

        wait_for(lambda: len(family(self.pid)) == 1, "the delivery processes leave", deadline)


def write_files(folder: Path, files: int, size: int, name: Callable[[int], str] = "{}.bin".format) -> Path:
    """Make a folder of files that differ; they count as at rest once this returns."""
    folder.mkdir(parents=True)
    block = os.urandom(min(size, MIB))
    for n in range(files):
        with (folder / name(n)).open("wb") as f:
            f.write(n.to_bytes(4)[:size])
            for start in range(4, size, MIB):
                f.write(block[: min(size - start, MIB)])
    time.sleep(SETTLE + 0.1)
    return folder
