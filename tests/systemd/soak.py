"""A day of a training host in two hours, under the unit in a real systemd: does anything grow, and does all arrive?

    python tests/systemd/soak.py --hours 2 [--seed N] [--samples FILE]

Runs begin, write, overwrite, append and end; between them the host rests until the delivery process has left, and then
the service is weighed. Old run folders are removed once they are stored, as on a host that lives for months, so what
is watched stays the same. The server is away for a minute now and then, the configuration is read anew, and somebody
always looks at the page. Ends with 1 where the service grew, was started anew, or did not deliver each byte.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import hashlib
import http.client
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as pytest's `pythonpath` does

import psutil
from scipy.stats import theilslopes

from conftest import end_server, start_server
from support import Oracle, free_port, idle, wait_for
from systemd.box import box, missing
from systemd.host import UNIT, Host

CYCLE, WORK = 360.0, 200.0
"""Seconds from one batch of runs to the next, and how many of them something is written in: a night's and a day's."""

WARM = 5
"""Cycles before the service counts as warm: imports, caches and the allocator's pools are made once, and each reload
begins the caches of folders anew."""

OUTAGE = 60.0
RUNS, STANDING = 300, 40
"""Runs that are over and stay for ever, and the files of each, two in a folder: looked at in each scan, more than the
page shows, and enough to fill each cache that has a bound at once, as it is on a host that has lived for months."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at rest. MiB are of the service's own process, the only one then."""

    hours: float
    anonymous: float
    """MiB that no file stands behind, which the kernel could take back only by swapping: what the service holds."""
    private: float
    """The same, and the pages of programs and libraries that nobody else has mapped: those it has come past so far."""
    pss: float
    fds: int
    threads: int
    restarts: int
    ledger: float
    """MiB of the ledger and its log."""
    stored: int
    left: int
    """What stands in its folder for temporary files."""


class Soak:
    """One host, one server, and what should be in the store.

    Args:
        host: Its box is up, its service is not.
        base: For the server's files.
        seed: Makes the same files again.
    """

    def __init__(self, host: Host, base: Path, seed: int) -> None:
        self._host, self._base = host, base
        self._random = random.Random(seed)  # noqa: S311 (contents of files)
        self._port, self._listener = free_port(), free_port()
        self._server = start_server(base, self._port)
        self._begun = time.monotonic()
        self.uri = f"http://127.0.0.1:{self._port}"
        self.wanted: dict[str, dict[str, str]] = collections.defaultdict(dict)
        self.samples: list[Sample] = []
        self.events = 0

    def start(self) -> None:
        """Configure and start the service, and let it store what stands."""
        self._host.set_up(self.uri)
        self._host.configure(
            'scan_interval = "30s"\n', tracking_uri=self.uri, more=f'[metrics]\nlisten = "127.0.0.1:{self._listener}"\n'
        )
        for run in range(RUNS):
            for number in range(STANDING):
                self._write(f"old-{run}", f"part-{number // 2}/{number}.bin", self._random.randbytes(1000))
            self._write(f"old-{run}", ".done", b"")
        self._host.start()

    def cycle(self, number: int) -> None:
        """Two runs, begun and ended; a rest; a sample."""
        runs = [f"run-{number}-{name}" for name in "ab"]
        began = time.monotonic()
        self._host.systemctl("reload", UNIT)
        while time.monotonic() < began + WORK:
            for run in runs:
                self._step(run)
            if number % 4 == 1 and self._server.poll() is None and WORK / 4 < time.monotonic() - began < WORK / 2:
                end_server(self._server)
            if self._server.poll() is not None and time.monotonic() - began > WORK / 4 + OUTAGE:
                self._server = start_server(self._base, self._port)
            time.sleep(2)
        if self._server.poll() is not None:
            self._server = start_server(self._base, self._port)
        for run in runs:
            self._write(run, ".done", b"")
        wait_for(lambda: idle(self._host.status()), "all stored", 300)
        wait_for(lambda: len(self._processes()) == 1, "the delivery process has left", 120)
        time.sleep(max(0.0, began + CYCLE - time.monotonic()))  # a rest is what is weighed
        wait_for(lambda: len(self._processes()) == 1, "the delivery process has left", 120)
        self.samples.append(self._sample())
        for run in (f"run-{number - 2}-{name}" for name in "ab"):
            shutil.rmtree(self._host.box.drop / "night" / run, ignore_errors=True)

    def _step(self, run: str) -> None:
        """What a training writes in a moment: a picture, a checkpoint over the last one, a line of the log."""
        chance = self._random
        files = self.wanted[f"night/{run}"]
        self._write(run, f"plots/{len(files)}.png", chance.randbytes(chance.randrange(1, 60_000)))
        self._write(run, "checkpoints/last.ckpt", chance.randbytes(chance.randrange(100_000, 400_000)))
        with (self._host.box.drop / "night" / run / "train.log").open("ab") as log:
            log.write(b"step %d loss %.6f\n" % (len(files), chance.random()))
        files["train.log"] = _digest((self._host.box.drop / "night" / run / "train.log").read_bytes())

    def _write(self, run: str, name: str, content: bytes) -> None:
        self._host.write(f"night/{run}/{name}", content)
        self.wanted[f"night/{run}"][name] = _digest(content)

    def _processes(self) -> list[psutil.Process]:
        group = self._host.box.group(UNIT)
        found = []
        for line in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(line)))
        return found

    def _sample(self) -> Sample:
        (service,) = self._processes()
        memory = service.memory_full_info()
        ledger = sum(p.stat().st_size for p in self._host.box.state.glob("ledger.db*"))
        status = self._host.status()
        looks = []
        for _ in range(9):  # who asks just then has a connection, and an answer
            anonymous = sum(part.anonymous for part in service.memory_maps())
            looks.append((service.num_fds(), service.num_threads(), anonymous))
            time.sleep(1)
        fds, threads, anonymous = (statistics.median_low(column) for column in zip(*looks, strict=True))
        return Sample(
            hours=(time.monotonic() - self._begun) / 3600,
            anonymous=anonymous / MIB, private=memory.uss / MIB, pss=memory.pss / MIB,
            fds=fds, threads=threads,
            restarts=int(self._host.show("NRestarts")["NRestarts"]), ledger=ledger / MIB, stored=status["stored"],
            left=sum(1 for _ in self._host.box.state.glob("staging/**/*")),
        )  # fmt: skip

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """Somebody has the page open, and Prometheus asks every ten seconds."""
        over = threading.Event()
        threads = [
            threading.Thread(target=_again, args=(one, over), daemon=True) for one in (self._read_events, self._scrape)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(30)

    def _read_events(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._listener, timeout=60)) as page:
            page.request("GET", "/events")
            answer = page.getresponse()
            for _ in range(600):
                answer.readline()
                self.events += 1

    def _scrape(self) -> None:
        for path in ("/metrics", "/", "/healthz"):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._listener, timeout=60)) as asked:
                asked.request("GET", path)
                asked.getresponse().read()
        time.sleep(10)

    def missing(self) -> list[str]:
        """What is not in the store as it was written last, by MLflow's own client."""
        oracle, wrong = Oracle(self.uri), []
        for name, files in self.wanted.items():
            experiment, run = name.split("/")
            with tempfile.TemporaryDirectory(dir=self._base) as folder:
                there = oracle.files(oracle.run(experiment, run).info.run_id, Path(folder))
            found = {path.decode(): _digest(content) for path, content in there.items()}
            wrong += [f"{name}/{path}" for path, digest in files.items() if found.get(path) != digest]
        return wrong

    def close(self) -> None:
        """End the server."""
        end_server(self._server)


def _again(work: Callable[[], None], over: threading.Event) -> None:
    while not over.wait(0.5):
        with contextlib.suppress(OSError, http.client.HTTPException):
            work()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def verdict(samples: list[Sample]) -> tuple[list[str], bool]:
    """Lines that say what changed while the service was warm, and whether it grew or was started anew."""
    warm = samples[WARM:]
    hours = [s.hours for s in warm]
    said, good = [f"{len(warm)} samples over {hours[-1] - hours[0]:.2f} h, each at rest:"], True
    for name in ("anonymous", "private", "pss"):
        values = [getattr(s, name) for s in warm]
        slope, _, low, high = theilslopes(values, hours, 0.95)
        said.append(
            f"{name}: {min(values):.2f} to {max(values):.2f} MiB; {slope:+.3f} MiB/h ({low:+.3f} to {high:+.3f})"
        )
        if name == "anonymous":  # code that is come past for the first time is not held, and counts in the others
            good &= bool(low <= 0)
    for name in ("fds", "threads", "restarts", "left"):
        values = [getattr(s, name) for s in warm]
        said.append(f"{name}: {min(values)} to {max(values)}")
        good &= min(values) == max(values)
    good &= warm[-1].restarts == 0
    return said, good


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--samples", type=Path, help="Write each sample into this CSV file as it is taken.")
    args = parser.parse_args()
    if why := missing():
        sys.exit(f"no systemd can be booted: {why}")
    sys.stdout.write(f"seed {args.seed}\n")
    with tempfile.TemporaryDirectory(prefix="artifactd-soak-") as folder:
        base = Path(folder)
        (base / "server").mkdir()
        with box(base, "soak", [UNIT]) as made:
            soak = Soak(Host(made), base / "server", args.seed)
            try:
                soak.start()
                with soak.looked_at():
                    _cycles(soak, args.hours, args.samples)
                lost = soak.missing()
                log = made.run("journalctl", "-u", UNIT, "-p", "warning", "-o", "cat", "--no-pager")
            finally:
                soak.close()
    said, good = verdict(soak.samples)
    written = sum(len(files) for files in soak.wanted.values())
    said.append(f"page: {soak.events} lines of its events read")
    said.append(f"{written} artifacts, {len(lost)} not in the store as written last")
    sys.stdout.write("\n".join([*said, *lost[:20]]) + "\n")
    kinds = collections.Counter(line.split(" ")[0] for line in log.splitlines())
    sys.stdout.write(f"warnings in the journal, by their first word: {dict(kinds)}\n")
    return 0 if good and not lost else 1


def _cycles(soak: Soak, hours: float, csv_file: Path | None) -> None:
    end = time.monotonic() + hours * 3600
    number = 0
    while number <= WARM + 1 or time.monotonic() < end:
        number += 1
        soak.cycle(number)
        sample = soak.samples[-1]
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {sample}\n")
        sys.stdout.flush()
        if csv_file is not None:
            with csv_file.open("a", newline="") as file:
                row = csv.writer(file)
                if number == 1:
                    row.writerow([field.name for field in fields(Sample)])
                row.writerow(astuple(sample))


if __name__ == "__main__":
    sys.exit(main())
