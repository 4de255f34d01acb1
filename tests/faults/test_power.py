"""Power cuts: what was acknowledged is there afterwards, nothing is there in half, and the store ends up exact."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from artifactd.ledger import Ledger, LedgerError
from conftest import MlflowServer
from faults import power
from faults.power import Disk
from faults.proxy import Proxy
from faults.table import Row
from support import Oracle, Program, environment, tree, wait_for

MOMENTS = 400
ROUNDS = 4
SIZE = 3000


@pytest.fixture(autouse=True)
def _strace(tmp_path: Path) -> None:
    """strace is there, and may do here what it does."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([*power.strace(tmp_path / "probe"), "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()}")


def held(image: power.Image, folder: Path) -> str:
    """What the ledger of an image holds; a reason in words when it cannot be used or is not whole."""
    power.write(image, folder)
    try:
        with closing(Ledger(folder)) as ledger:
            ledger._con.execute("PRAGMA synchronous = OFF")  # the image itself need not last
            (verdict,) = ledger._con.execute("PRAGMA integrity_check").fetchone()
            return power.digest(ledger) if verdict == "ok" else str(verdict)
    except (LedgerError, sqlite3.Error) as exc:
        return str(exc)


def test_a_ledger_keeps_what_it_acknowledged_and_no_half_of_a_step_at_whatever_call_the_power_fails(
    tmp_path: Path, record: Callable[[Row], None]
) -> None:
    state, acks, log = tmp_path / "state", tmp_path / "acks", tmp_path / "strace.log"
    state.mkdir()
    disk = Disk(state)
    with acks.open("wb") as out:
        command = [*power.strace(log), sys.executable, power.__file__, str(state), "1"]
        subprocess.run(command, stdout=out, env=environment(), check=True)
    states = acks.read_text().split()
    calls = list(power.calls(log, state, acks))
    # Every call of a checkpoint, of the opening and of the closing; of the others a share.
    rng = random.Random(1)  # noqa: S311  (a sequence that can be made again)
    moments = set(rng.sample(range(len(calls)), MOMENTS))
    moments |= {i for i, c in enumerate(calls) if c.name.startswith("unlink") or c.path.endswith((b".db", b"-journal"))}
    images = unsynced = acknowledged = 0
    wrong: list[tuple[int, str]] = []
    for i, call in enumerate(calls):
        if call.path == os.fsencode(acks):
            acknowledged += call.name == "write"
            assert call.name != "write" or call.said.decode().split() == [states[acknowledged - 1]]
        disk.apply(call)
        if i not in moments:
            continue
        unsynced += disk.unsynced
        # Before the first word the ledger may be there or not: it is made anew, and holds the same nothing.
        known = states[max(0, acknowledged - 1) :]
        for image in (disk.after_cut(), disk.after_cut(rng)):
            images += 1
            found = held(image, tmp_path / "image")
            # A step that was under way may have become durable before it could be acknowledged.
            if found not in known[:2]:
                wrong.append((i, found))
    assert disk.seen() == power.real(state), "the log says all that was written"
    assert acknowledged == len(states)
    lost = sum(found in states for _, found in wrong)
    record(Row("power cut, ledger", images, lost, len(wrong) - lost))
    assert unsynced > MOMENTS / 2, "a power cut at these moments loses something"
    assert not wrong


class Maker:
    """A user who makes files in two run folders, changes each once, and takes many a change back.

    No file is changed so often that the service would space out its uploads.

    Args:
        folders: The run folders.
        rng: Makes the same sequence again.
    """

    def __init__(self, folders: list[Path], rng: random.Random) -> None:
        self._folders = folders
        self._rng = rng
        self._ever: dict[Path, list[bytes]] = {}
        self._before: dict[Path, bytes] = {}
        for folder in folders:
            folder.mkdir(parents=True)
            for n in range(4):
                self._put(folder / f"first-{n}", rng.randbytes(SIZE))

    def act(self) -> None:
        """Change a file that was delivered, without a change of its size, or make one."""
        once = [path for path in self._before if len(self._ever[path]) == 1]
        if once and self._rng.random() < 0.7:
            self._put(self._rng.choice(once), self._rng.randbytes(SIZE))
        else:
            self._put(self._rng.choice(self._folders) / f"f{len(self._ever)}", self._rng.randbytes(SIZE))

    def begin(self) -> None:
        """A life of the service begins: what is there was delivered."""
        self._before = {path: contents[-1] for path, contents in self._ever.items()}
        for _ in range(6):
            self.act()

    def while_off(self) -> None:
        """Many a change is taken back; the file that was written last comes back empty, as they do."""
        last = max(self._ever, key=lambda p: p.stat().st_mtime_ns)
        for path, content in self._before.items():
            if self._ever[path][-1] != content and self._rng.random() < 0.7:
                self._put(path, content)
        self._put(last, b"")

    def wrong(self, oracle: Oracle, to: Path) -> tuple[int, int, int]:
        """Files that the store does not hold as they are, contents in it that never were, and runs too many."""
        lost = torn = more = 0
        for folder in self._folders:
            runs = [r for r in oracle.runs(folder.parent.name) if r.info.run_name == folder.name]
            more += len(runs) - 1
            found = oracle.files(runs[0].info.run_id, to / folder.name)
            lost += sum(found.get(name) != content for name, content in tree(folder).items())
            torn += sum(content not in self._ever[folder / os.fsdecode(name)] for name, content in found.items())
        return lost, torn, more

    def _put(self, path: Path, content: bytes) -> None:
        self._ever.setdefault(path, []).append(content)
        path.write_bytes(content)


@contextmanager
def traced(program: Program, log: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service under strace; in the end all of it is killed."""
    command = [*power.strace(log, *more), sys.executable, "-m", "artifactd", "run", "--log-format", "json"]
    with program.log.open("ab") as err:
        process = subprocess.Popen(
            [*command, "--config", str(program.config)], env=environment(), stdout=subprocess.DEVNULL, stderr=err,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def live(program: Program, maker: Maker, log: Path, over: Callable[[], bool], *more: str) -> None:
    """A life of the service, until the power fails."""
    stored = program.text().count('"stored"')
    with traced(program, log, *more) as service:

        def ended() -> bool:
            if program.text().count('"stored"') > stored:
                maker.act()
            end = time.monotonic() + 0.1
            wait_for(lambda: over() or time.monotonic() >= end, "a pause")
            return over() or service.poll() is not None

        wait_for(ended, "the moment of the power cut", 60)
        assert service.poll() in (None, -signal.SIGKILL), "it did not end by itself"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before a sync of the ledger", "after an upload"])
def test_a_service_that_comes_back_from_a_power_cut_makes_the_store_exact(
    when: str, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """Only the training host loses power: the server has all that was sent until then, and nothing that came later."""
    rng = random.Random(2)  # noqa: S311  (a sequence that can be made again)
    oracle = Oracle(mlflow_server.uri)
    program = Program(tmp_path, tracking_uri=proxy.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "1s"\n')
    maker = Maker([program.drop / tmp_path.name / name for name in ("a", "b")], rng)
    assert program.call("sync").returncode == 0
    lost = torn = runs = unsynced = 0
    for n in range(ROUNDS):
        maker.begin()
        disk, log = Disk(program.state), tmp_path / f"strace-{n}.log"
        if when == "after an upload":
            live(program, maker, log, partial(reached, proxy, proxy.counts.unique + SIZE * rng.randint(1, 8)))
        else:
            kill = f"inject=fdatasync:signal=SIGKILL:when={rng.randint(4, 30)}"
            live(program, maker, log, lambda: False, "-e", kill)
        for call in power.calls(log, program.state):
            disk.apply(call)
        assert disk.seen() == power.real(program.state), "the log says all that was written"
        unsynced += disk.unsynced
        power.write(disk.after_cut(rng if n % 2 else None), program.state)
        maker.while_off()
        done = program.call("sync")
        assert done.returncode == 0, done.stderr
        wrong = maker.wrong(oracle, tmp_path / f"back-{n}")
        lost, torn, runs = lost + wrong[0], torn + wrong[1], runs + wrong[2]
    record(Row(f"power cut {when}", ROUNDS, lost, torn, proxy.counts.repeats, runs))
    assert (lost, torn, runs) == (0, 0, 0)
    assert unsynced or when == "after an upload", "a power cut before a sync loses something"
    assert "Traceback" not in program.text()


def reached(proxy: Proxy, most: int) -> bool:
    """Whether the server has acknowledged so many bytes of uploads."""
    return proxy.counts.unique >= most
