"""PostgreSQL of a test: Debian's programs, a cluster of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from stores.running import NotThereError
from support import free_port

_DEBIAN = Path("/usr/lib/postgresql")
_USER = "mlf"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster that can be stopped, started and frozen.

    Attributes:
        folder: All that it has.
        port: On 127.0.0.1.
        programs: Where ``pg_ctl`` lies.
        user: Whom it runs as; None for ourselves.
    """

    folder: Path
    port: int
    programs: Path
    user: int | None

    @property
    def uri(self) -> str:
        """For ``--backend-store-uri``; the bare ``postgresql://`` means psycopg 3 with today's SQLAlchemy."""
        return f"postgresql+psycopg2://{_USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Return when it takes connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._do(
            "pg_ctl", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """End it and every connection to it."""
        self._do("pg_ctl", "-w", "-m", "immediate", "-D", str(self.folder / "data"), "stop")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stand, and nothing answers."""
        postmaster = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        all_of_it = [postmaster, *postmaster.children(recursive=True)]
        for process in all_of_it:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in all_of_it:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def make(self) -> None:
        """A new cluster that trusts whoever comes over 127.0.0.1."""
        self._do("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", _USER, "-E", "UTF8", "--no-sync")

    def _do(self, program: str, *args: str) -> None:
        # Into a file: the postmaster keeps what it was started with, and a pipe would never end.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(
                [str(self.programs / program), *args],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, user=self.user, cwd=self.folder, check=False,
                timeout=60,
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read()


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running cluster, removed afterwards.

    Raises:
        NotThereError: PostgreSQL's server is not installed.
    """
    found = sorted(_DEBIAN.glob("*/bin/pg_ctl"), key=lambda p: float(p.parent.parent.name))
    if not found:
        raise NotThereError("PostgreSQL is not installed: apt-get install postgresql")
    # Not below pytest's folder, which is root's alone: PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user, -1)
    try:
        made = Postgres(folder, free_port(), found[-1].parent, user)
        made.make()
        made.start()
        try:
            yield made
        finally:
            with contextlib.suppress(AssertionError):  # a test may have stopped it
                made.stop()
    finally:
        shutil.rmtree(folder)
