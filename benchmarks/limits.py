"""How well `[upload] bandwidth_limit` is kept, store by store: real servers, the service, and a meter on the way.

    .venv/bin/python benchmarks/limits.py [--only s3,sftp] [--limit 8] [--seconds 10] [--workers 4] [--size 64]
                                        [--key read_limit]

What is counted is what comes by at a relay before the store and its tracking server: files, headers, questions. For a
folder of this machine it is what the folder grows by. After the first measurement the limit is doubled by a reload, and
measured again while the same uploads go on. Kept means: within 5%. Of `--key read_limit` half is expected to come by:
what is read for a digest counts, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from rich.console import Console
from rich.table import Table

from stores.form import Form
from support import Program, wait_for

MIB = 2**20
KEPT = 0.05
_BLOCK = 256 * 1024
_BEGUN = 1.0
"""Seconds after the first bytes, and after a reload, that are left out."""


def main() -> None:
    """Measure and print."""
    stores = _stores()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(stores.STORES), help="some of " + ",".join(stores.STORES))
    parser.add_argument("--limit", type=float, default=8, help="MiB/s")
    parser.add_argument("--key", choices=["bandwidth_limit", "read_limit"], default="bandwidth_limit")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--size", type=float, default=64, help="MiB of each file")
    options = parser.parse_args()
    rows = []
    for name in options.only.split(","):
        with ExitStack() as ends:
            base = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="artifactd-bench-")))
            (base / "store").mkdir()
            form: Form = stores.STORES[name](base / "store", ends)
            meter = Meter()
            count = meter.count
            if form.tracking_uri.startswith("http"):
                form = stores.behind(form, meter.before)
            else:
                count = lambda: _held(base / "store" / "artifacts")  # noqa: B023, E731 (asked in this round alone)
            rows += measure(base, form, count, options)
            print(rows[-2:], file=sys.stderr, flush=True)
    Console(width=100).print(table(rows))


def _stores() -> Any:
    """``stores.py`` beside this; by the name alone it would be the tests' package."""
    spec = importlib.util.spec_from_file_location("bench_stores", Path(__file__).with_name("stores.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: bytes/s that were allowed, and that came by."""

    store: str
    limit: float
    rate: float


def measure(base: Path, form: Form, count: Callable[[], int], options: argparse.Namespace) -> list[Row]:
    """One store at the limit, and at twice the limit."""
    location = "" if form.artifact_location is None else f'artifact_location = "{form.artifact_location}"\n'

    def configure(limit: float) -> str:
        return f'{location}[upload]\nworkers = {options.workers}\n{options.key} = "{int(limit * 1024)}KiB"\n'

    more = configure(options.limit)
    program = Program(base, tracking_uri=form.tracking_uri, more=more)
    seconds = 2 * (options.seconds + 2 * _BEGUN) + 5
    files = int(2 * options.limit * seconds / options.size) + options.workers
    folder = program.drop / "experiment" / "run"
    folder.mkdir(parents=True)
    for n in range(files):
        with (folder / f"{n}.bin").open("wb") as file:
            left = int(options.size * MIB)
            while left:
                left -= file.write(os.urandom(min(left, MIB)))
    with program.running(**form.environ) as service:
        wait_for(lambda: count() > 256 * 1024, f"bytes come by; log:\n{program.text()[-2000:]}", 60)
        rows = [Row(form.name, options.limit, _rate(count, options.seconds))]
        program.config.write_text(program.config.read_text().replace(more, configure(2 * options.limit)))
        service.send_signal(signal.SIGHUP)
        rows.append(Row(f"{form.name}, after a reload", 2 * options.limit, _rate(count, options.seconds)))
        for event in (e for e in program.events() if e["level"] in ("warning", "error")):
            print(event, file=sys.stderr)
        with suppress(ProcessLookupError):  # it would finish what it has in hand
            os.killpg(service.pid, signal.SIGKILL)
    return rows


def _rate(count: Callable[[], int], seconds: float) -> float:
    """MiB/s over so many seconds."""
    time.sleep(_BEGUN)
    before, begun = count(), time.perf_counter()
    time.sleep(seconds)
    return (count() - before) / (time.perf_counter() - begun) / MIB


def _held(folder: Path) -> int:
    held = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                held += os.stat(os.path.join(here, name)).st_size
    return held


class Meter:
    """Relays that count what goes up."""

    def __init__(self) -> None:
        self._sums: list[list[int]] = []

    def count(self) -> int:
        """Bytes so far."""
        return sum(s[0] for s in self._sums)

    def before(self, port: int) -> int:
        """Another port for a local one."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._serve, args=(listening, port), daemon=True).start()
        return int(listening.getsockname()[1])

    def _serve(self, listening: socket.socket, port: int) -> None:
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", port))
            up, down = [0], [0]
            self._sums.append(up)
            threading.Thread(target=_pass_on, args=(near, far, up), daemon=True).start()
            threading.Thread(target=_pass_on, args=(far, near, down), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, passed: list[int]) -> None:
    with suppress(OSError):
        while block := source.recv(_BLOCK):
            passed[0] += len(block)
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def table(rows: list[Row]) -> Table:
    """All that was measured."""
    shown = Table(title="what comes by, and what may")
    for title in ("store", "limit", "rate", "rate / limit"):
        shown.add_column(title, justify="left" if title == "store" else "right", no_wrap=True)
    for row in rows:
        ratio = row.rate / row.limit
        colour = "green" if abs(ratio - 1) <= KEPT else "red"
        shown.add_row(row.store, f"{row.limit:g} MiB/s", f"{row.rate:.2f} MiB/s", f"[{colour}]{ratio:.3f}")
    return shown


if __name__ == "__main__":
    main()
