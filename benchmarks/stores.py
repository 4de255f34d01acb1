"""Each store's throughput beside MLflow's own call for the same files: real servers, both in turn, in one run.

    .venv/bin/python benchmarks/stores.py [--only s3,sftp] [--files 500] [--size 512] [--rounds 5] [--large-rounds 3]

By hand: ``MlflowClient.log_artifact``, for a file, or in a loop for many. artifactd: the service, from the moment at
which a folder that was written before is moved into the watched one until the last receipt: looking, hashing, sending,
listing, comparing and the ledger are all in it. Left out on both sides: the start of the process, its imports, the
first connection and making the run. Before each measurement one small file goes the same way, and what was written
before is brought to the disk. Nothing is removed before the end: for minutes after thousands of files were deleted,
ext4 makes new ones at a fraction of its rate (it passes over each inode that was freed lately).

At most: the same small files by `HANDS` of MLflow's clients at a time, in a process each. That is as many as this
machine makes way for without a digest, a receipt or a listing. Busy: the part of all cores' time that was used, by
whatever it was; what needs more of it cannot be as fast where it is all used.

A server on the same machine has no way to go, and its work takes the same cores. So small files are also sent to each
store, and to the tracking server, from `--away` milliseconds away, there and back.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from by_hand import ByHand
from costs import MIB
from distance import away
from dropping import Service, write_files
from machine import busy_since, machine, versions
from places import STORES
from rich.console import Console
from rich.table import Table

from stores.form import Form
from support import environment

RESULTS = Path(__file__).with_name("results-stores.json")
SMALL = 4096
"""Bytes of a small file."""
REACH = {"small": 3.0, "large": 0.95}
_PORT = re.compile(r"127\.0\.0\.1:(\d+)")
_EXPERIMENT = "benchmark"
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


def far(form: Form, milliseconds: float, ends: ExitStack) -> Form:
    """The same store from afar, and its tracking server too."""
    name = f"{form.name}, {milliseconds:g} ms away"
    return replace(behind(form, lambda port: ends.enter_context(away(port, milliseconds / 1000))), name=name)


def behind(form: Form, relay: Callable[[int], int]) -> Form:
    """The same store, and its tracking server, by way of other ports: `relay` gives one for one."""
    ports = set(_PORT.findall(" ".join((form.tracking_uri, form.artifact_location or "", *form.environ.values()))))
    moved = {port: str(relay(int(port))) for port in ports}

    def elsewhere(text: str) -> str:
        return _PORT.sub(lambda found: f"127.0.0.1:{moved[found[1]]}", text)

    if "HOME" in form.environ:  # SSH knows a server by its port
        known = Path(form.environ["HOME"]) / ".ssh" / "known_hosts"
        lines = known.read_text()
        known.write_text(lines + "".join(lines.replace(f"]:{old} ", f"]:{new} ") for old, new in moved.items()))
    location = None if form.artifact_location is None else elsewhere(form.artifact_location)
    environ = {name: elsewhere(value) for name, value in form.environ.items()}
    return replace(form, tracking_uri=elsewhere(form.tracking_uri), artifact_location=location, environ=environ)


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
        self._form = form
        self._service = Service(base, form, experiment=f"{_EXPERIMENT}, {form.name}")
        self._sources = base / "sources"
        self._ends = ExitStack()
        self._round = 0

    def __enter__(self) -> Bench:
        self._by_hand = self._begin_hand()
        # The first one makes the tables of a SQLite store, which MLflow does badly when several do it at a time.
        self._run = self._by_hand.run(f"{_EXPERIMENT}, by hand, {self._form.name}", self._form.artifact_location)
        self._hands = [self._by_hand, *(self._begin_hand() for _ in range(HANDS - 1))]
        self._ends.enter_context(self._service)
        return self

    def _begin_hand(self) -> ByHand:
        hand = ByHand(self._form.tracking_uri, environment(**self._form.environ))
        self._ends.callback(hand.close)
        return hand

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
            send(write_files(self._sources / f"warm-{name}", HANDS, 1))
            source = write_files(self._sources / name, row.files, row.size)
            os.sync()
            seconds, busy = send(source)
            taken.append(seconds)
            row.busy.setdefault(what, []).append(busy)

    def _log_by_hand(self, source: Path) -> tuple[float, float]:
        before = psutil.cpu_times()
        seconds = self._by_hand.log(self._run, sorted(map(str, source.iterdir())), source.name)
        return seconds, busy_since(before)

    def _log_by_hands(self, source: Path) -> tuple[float, float]:
        files = sorted(map(str, source.iterdir()))
        before, begun = psutil.cpu_times(), time.perf_counter()
        with ThreadPoolExecutor(HANDS) as threads:
            shares = [files[n::HANDS] for n in range(HANDS)]
            list(threads.map(lambda hand, share: hand.log(self._run, share, source.name), self._hands, shares))
        return time.perf_counter() - begun, busy_since(before)

    def _drop(self, source: Path) -> tuple[float, float]:
        before = psutil.cpu_times()
        seconds = self._service.drop(source)
        return seconds, busy_since(before)


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
        "machine": machine(),
        "versions": versions(),
        "rows": kept + measured,
    }
    options.results.write_text(json.dumps(results, indent=2) + "\n")


def _rounded(seconds: list[float]) -> list[float]:
    return [round(s, 3) for s in seconds]


if __name__ == "__main__":
    main()
