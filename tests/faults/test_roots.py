"""The watched root goes, comes, is replaced or goes blind: status says so, nothing is lost, nothing is sent twice."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy, creations, uploads
from faults.table import Row
from support import Oracle, Program, T, wait_for
from test_watched import Post, write

pytestmark = pytest.mark.timeout(200)  # so that a wait that fails can say how the service stands

OFTEN = 'scan_interval = "1s"\n'
"""Where events are what fails. All other tests leave it at five minutes: what arrives sooner was noticed."""

NO_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root without its capabilities: as any other user it may only do what a folder's mode says."""


class Site:
    """A service before a server with a proxy between them, and what its one run must hold in the end."""

    def __init__(self, base: Path, server: MlflowServer, proxy: Proxy, record: Callable[[Row], None]) -> None:
        self.program = Program(base, tracking_uri=proxy.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "1s"\n')
        self.drop = self.program.drop
        self.proxy = proxy
        self.oracle = Oracle(server.uri)
        self.states: dict[bytes, list[bytes]] = {}
        self.record = record
        self._sizes = itertools.count(3000)

    def also(self, line: str) -> None:
        """Say more of the watch; before the service starts, or before it reloads."""
        self.program.config.write_text(self.program.config.read_text() + line)

    def put(self, *names: str, root: Path | None = None) -> None:
        """Write new files, or files anew. No two contents have the same size, so that a listing tells them apart."""
        folder = (root or self.drop) / self.program.base.name / "r"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.states.setdefault(name.encode(), []).append(os.urandom(next(self._sizes)))
            (folder / name).write_bytes(self.states[name.encode()][-1])

    @contextlib.contextmanager
    def running(self, mode: str = "events") -> Iterator[subprocess.Popen[bytes]]:
        """The service, once it watches and has stored a first file."""
        self.put("before")
        with self.program.running() as service:
            self.wait_arrived()
            self.wait_view(mode)
            self.wait(lambda: self.program.status()["stored"] == len(self.states), "receipts are written", 30)
            yield service

    def wait(self, condition: Callable[[], T | None], what: str, deadline: float = 60) -> T:
        """As ``wait_for``; says how the service stands at the end of a wait that fails."""
        try:
            return wait_for(condition, what, deadline)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.program.status()}\n{self.program.text()[-3000:]}") from None

    def wait_arrived(self, deadline: float = 60) -> float:
        """Until the store lists what it shall hold, in one run. Returns seconds."""
        begun = time.monotonic()
        due = {name.decode(): len(states[-1]) for name, states in self.states.items()}
        self.wait(lambda: self.listed() == due, f"the store lists {list(due)}", deadline)
        return time.monotonic() - begun

    def wait_view(self, mode: str, *words: str, deadline: float = 60) -> dict[str, Any]:
        """Until status says that the watch is in this mode, and these words. Returns what it says."""

        def there() -> dict[str, Any] | None:
            view = self.view()
            return view if view.get("mode") == mode and all(w in view["detail"] for w in words) else None

        return self.wait(there, f"status says {mode} {words}", deadline)

    def wait_trouble(self) -> str:
        """Until status says that the watch is not well. Returns why."""
        (view,) = self.wait(
            lambda: [v for v in [self.view()] if v and not v["healthy"]], "status says that it is not well"
        )
        return str(view["detail"])

    def view(self) -> dict[str, Any]:
        view: dict[str, Any] = next(iter(self.program.status().get("watches", ())), {})
        return view

    def hears(self, name: str) -> None:
        """Events work: a new file arrives although the next scan is far."""
        self.wait_view("events")
        self.put(name)
        self.wait_arrived()

    def judge(self, fault: str, to: Path, *took: float) -> None:
        """Read the store back, put a row into the table (what each time took to mend), and insist that it is clean."""
        runs = self.oracle.runs(self.program.base.name)
        found = self.oracle.files(runs[0].info.run_id, to)
        lost = [name for name, states in self.states.items() if found.get(name) != states[-1]]
        torn = [name for name, content in found.items() if content not in self.states.get(name, ())]
        row = Row(fault, len(took), len(lost), len(torn), self.proxy.counts.repeats, len(runs) - 1, max(took))
        self.record(row)
        assert not lost
        assert not torn
        assert (row.sends, row.runs) == (0, 0)
        assert "Traceback" not in self.program.text()

    def listed(self) -> dict[str, int]:
        """What the store lists: size by path."""
        return {path: size for run in self.oracle.runs(self.program.base.name) for path, size in self._below(run, None)}

    def _below(self, run: Any, path: str | None) -> Iterator[tuple[str, int]]:
        for entry in self.oracle.client.list_artifacts(run.info.run_id, path):
            if entry.is_dir:
                yield from self._below(run, entry.path)
            else:
                yield entry.path, entry.file_size


def pause(seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, what)


@pytest.fixture
def site(mlflow_server: MlflowServer, proxy: Proxy, tmp_path: Path, record: Callable[[Row], None]) -> Site:
    return Site(tmp_path, mlflow_server, proxy, record)


# -- the folder goes and comes ---------------------------------------------------------------------------------------


def test_a_root_that_is_deleted_and_made_anew(site: Site, tmp_path: Path) -> None:
    """Made anew at once, it has the inode number of before on ext4, which gives it out again."""
    with site.running():
        shutil.rmtree(site.drop)
        assert not site.wait_view("waiting", "not there")["healthy"]
        assert site.program.status()["stored"] == 1
        site.drop.mkdir()
        site.put("during")
        later = site.wait_arrived()
        site.hears("between")
        inode = site.drop.stat().st_ino
        for _ in range(20):  # another program may have taken the number in between
            shutil.rmtree(site.drop)
            site.drop.mkdir()
            if site.drop.stat().st_ino == inode:
                break
        site.put("during 2")
        at_once = site.wait_arrived()
        site.hears("after")
    site.judge("root deleted, made anew later and at once", tmp_path / "back", later, at_once)


def test_a_root_that_is_renamed_away_and_comes_back(site: Site, tmp_path: Path) -> None:
    old = tmp_path / "old"
    site.put("both")
    with site.running():
        with site.proxy.misbehaving(Fault("refuse")):
            site.put("waiting")
            site.wait(lambda: site.program.status().get("pending") == 1, "a file waits for the server")
            site.drop.rename(old)
            assert not site.wait_view("waiting", "not there")["healthy"]
        pause(1, "the server is back, for whoever tries")
        before = site.proxy.counts.total()
        pause(3, "the file cannot be read in this time")
        assert site.proxy.counts.total() - before <= 5, "nothing is asked of the server for what cannot be read"
        status = site.program.status()
        assert (status["stored"], status["pending"], status["uploading"], status["failed"]) == (2, 1, 0, 0)

        waiting = site.states.pop(b"waiting")
        site.drop.mkdir()
        site.put("during", "both")
        site.wait_arrived()
        site.hears("more")

        # A job goes on writing into the folder that it has open, wherever that is now.
        site.put("away", root=old)
        site.drop.rename(tmp_path / "new")
        old.rename(site.drop)
        site.states[b"waiting"] = waiting
        site.states[b"both"].append(site.states[b"both"][0])
        took = site.wait_arrived()
        site.hears("after")
    site.judge("root renamed away, another in its place, back", tmp_path / "back", took)


@pytest.mark.root
def test_a_root_that_may_not_be_read_for_a_while(site: Site, tmp_path: Path) -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv: to write where the service may not read")
    site.program.wrapper = NO_RIGHTS
    with site.running():
        site.drop.chmod(0)
        try:
            site.put("during")
            why = site.wait_trouble()
            assert "ermission" in why or "may not" in why
            assert site.program.status()["stored"] == 1
        finally:
            site.drop.chmod(0o755)
        took = site.wait_arrived()
        site.hears("after")
        assert site.program.status()["failed"] == 0
    site.judge("root unreadable for a while", tmp_path / "back", took)


# -- mounts ----------------------------------------------------------------------------------------------------------


class Mount:
    """What can be mounted at the root and taken away again."""

    def __init__(self, point: Path, *command: str) -> None:
        self.point = point
        self.paths = (command[-1], str(point))
        self._command = [*command, str(point)]

    def up(self) -> None:
        subprocess.run(self._command, check=True, capture_output=True)

    def down(self, *how: str) -> bool:
        return subprocess.run(["umount", *how, str(self.point)], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def mounted(point: Path, *command: str) -> Iterator[Mount]:
    """Mounted at first; whatever is mounted there at the end is taken away."""
    if os.getuid() != 0 or shutil.which(command[0]) is None:
        pytest.skip(f"needs root and {command[0]}")
    mount = Mount(point, *command)
    try:
        try:
            mount.up()
        except subprocess.CalledProcessError as exc:
            pytest.skip(f"cannot be mounted here: {exc.stderr!r}")
        yield mount
    finally:
        while mount.down("--lazy"):
            pass


def disk(kind: str, base: Path) -> tuple[str, ...]:
    """The command that mounts a disk with a filesystem of its own, or a folder of another."""
    if kind == "bind":
        (base / "bound").mkdir()
        return "mount", "--bind", str(base / "bound")
    image = base / "image"
    with image.open("wb") as f:
        f.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
    return "mount", "-o", "loop", str(image)


def unmount(mount: Mount) -> None:
    """What a user does; a busy answer is one too many, but a turn of the service may just be looking."""
    wait_for(mount.down, "an idle service does not keep the disk from being unmounted", 5)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["disk", "bind"])
def test_a_root_that_is_unmounted_and_mounted_again(kind: str, site: Site, tmp_path: Path) -> None:
    """At once, device and inode are what they were, but the kernel dropped the watches with its disk."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    with mounted(site.drop, *disk(kind, tmp_path)) as mount, site.running():
        with site.proxy.misbehaving(Fault("refuse")):
            site.put("waiting")
            site.wait(lambda: site.program.status().get("pending") == 1, "a file waits for the server")
            unmount(mount)
            site.wait_trouble()
            pause(2, "some turns see the empty mount point, and that the file is not there now")
            status = site.program.status()
            assert (status["stored"], status["pending"]) == (1, 1), (
                "an empty mount point does not say that files are gone"
            )
            mount.up()
        later = site.wait_arrived()
        site.hears("between")
        unmount(mount)
        mount.up()
        site.put("during")
        at_once = site.wait_arrived()
        site.hears("after")
    site.judge(f"root unmounted, mounted later and at once ({kind})", tmp_path / "back", later, at_once)


@pytest.mark.root
def test_a_filesystem_that_gives_no_events_is_scanned_and_its_end_is_noticed(site: Site, tmp_path: Path) -> None:
    """bindfs: what is written into the folder below it makes no events above, as with any network filesystem."""
    below = tmp_path / "below"
    below.mkdir()
    site.also(OFTEN)
    with mounted(site.drop, "bindfs", str(below)) as mount, site.running("scan"):
        assert not site.wait_view("scan", "FUSE")["healthy"], "it is not what a user expects of auto"
        site.put("scanned", root=below)
        site.wait_arrived()
        (process,) = (p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["bindfs", *mount.paths])
        process.kill()
        site.put("during", root=below)
        assert not site.wait_view("waiting")["healthy"]
        assert mount.down("--lazy")
        mount.up()
        took = site.wait_arrived()
        site.wait_view("scan", "FUSE")
        site.put("after", root=below)
        site.wait_arrived()
    site.judge("FUSE without events; its process killed", tmp_path / "back", took)


# -- links -----------------------------------------------------------------------------------------------------------


def test_a_root_that_becomes_a_link_is_followed_only_when_told_to(site: Site, tmp_path: Path) -> None:
    """The link leads to a folder with the same names in it: a file that waits is not to be taken from there."""
    other = tmp_path / "other"
    names = ("before", "waiting", "secret")
    for name in names:
        write(other / tmp_path.name / "r", name)
    with site.running() as service:
        with site.proxy.misbehaving(Fault("refuse")):
            site.put("waiting")
            site.wait(lambda: site.program.status().get("pending") == 1, "a file waits for the server")
            site.drop.rename(tmp_path / "real")
            site.drop.symlink_to(other)
        # The server is back, perhaps before the service looks at the folder.
        assert not site.wait_view("waiting", "symbolic link", "reload")["healthy"]
        pause(6, "longer than a root that is away is left alone")
        assert site.listed().keys() == {"before"}, "nothing is taken from behind the link"
        service.send_signal(signal.SIGHUP)
        for name in names:
            site.states.setdefault(name.encode(), []).append(b"x")
        took = site.wait_arrived()
        site.hears("after")
    site.judge("root becomes a link, then reload", tmp_path / "back", took)


def test_a_root_that_was_a_link_is_followed_when_it_is_turned(site: Site, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    site.drop.rename(one)
    site.drop.symlink_to(one)
    two.mkdir()
    site.put("during", root=two)
    del site.states[b"during"]  # not due before the link is turned
    with site.running():
        assert site.listed().keys() == {"before"}
        (tmp_path / "link").symlink_to(two)
        (tmp_path / "link").rename(site.drop)
        site.states[b"during"] = [(two / tmp_path.name / "r" / "during").read_bytes()]
        took = site.wait_arrived()
        site.hears("after")
    site.judge("root is a link that is turned", tmp_path / "back", took)


# -- the kernel's limits ---------------------------------------------------------------------------------------------


class Limit:
    """A limit on inotify, as the kernel holds it for one user namespace alone: no other program's watches count."""

    def __init__(self, name: str, most: int) -> None:
        self._file = f"/proc/sys/user/{name}"
        self.wrapper = ("unshare", "--user", "--map-root-user", "sh", "-c", self._set(most) + ' && exec "$@"', "sh")

    def _set(self, most: int) -> str:
        return f"echo {most} > {self._file}"

    def require(self) -> None:
        if subprocess.run([*self.wrapper, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("needs user namespaces that may be made (unshare --user)")

    def change(self, service: subprocess.Popen[bytes], most: int) -> None:
        subprocess.run(["nsenter", "--user", f"--target={service.pid}", "sh", "-c", self._set(most)], check=True)


def kernel_watches(service: subprocess.Popen[bytes]) -> int:
    """How many inotify watches the process holds, as the kernel says."""
    found = 0
    for file in Path(f"/proc/{service.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += sum(line.startswith("inotify wd:") for line in file.read_text().splitlines())
    return found


def test_the_limit_of_watches_is_reached_while_the_service_runs(site: Site, tmp_path: Path) -> None:
    limit = Limit("max_inotify_watches", 5)
    limit.require()
    site.program.wrapper = limit.wrapper
    site.also(OFTEN)
    with site.running() as service:
        for n in range(5):
            site.put(f"d{n}/during")
        view = site.wait_view("scan", "max_user_watches")
        assert not view["healthy"]
        site.wait_arrived()
        site.put("scanned")
        site.wait_arrived()
        assert kernel_watches(service) == 0, "what is left of them is left to other programs"
        limit.change(service, 1000)
        begun = time.monotonic()
        assert site.wait_view("events")["healthy"]
        took = time.monotonic() - begun
        assert kernel_watches(service) == 8, "the root, its experiment, the run, and five folders"
        site.put("after")
        site.wait_arrived()
    site.judge("limit of watches reached, then raised", tmp_path / "back", took)


def test_no_watch_instance_is_left(site: Site, tmp_path: Path) -> None:
    limit = Limit("max_inotify_instances", 0)
    limit.require()
    site.program.wrapper = limit.wrapper
    site.also(OFTEN)
    with site.running("scan") as service:
        assert not site.wait_view("scan", "max_user_instances")["healthy"]
        site.put("during")
        site.wait_arrived()
        limit.change(service, 1)
        begun = time.monotonic()
        assert site.wait_view("events")["healthy"]
        took = time.monotonic() - begun
        assert kernel_watches(service) == 3
        site.put("after")
        site.wait_arrived()
    site.judge("no watch instance left, then one", tmp_path / "back", took)


# -- the watching itself ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is done
@pytest.mark.parametrize("end", [RuntimeError, SystemExit, None], ids=["error", "exit", "descriptor closed"])
def test_a_reading_thread_that_ends_is_noticed_and_replaced(
    end: type[BaseException] | None, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """In this process, where its thread can be reached: an exception put into it, or its descriptor taken from it."""
    post = Post(tmp_path)
    folder = post.drop / "e" / "r"
    write(folder, "before")
    post.turn_until("events")
    events = post.watched._events
    assert events is not None
    reader = events._reader
    assert reader is not None
    assert reader.ident is not None
    pipe = os.readlink(f"/proc/self/fd/{reader._kill_r}")
    try:
        if end is not None:
            # It meets the exception when it next runs: the event wakes it.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(reader.ident), ctypes.py_object(end))
            write(folder, "its last")
            wait_for(lambda: not reader.is_alive(), "the thread's end")
        else:
            # Something else in its place, which cannot be read: a number that is free would meet other files.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, reader._inotify_fd)
            os.close(null)
            write(folder, "its last")
        write(folder / "new", "during")
        begun = time.monotonic()
        wait_for(lambda: post.turn() is not None and post.rows() == 3, "what happened is found")
        took = time.monotonic() - begun
        post.turn_until("events")
        assert post.watched._events is not events, "it was replaced"
        write(folder / "new", "after")
        wait_for(lambda: post.turn() and post.rows() == 4, "the new one hears")
    finally:
        post.watched.close()
        kept = pipe in descriptors()
        if kept:
            reader._close_resources()
    assert not kept, "of the one that ended nothing is left open, or they would use up the limits"
    record(Row(f"reading thread: {'descriptor closed' if end is None else end.__name__}", 1, 0, recover=took))


def descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


def test_two_services_on_one_folder_take_turns(site: Site, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """Two state folders, so no lock of theirs keeps them apart. What the second had seen before is due there, too."""
    proxy = Proxy(mlflow_server.uri)
    second = Site(tmp_path / "second", mlflow_server, proxy, site.record)
    config = second.program.config
    config.write_text(config.read_text().replace(f'"{second.drop}"', f'"{site.drop}"'))
    site.put("before")
    try:
        with proxy.misbehaving(Fault("refuse")), second.program.running():
            second.wait(lambda: second.program.status().get("pending") == 1, "a file waits for the server")
            second.program.stop(signal.SIGKILL)
        with site.program.running() as first:
            with site.proxy.misbehaving(Fault("refuse")):
                site.wait_view("events")
                site.put("during")
                with second.program.running():
                    assert not second.wait_view("waiting", str(first.pid))["healthy"]
                    pause(6, "longer than a root that is away is left alone")
                    assert not changes(proxy), "the second sends nothing, although the first cannot"
            site.wait_arrived()
            with second.program.running():
                second.wait_view("waiting", str(first.pid))
                site.program.stop(signal.SIGKILL)
                site.put("after")
                took = site.wait_arrived()
                second.wait_view("events")
                second.program.wait_idle()
        assert [path.rpartition("/")[2] for path in changes(proxy)] == ["after"], "what the first stored is not sent"
        assert "Traceback" not in second.program.text()
    finally:
        proxy.close()
    site.judge("a second service takes over after SIGKILL", tmp_path / "back", took)


def changes(proxy: Proxy) -> list[str]:
    """Uploads and creations that came through."""
    return [path for method, path in list(proxy.counts.requests) if uploads(method, path) or creations(method, path)]
