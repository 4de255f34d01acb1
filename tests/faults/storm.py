"""The kill storm: the real service against a real server, killed, stopped and robbed of its processes while files come.

The bounded test and the soak are this same code; a seed makes the sequence of files and faults again.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from faults import oracle
from faults.proxy import Proxy
from faults.table import Row
from support import Program, environment, wait_for

POINTS = {
    "commit.before": 40, "commit.after": 40, "claims.handed_out": 8, "upload.before": 12, "upload.after": 12,
    "verify.before": 3, "verify.after": 3, "create_run.before": 1, "create_run.after": 1, "end_run.before": 1,
    "end_run.after": 1, "manifest.before": 1, "manifest.after": 1, "recover.after": 1, "nursery.born": 1,
}  # fmt: skip
"""Every named step, and at most the how-manieth time that it is killed at."""

OTHERS = ("SIGKILL", "SIGTERM", "SIGSTOP", "worker killed", "nursery killed")

_REACHED_WITHIN = 60.0
_STOPPED = 3.0
"""Seconds that SIGSTOP lasts."""


class Storm:
    """One service, one proxy, one oracle.

    Args:
        base: Folder for all of it.
        server_uri: The real server.
        seed: Of the files and the faults.
        rate: File operations per second.
        patience: Seconds in which all must be stored when the storm is over.
    """

    def __init__(self, base: Path, server_uri: str, seed: int, rate: float = 20.0, patience: float = 180.0) -> None:
        self._server_uri = server_uri
        self._patience = patience
        self._rng = random.Random(seed)  # noqa: S311  (a sequence that can be made again, not a secret)
        self.proxy = Proxy(server_uri)
        more = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
        self.program = Program(base, tracking_uri=self.proxy.uri, more=more)
        self._list = base / "oracle.json"
        self._back = base / "back"
        self._maker = subprocess.Popen(
            [sys.executable, oracle.__file__, "make", "--drop", str(self.program.drop), "--list", str(self._list),
             "--seed", str(seed), "--rate", str(rate)],
            stdin=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        self._done: Counter[str] = Counter()
        self._repeats: Counter[str] = Counter()
        self._at: list[tuple[str, float]] = []
        self._before = 0
        self.verdict: oracle.Verdict = {}

    def close(self) -> None:
        """End what still runs."""
        self._maker.kill()
        self._maker.wait()
        service = self.program._service
        if service is not None and service.poll() is None:
            service.kill()
            service.wait()
        self.proxy.close()

    def run(self, faults: Iterable[str]) -> None:
        """Do these faults one after the other; the service is started at once whenever it ends."""
        for fault in faults:
            self._cycle(fault)

    def _cycle(self, fault: str) -> None:
        if fault in POINTS:
            nth = self._rng.randint(1, POINTS[fault])
            service = self.program.start(_ARTIFACTD_FAILPOINT=f"{fault}:{nth}")
            wait_for(lambda: service.poll() is not None, f"{fault} is reached {nth} times", _REACHED_WITHIN)
            assert service.returncode == -signal.SIGKILL, f"{fault}:{nth}: {service.returncode}\n{self._tail()}"
            self._note(fault)
            return
        service = self.program.start()
        self._wait_stored(time.time())
        match fault:
            case "SIGKILL":
                moment = time.monotonic() + self._rng.uniform(0.0, 2.0)
                wait_for(lambda: time.monotonic() >= moment, "the moment of the kill")
                service.kill()
                service.wait()
            case "SIGTERM":
                service.terminate()
                code = service.wait(25)
                assert code == 0, f"SIGTERM: the service ended with {code}\n{self._tail()}"
            case "SIGSTOP":
                service.send_signal(signal.SIGSTOP)
                end = time.monotonic() + _STOPPED
                wait_for(lambda: time.monotonic() >= end, "a pause")
                service.send_signal(signal.SIGCONT)
            case _:
                victim = wait_for(lambda: child(service.pid, fault), f"there is a process for: {fault}")
                victim.kill()
        self._note(fault)
        if fault not in ("SIGKILL", "SIGTERM"):
            self._wait_stored(time.time())
            self.program.stop(signal.SIGKILL)
            self._note("SIGKILL")

    def _wait_stored(self, since: float) -> None:
        """Until something was stored after this moment; a service that ended by itself is started again."""

        def stored() -> bool:
            service = self.program._service
            if service is None or service.poll() is not None:
                self.program.start()
            return any(at > since for at in self._stored_at(self._tail(20_000)))

        wait_for(stored, f"something is stored; log:\n{self._tail()}", 60)

    def _note(self, fault: str) -> None:
        self._charge()
        self._done[fault] += 1
        self._at.append((fault, time.time()))

    def _charge(self) -> None:
        """What was sent again since the last fault is that fault's doing."""
        repeats = self.proxy.counts.repeats
        if self._at:
            self._repeats[self._at[-1][0]] += repeats - self._before
        self._before = repeats

    def finish(self) -> oracle.Verdict:
        """All quiet, everything delivered, and the oracle's word for it."""
        assert self._maker.stdin is not None
        self._maker.stdin.close()
        assert self._maker.wait(60) == 0
        sentinel = self.program.drop / "zz" / "sentinel" / "last"
        sentinel.parent.mkdir(parents=True, exist_ok=True)
        sentinel.write_bytes(os.urandom(8))
        self.program.start()
        self._wait_stored(time.time())
        quiet_since = time.monotonic()

        def quiet() -> bool:
            nonlocal quiet_since
            status = self.program.status()
            if not status or status["pending"] or status["uploading"]:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > 1.5

        wait_for(quiet, f"all is stored: {self.program.status()}\n{self._tail()}", self._patience)
        assert self.program.stop() == 0
        self._charge()
        done = subprocess.run(
            [sys.executable, oracle.__file__, "verdict", "--list", str(self._list), "--uri", self._server_uri,
             "--to", str(self._back)],
            capture_output=True, text=True, env=environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.verdict = json.loads(done.stdout.splitlines()[-1])
        return self.verdict

    def progress(self) -> str:
        """Where it stands, in a line."""
        return f"{sum(self._done.values())} kills and stops, {self.ratio:.3f} bytes sent per byte"

    @property
    def ratio(self) -> float:
        """Body bytes that were sent for each byte of new content."""
        return self.proxy.counts.sent() / max(1, self.proxy.counts.unique)

    def rows(self) -> list[Row]:
        """A row for each fault, and the verdict over all of them."""
        v = self.verdict
        took = self._recoveries()
        rows = [
            Row(name, times, sends=self._repeats[name], recover=max(took.get(name, ()), default=None))
            for name, times in sorted(self._done.items())
        ]
        total = Row(
            f"storm: {v['ops']} operations, {self.ratio:.3f} bytes sent per byte", sum(self._done.values()),
            len(v["lost"]), len(v["torn"]) + len(v["outside"]), self.proxy.counts.repeats, len(v["duplicate_runs"]),
            max((s for some in took.values() for s in some), default=None),
        )  # fmt: skip
        return [*rows, total]

    def _recoveries(self) -> dict[str, list[float]]:
        """Seconds from each fault to the next file stored, where no other fault came first."""
        stored = sorted(self._stored_at(self.program.text()))
        found: dict[str, list[float]] = {}
        for i, (fault, at) in enumerate(self._at):
            until = self._at[i + 1][1] if i + 1 < len(self._at) else float("inf")
            first = next((s for s in stored if s > at), None)
            if first is not None and first < until:
                found.setdefault(fault, []).append(first - at)
        return found

    @staticmethod
    def _stored_at(log: str) -> list[float]:
        lines = [line for line in log.splitlines() if '"stored"' in line and line.startswith("{") and line[-1] == "}"]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [dt.datetime.fromisoformat(e["timestamp"]).timestamp() for e in events if e["event"] == "stored"]

    def _tail(self, size: int = 3000) -> str:
        if not self.program.log.exists():
            return ""
        with self.program.log.open("rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - size))
            return f.read().decode(errors="replace")


def plan(seed: int, each: int) -> list[str]:
    """Every fault `each` times, in an order that the seed gives."""
    faults = [f for f in (*POINTS, *OTHERS) for _ in range(each)]
    random.Random(seed).shuffle(faults)  # noqa: S311  (see above)
    return faults


def child(pid: int, which: str) -> psutil.Process | None:
    """The nursery of this service, or one of its workers."""
    try:
        nursery = next((c for c in psutil.Process(pid).children() if "artifactd.delivery.nursery" in c.cmdline()), None)
        if nursery is None or which.startswith("nursery"):
            return nursery
        return next(iter(nursery.children()), None)
    except psutil.Error:
        return None
