"""Delivered files are removed (``after_upload = "delete"``): whatever fails, only what the store holds goes."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from faults.table import Row
from support import Oracle, Program, tree, wait_for

WORKERS = 2
MORE = f'[upload]\nworkers = {WORKERS}\n[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
DELETE = 'after_upload = "delete"\nscan_interval = "1s"\n'
KILLS = 20 if os.environ.get("ARTIFACTD_TEST_BIG") else 5
MOST_LEFT = 25
"""Files on disk at which the stream waits for removals."""
RACE_SECONDS = 5.0
REWRITES = 3
"""Times that one name is changed in a race: more in a row would be spaced out."""


@dataclass
class Site:
    """A service that removes what it delivered, and a run folder."""

    program: Program
    proxy: Proxy
    server: MlflowServer
    made: dict[bytes, bytes] = field(default_factory=dict)
    """What came to rest last under each name, on disk or not."""
    ever: dict[bytes, set[bytes]] = field(default_factory=dict)
    """All that ever came to rest under it."""

    @property
    def folder(self) -> Path:
        return self.program.drop / self.program.base.name / "r"

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.rests(name, content)
        return path

    def replace(self, name: str, content: bytes) -> None:
        """As training jobs save a checkpoint: written beside it, then renamed over it."""
        newer = self.folder / "newer.tmp"
        newer.write_bytes(content)
        newer.replace(self.folder / name)
        self.rests(name, content)

    def rests(self, name: str, content: bytes) -> None:
        """Note what was written under a name."""
        self.made[os.fsencode(name)] = content
        self.ever.setdefault(os.fsencode(name), set()).add(content)

    @cached_property
    def shelf(self) -> Path:
        """Where the server keeps the run's artifacts."""
        run = Oracle(self.server.uri).run(self.program.base.name, "r")
        return Path(self.server.artifact_root, run.info.experiment_id, run.info.run_id, "artifacts")

    def left(self) -> set[bytes]:
        """Names of the files on disk; they may go while they are listed."""
        root = os.fsencode(self.folder)
        found = (os.path.join(here, name) for here, _, names in os.walk(root) for name in names)
        return {os.path.relpath(path, root) for path in found if not os.path.islink(path)}

    def missing(self) -> list[bytes]:
        """Files that are gone from disk although the store does not hold what they held last."""
        made, left = dict(self.made), self.left()
        held = tree(self.shelf)
        return [name for name, content in made.items() if name not in left and held.get(name) != content]

    def wait_left(self, *names: str) -> None:
        """Until nothing but these is left on disk."""
        rest = {os.fsencode(name) for name in names}
        wait_for(lambda: self.left() == rest, f"all but {rest} goes: {self.left()}\n{self.tail()}", 60)

    def wrong(self, to: Path) -> tuple[list[bytes], list[bytes]]:
        """What is lost, and what is held that the file never was, by MLflow's own client."""
        oracle = Oracle(self.server.uri)
        held = oracle.files(oracle.run(self.program.base.name, "r").info.run_id, to)
        lost = [name for name, content in self.made.items() if held.get(name) != content]
        return lost, [name for name, content in held.items() if content not in self.ever.get(name, ())]

    def unreceipted(self) -> int:
        """Uploads begun that no receipt followed: what was in flight at a kill."""
        begun = sum(n for (method, _), n in list(self.proxy.counts.requests.items()) if method == "PUT")
        return begun - self.program.text().count('"event": "stored"')

    def assert_exact(self, to: Path) -> None:
        assert self.wrong(to) == ([], [])
        assert "Traceback" not in self.program.text()

    def tail(self) -> str:
        return self.program.text()[-3000:]


@pytest.fixture
def site(proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    made = Site(Program(tmp_path, tracking_uri=proxy.uri, watch=DELETE, more=MORE), proxy, mlflow_server)
    made.put("first", b"1")
    return made


# -- kills -------------------------------------------------------------------------------------------------------


@contextmanager
def stream(site: Site, seed: int) -> Iterator[None]:
    """Files that come while the service lives and dies, as fast as they go; some under the name of one that went."""
    rng = random.Random(seed)  # noqa: S311  (a sequence that can be made again)
    over = threading.Event()

    def make() -> None:
        n = 0
        while not over.wait(0.02):
            left = site.left()
            if len(left) >= MOST_LEFT:
                continue
            n += 1
            gone = [name for name in list(site.made)[-60:] if name not in left]
            again = gone and rng.random() < 0.2
            name = os.fsdecode(rng.choice(gone)) if again else f"d{rng.randrange(3)}/f{n}"
            site.put(name, rng.randbytes(rng.choice((0, 1, 100, 4096, 20_000))) + b"%d" % n)

    maker = threading.Thread(target=make)
    maker.start()
    try:
        yield
    finally:
        over.set()
        maker.join()


def kill_at(program: Program, point: str) -> None:
    """A service until it is killed at this step."""
    service = program.start(_ARTIFACTD_FAILPOINT=point)
    try:
        wait_for(lambda: service.poll() is not None, f"{point} is reached\n{program.text()[-3000:]}", 60)
        assert service.returncode == -signal.SIGKILL, program.text()[-3000:]
    finally:
        service.kill()
        service.wait()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", ["remove.before", "remove.aside", "remove.after"])
def test_a_service_killed_at_a_removal_has_removed_only_what_the_store_holds(
    point: str, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    rng = random.Random(point)  # noqa: S311  (see above)
    with stream(site, seed=11):
        for kill in range(KILLS):
            # At once, with what an earlier life delivered, or later, between deliveries.
            kill_at(site.program, f"{point}:{rng.choice((1, 3, 10, MOST_LEFT + 5))}")
            assert not site.missing(), f"kill {kill}"
    in_flight = site.unreceipted()
    begun = time.monotonic()
    with site.program.running():
        site.wait_left()
        took = time.monotonic() - begun
    lost, torn = site.wrong(tmp_path / "back")
    repeats = site.proxy.counts.repeats
    record(Row(f"killed at {point}", KILLS, len(lost), len(torn), repeats, 0, took))
    assert (lost, torn) == ([], [])
    assert repeats <= in_flight
    assert "Traceback" not in site.program.text()


# -- files that are not what they were ---------------------------------------------------------------------------


def test_what_changed_or_is_in_use_between_its_receipt_and_its_removal_stays(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """The receipt is written by a service that keeps everything; the next one removes."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"this is not artifactd's to remove")
    names = ("rewritten", "same size", "grown", "replaced", "link", "folder", "touched", "read", "mapped", "open")
    paths = {name: site.put(name, os.urandom(5000)) for name in names}
    keeping = Program(tmp_path, tracking_uri=site.proxy.uri, more=MORE)
    assert keeping.call("sync").returncode == 0
    assert site.wrong(tmp_path / "before") == ([], [])

    site.put("rewritten", os.urandom(6000))
    before = paths["same size"].stat()
    site.put("same size", os.urandom(5000))
    os.utime(paths["same size"], ns=(before.st_atime_ns, before.st_mtime_ns))
    with paths["grown"].open("ab") as f:
        f.write(b"more")
    site.rests("grown", site.made[b"grown"] + b"more")
    site.replace("replaced", os.urandom(5000))
    paths["link"].unlink()
    paths["link"].symlink_to(outside)
    paths["folder"].unlink()
    paths["folder"].mkdir()
    os.utime(paths["touched"])
    read = paths["read"].open("rb")
    with paths["mapped"].open("rb") as f:
        mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    writing = paths["open"].open("r+b", buffering=0)
    in_use = ("read", "mapped", "open")

    removing = Program(tmp_path, tracking_uri=site.proxy.uri, watch=DELETE, more=MORE)
    with removing.running():
        try:
            site.wait_left(*in_use)
            site.rests("open", os.urandom(7000))
            writing.write(site.made[b"open"])
            moment = time.monotonic() + 2.5
            wait_for(lambda: time.monotonic() >= moment, "two scans")
            assert site.left() == {os.fsencode(name) for name in in_use}
            assert read.read() == site.made[b"read"]
            assert mapped[:] == site.made[b"mapped"]
        finally:
            for used in (read, mapped, writing):
                used.close()
        begun = time.monotonic()
        site.wait_left()
        took = time.monotonic() - begun
    assert paths["link"].is_symlink()
    assert outside.read_bytes() == b"this is not artifactd's to remove"
    assert paths["folder"].is_dir()
    lost, torn = site.wrong(tmp_path / "back")
    record(Row("changed or in use before the removal", len(names), len(lost), len(torn), site.proxy.counts.repeats,
               0, took))  # fmt: skip
    assert (lost, torn) == ([], [])
    assert "Traceback" not in site.program.text()


@contextmanager
def slowed(pid: int, seconds: float) -> Iterator[None]:
    """The process waits before each removal: what the scheduler does for microseconds is made long enough to meet."""
    if os.getuid() != 0 or shutil.which("strace") is None:
        pytest.skip("needs root and strace, to hold the service at the removal")
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat",
         "-e", f"inject=unlinkat:delay_enter={seconds * 1e6:.0f}", "-p", str(pid)],
    )  # fmt: skip
    try:
        wait_for(lambda: f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{pid}/status").read_text(), "it is traced")
        yield
    finally:
        tracer.terminate()
        tracer.wait(10)


def going(inode: int, pid: int) -> bool:
    """Whether the process holds a write lease on the file: its removal is under way."""
    leases = (line.split() for line in Path("/proc/locks").read_text().splitlines() if " LEASE " in line)
    return any(lease[3:5] == ["WRITE", str(pid)] and lease[5].endswith(f":{inode}") for lease in leases)


@pytest.mark.root
@pytest.mark.parametrize("how", ["replaced", "rewritten"])
def test_a_new_content_at_the_very_moment_of_the_removal_is_not_lost(
    how: str, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    times = 3
    with site.program.running() as service:
        site.wait_left()
        with slowed(service.pid, 0.5):
            for n in range(times):
                name = f"checkpoint-{n}"
                path = site.put(name, os.urandom(5000))
                wait_for(partial(going, path.stat().st_ino, service.pid), "its removal is under way")
                change = site.replace if how == "replaced" else site.put
                change(name, os.urandom(6000))
        begun = time.monotonic()
        site.wait_left()
        took = time.monotonic() - begun
    lost, torn = site.wrong(tmp_path / "back")
    record(Row(f"{how} at the moment of the removal", times, len(lost), len(torn), None, 0, took))
    assert (lost, torn) == ([], [])
    assert "Traceback" not in site.program.text()


class Racer:
    """Changes files from the moment that the store has them, when their receipt and their removal are to come."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._shelf = site.shelf
        self._rng = random.Random(seed)  # noqa: S311  (see above)
        self._names = (f"race-{n}" for n in range(100_000))
        self._slots: dict[str, tuple[int, float | None]] = {next(self._names): (0, None) for _ in range(6)}
        self._ways = (self._rewrite, self._same_size, self._grow, self._replace, self._hold)
        self.changes = 0
        for name in self._slots:
            site.put(name, self._content())

    def turn(self, now: float) -> None:
        """Look at every file once."""
        for name, (times, at) in list(self._slots.items()):
            if at is None:
                if self._held(name) == self._site.made[name.encode()]:
                    self._slots[name] = (times, now + self._rng.uniform(0, 0.4))
            elif now >= at:
                self._rng.choice(self._ways)(name)
                self.changes += 1
                self._slots[name] = (times + 1, None)
                if times + 1 == REWRITES:
                    del self._slots[name]
                    new = next(self._names)
                    self._site.put(new, self._content())
                    self._slots[new] = (0, None)

    def _held(self, name: str) -> bytes | None:
        try:
            return (self._shelf / name).read_bytes()
        except FileNotFoundError:
            return None

    def _content(self) -> bytes:
        return self._rng.randbytes(self._rng.randrange(1000, 9000))

    def _rewrite(self, name: str) -> None:
        self._site.put(name, self._content())

    def _same_size(self, name: str) -> None:
        self._in_place(name, self._rng.randbytes(len(self._site.made[name.encode()])))

    def _grow(self, name: str) -> None:
        self._in_place(name, self._site.made[name.encode()] + self._content())

    def _in_place(self, name: str, content: bytes) -> None:
        try:
            with (self._site.folder / name).open("r+b", buffering=0) as f:
                f.write(content)
        except FileNotFoundError:
            self._site.put(name, content)
        self._site.rests(name, content)

    def _replace(self, name: str) -> None:
        self._site.replace(name, self._content())

    def _hold(self, name: str) -> None:
        """Opened first, written a little later."""
        try:
            f = (self._site.folder / name).open("r+b", buffering=0)
        except FileNotFoundError:
            self._rewrite(name)
            return
        with f:
            moment = time.monotonic() + self._rng.uniform(0, 0.02)
            while time.monotonic() < moment:
                f.read(1)
            content = self._site.made[name.encode()] + b"written late"
            f.seek(0)
            f.write(content)
        self._site.rests(name, content)


@pytest.mark.timeout(200)
def test_a_race_of_a_writer_with_the_removal_loses_no_content(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with site.program.running():
        site.wait_left()
        racer = Racer(site, seed=5)
        hot = 0
        end = time.monotonic() + RACE_SECONDS
        while (now := time.monotonic()) < end:
            racer.turn(now)
            site.put("hot", b"%d" % hot)
            hot += 1
        begun = time.monotonic()
        site.wait_left()
        took = time.monotonic() - begun
    lost, torn = site.wrong(tmp_path / "back")
    record(Row("changed between upload and removal", racer.changes, len(lost), len(torn), site.proxy.counts.repeats,
               0, took))  # fmt: skip
    assert racer.changes > 20
    assert (lost, torn) == ([], [])
    assert "Traceback" not in site.program.text()


# -- a store that does not keep what it took ---------------------------------------------------------------------


def listings(method: str, path: str) -> bool:
    """Requests for what the store holds."""
    return method == "GET" and path.endswith("/artifacts")


_SHORT = b'{"files": [%s]}' % b", ".join(
    b'{"path": "precious-%d", "is_dir": false, "file_size": 4999}' % n for n in range(4)
)
_JSON = (("Content-Type", "application/json"),)
FAULTY = {
    "the listing fails": Fault("answer", listings, status=500, body=b"{}"),
    "the listing has another size": Fault("answer", listings, status=200, headers=_JSON, body=_SHORT),
    "the listing is empty": Fault("answer", listings, status=200, headers=_JSON, body=b'{"files": []}'),
    "the upload is acknowledged and dropped": Fault("answer", uploads, status=200, headers=_JSON, body=b"{}"),
}


@pytest.mark.timeout(200)
def test_what_the_store_does_not_list_with_its_size_stays_on_disk(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    took: dict[str, float] = {}
    with site.program.running():
        site.wait_left()
        for n, (name, fault) in enumerate(FAULTY.items()):
            wrong = site.proxy.counts.wrong
            with site.proxy.misbehaving(fault):
                path = site.put(f"precious-{n}", os.urandom(5000))

                def tried(path: Path = path, wrong: int = wrong) -> bool:
                    assert path.exists(), site.tail()
                    return site.proxy.counts.wrong >= wrong + 3

                wait_for(tried, f"three tries while {name}\n{site.tail()}")
            healed = time.monotonic()
            site.wait_left()
            took[name] = time.monotonic() - healed
            assert not site.missing(), name
    for name, seconds in took.items():
        record(Row(f"delete: {name}", 3, 0, 0, None, 0, seconds))
    site.assert_exact(tmp_path / "back")


def test_folders_and_what_says_which_run_it_is_are_never_removed(site: Site, tmp_path: Path) -> None:
    folders = {site.folder / "empty", site.folder / "a", site.folder / "a" / "b", site.folder / "a" / "b" / "c"}
    (site.folder / "empty").mkdir()
    site.put("a/b/c/deep", b"deep")
    site.put("a/shallow", b"shallow")
    site.put("artifactd.toml", b'description = "kept"\n')
    site.put(".done", b"")
    oracle = Oracle(site.server.uri)
    with site.program.running():
        site.wait_left("artifactd.toml", ".done")
        wait_for(lambda: oracle.run(tmp_path.name, "r").info.status == "FINISHED", "the run ends")
        moment = time.monotonic() + 2.5
        wait_for(lambda: time.monotonic() >= moment, "two scans")
        assert site.left() == {b"artifactd.toml", b".done"}
    assert all(folder.is_dir() for folder in folders)
    assert oracle.run(tmp_path.name, "r").data.tags["mlflow.note.content"] == "kept"
    site.assert_exact(tmp_path / "back")
