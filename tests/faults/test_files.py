"""A file that changes while it is sent, and files of unusual kinds: what is stored is what rests on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import mmap
import os
import random
import shutil
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy, _Server, uploads
from faults.storm import child
from faults.table import Row
from support import Oracle, Program, idle, tree, wait_for

RETRY = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
SIZES = {"1 MiB": (2**20, 256 * 1024), "24 MiB": (24 * 2**20, 4 * 2**20)}
"""Bytes of the file, and bytes per second of its first upload: four to six seconds."""
SECRET = b"this stands outside of the watched folder and is nobody's artifact"
EDGE = 1000
"""Bytes within one page."""
BIG = pytest.mark.skipif(
    os.environ.get("ARTIFACTD_TEST_BIG") != "1", reason="big: takes gigabytes or minutes; ARTIFACTD_TEST_BIG=1 runs it"
)


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def sha_of(path: Path) -> bytes:
    """A file's digest, without holding the file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


class Wire(Proxy):
    """The proxy, with the memory of each upload that the server acknowledged.

    It takes packets of the size that a network has, and few at a time: over the loopback the kernel would hold all of a
    small file, so that the client had read it long before its first byte is seen here.
    """

    def __init__(self, upstream: str) -> None:
        self.took: defaultdict[str, list[tuple[bytes, float]]] = defaultdict(list)
        self.listing_takes = 0.0
        super().__init__(upstream)

    def _open(self, port: int) -> _Server:
        server = super()._open(port)
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        return server

    def meet(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Fault | None:
        if method == "GET" and path.endswith("/mlflow-artifacts/artifacts"):
            moment = time.monotonic() + self.listing_takes
            wait_for(lambda: time.monotonic() >= moment, "the listing took long", 60)
        return super().meet(method, path, headers)

    def note_upload(self, path: str, digest: bytes, size: int) -> None:
        super().note_upload(path, digest, size)
        self.took[os.path.basename(path)].append((digest, time.monotonic()))

    def digests(self, name: str) -> list[bytes]:
        """What the server took as the content of the file of this name, one after the other."""
        return [digest for digest, _ in self.took[name]]

    def repeats_of(self, name: str) -> int:
        """Uploads of what the file's last upload had brought."""
        sent = self.digests(name)
        return sum(a == b for a, b in itertools.pairwise(sent))

    def moving(self, name: str) -> bool:
        """Whether the upload of this file is under way: some of it came, and no answer was given."""
        with self.lock:
            came = any(
                p.endswith(f"/{name}") for (method, p), n in list(self.counts.bytes.items()) if method == "PUT" and n
            )
        return came and not self.took[name]


@pytest.fixture
def wire(mlflow_server: MlflowServer) -> Iterator[Wire]:
    made = Wire(mlflow_server.uri)
    yield made
    made.close()


@pytest.fixture
def program(wire: Wire, tmp_path: Path) -> Program:
    """A service that finds changed files by scans, too: no event tells of a name that was not the one written to."""
    made = Program(tmp_path, tracking_uri=wire.uri, watch='scan_interval = "1s"', more=RETRY)
    (made.drop / tmp_path.name / "r").mkdir(parents=True)
    return made


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the outside found: names of files that the store lacks or holds otherwise, contents that no file ever had,
    uploads of what the upload before had brought, and runs beyond the one."""

    lost: list[str]
    torn: list[str]
    repeats: int
    runs: int

    def row(self, fault: str, times: int, took: float | None) -> Row:
        return Row(fault, times, len(self.lost), len(self.torn), self.repeats, self.runs, took)

    def assert_exact(self) -> None:
        assert not self.lost
        assert not self.torn
        assert not self.runs


def judge(server: MlflowServer, wire: Wire, folder: Path, had: Mapping[str, Collection[bytes]], to: Path) -> Verdict:
    """Compare a run folder with its run, and both its run and all that was sent with the contents that its files had.

    Args:
        server: Asked by MLflow's own client.
        wire: What was sent to it.
        folder: The run folder, flat.
        had: Digests by name.
        to: Folder for the download.
    """
    oracle = Oracle(server.uri)
    runs = [r for r in oracle.runs(folder.parent.name) if r.info.run_name == folder.name]
    disk, store = tree(folder), oracle.files(runs[0].info.run_id, to)
    lost = [os.fsdecode(name) for name, content in disk.items() if store.get(name) != content]
    held = [(os.fsdecode(name), sha(content)) for name, content in store.items()]
    sent = [(name, digest) for name in had for digest in wire.digests(name)]
    torn = [name for name, digest in (*held, *sent) if digest not in had.get(name, ())]
    return Verdict(lost, torn, sum(map(wire.repeats_of, had)), len(runs) - 1)


def assert_calm(program: Program) -> None:
    """Nothing failed, and the log holds no complaint."""
    status = program.status()
    assert status["failed"] == 0
    assert status["failures"] == []
    assert "Traceback" not in program.text()
    assert not [e for e in program.events() if e["level"] in ("warning", "error", "critical")]


# -- changes under the upload ------------------------------------------------------------------------------------------

Change = Callable[[Path, bytes], list[bytes]]
"""Changes the file, whose content is given; returns the whole contents that it had since, the last one last."""


def grows(path: Path, old: bytes) -> list[bytes]:
    with path.open("ab") as f:
        f.write(b"g" * EDGE)
    return [old + b"g" * EDGE]


def shrinks(path: Path, old: bytes) -> list[bytes]:
    os.truncate(path, len(old) // 2)
    return [old[: len(old) // 2]]


def is_replaced(path: Path, old: bytes) -> list[bytes]:
    new = os.urandom(len(old))
    spare = path.with_name("spare.tmp")
    spare.write_bytes(new)
    spare.replace(path)
    return [new]


def is_rewritten(path: Path, old: bytes) -> list[bytes]:
    """In place, from the front, with the same size, and the time of before put back."""
    new, before = os.urandom(len(old)), path.stat()
    with path.open("r+b") as f:
        f.write(new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return [new]


def is_deleted(path: Path, _old: bytes) -> list[bytes]:
    path.unlink()
    return []


def becomes_unreadable(path: Path, _old: bytes) -> list[bytes]:
    path.chmod(0)
    return []


def is_written_through_a_mapping(path: Path, old: bytes) -> list[bytes]:
    """Its beginning, which was sent already, and then its end, which was not."""
    with path.open("r+b") as f, mmap.mmap(f.fileno(), 0) as mapping:
        mapping[:EDGE] = half = b"m" * EDGE
        mapping[-EDGE:] = half
    return [half + old[EDGE:], half + old[EDGE:-EDGE] + half]


def becomes_a_folder(path: Path, _old: bytes) -> list[bytes]:
    path.unlink()
    path.mkdir()
    return []


def becomes_a_link_to_the_outside(path: Path, _old: bytes) -> list[bytes]:
    path.unlink()
    path.symlink_to(outside(path))
    return []


def is_renamed(path: Path, _old: bytes) -> list[bytes]:
    path.rename(moved(path))
    return []


CHANGES: tuple[Change, ...] = (
    grows, shrinks, is_replaced, is_rewritten, is_deleted, becomes_unreadable, is_written_through_a_mapping,
    becomes_a_folder, becomes_a_link_to_the_outside, is_renamed,
)  # fmt: skip


def moved(path: Path) -> Path:
    return path.with_name(f"{path.name}-moved")


def outside(path: Path) -> Path:
    """A file beside the watched folder, for a file in a run folder."""
    return path.parents[3] / "outside"


@dataclasses.dataclass(frozen=True)
class Scene:
    """All changes done to files of one size.

    Attributes:
        label: The size.
        verdicts: By change, with the seconds until what rests was sent (None where nothing was left to send).
        unreadable: What `status` said of the files that the service may not read.
        log: The service's.
    """

    label: str
    verdicts: dict[Change, tuple[Verdict, float | None]]
    unreadable: list[str]
    log: str


@pytest.fixture(scope="module")
def powerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs of root's do without its power to read every file, as if they ran as another user."""
    with pytest.MonkeyPatch.context() as patch:
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("root may read every file, and setpriv is not there to take that away")
            python = tmp_path_factory.mktemp("bin") / "python"
            drop = "-dac_override,-dac_read_search"
            python.write_text(
                f'#!/bin/sh\nexec setpriv --inh-caps={drop} --bounding-set={drop} {sys.executable} "$@"\n'
            )
            python.chmod(0o755)
            patch.setattr(sys, "executable", str(python))
        yield


@pytest.fixture(scope="module", params=SIZES)
def scene(
    request: pytest.FixtureRequest,
    mlflow_server: MlflowServer,
    powerless: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """A run folder for each change, all at once: each with one file, which changes when its upload is under way."""
    size, rate = SIZES[request.param]
    base = tmp_path_factory.mktemp("files")
    wire = Wire(mlflow_server.uri)
    program = Program(base, tracking_uri=wire.uri, more=f"{RETRY}[upload]\nworkers = {len(CHANGES)}\n")
    (base / "outside").write_bytes(SECRET)
    experiment = program.drop / base.name
    waiting: dict[Change, tuple[Path, bytes]] = {}
    had: dict[Change, dict[str, set[bytes]]] = {}
    changed_at: dict[Change, float] = {}
    for change in CHANGES:
        path = experiment / change.__name__ / f"{change.__name__}.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(content := os.urandom(size))
        waiting[change] = path, content

    def change_what_moves() -> bool:
        for change, (path, old) in list(waiting.items()):
            if wire.moving(path.name):
                del waiting[change]
                changed_at[change] = time.monotonic()
                digests = {sha(content) for content in (old, *change(path, old))}
                assert wire.moving(path.name), f"{change.__name__}: the upload was over before the change was"
                had[change] = {path.name: digests, moved(path).name: digests}
        return not waiting

    def first_upload(method: str, path: str) -> bool:
        return method == "PUT" and path.endswith(".bin") and wire.counts.requests[method, path] == 1

    try:
        with program.running(), wire.misbehaving(Fault("throttle", first_upload, rate=rate)):
            wait_for(change_what_moves, "every upload is under way", 120)
            status = program.wait_idle(120)
            hidden = experiment / becomes_unreadable.__name__
            unreadable = [f["error"] for f in status["failures"] if f["path"].startswith(str(hidden))]
            for path in hidden.iterdir():
                path.chmod(0o644)
            assert program.call("retry", str(hidden)).returncode == 0
            wait_for(lambda: not (s := program.status())["failed"] and idle(s), "what is readable again is stored", 60)
        verdicts: dict[Change, tuple[Verdict, float | None]] = {}
        for change, names in had.items():
            folder = experiment / change.__name__
            sent_at = [at for name in os.listdir(folder) for _, at in wire.took[name]]
            took = max(sent_at) - changed_at[change] if sent_at else None
            verdicts[change] = judge(mlflow_server, wire, folder, names, base / "back" / change.__name__), took
        yield Scene(request.param, verdicts, unreadable, program.text())
    finally:
        wire.close()
        shutil.rmtree(base)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_is_stored_of_a_file_that_changes_while_it_is_sent_is_what_rests_on_the_disk(
    change: Change, scene: Scene, record: Callable[[Row], None]
) -> None:
    verdict, took = scene.verdicts[change]
    record(verdict.row(f"{change.__name__.replace('_', ' ')} while it is sent, {scene.label}", 1, took))
    verdict.assert_exact()
    assert "Traceback" not in scene.log


@pytest.mark.timeout(300)
def test_a_file_that_may_not_be_read_any_more_fails_with_the_cure(scene: Scene) -> None:
    assert scene.unreadable == ["the service's user may not read it [AD301]"]


def embedded(program: Program, experiment: str) -> Path:
    """The folder in which MLflow's client finds the artifacts of the embedded store's one run, without a copy."""
    oracle = Oracle(f"sqlite:///{program.state}/mlflow.db")
    return Path(oracle.client.download_artifacts(oracle.run(experiment, "r").info.run_id, ""))


def test_what_the_embedded_store_holds_was_never_torn_either(tmp_path: Path, record: Callable[[Row], None]) -> None:
    """The delivery is stopped in the middle of its copy, the file changes, and the delivery goes on."""
    program = Program(tmp_path, more=RETRY)
    folder = program.drop / "copied" / "r"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(b"1")
    torn: list[str] = []
    took: list[float] = []

    def copying(store: Path) -> bool:
        with suppress(FileNotFoundError):
            return any(part.stat().st_size for part in store.glob(".artifact.uploading.*"))
        return False

    def change_in_the_middle(change: Change, store: Path, nursery: psutil.Process) -> None:
        path, stored = folder / change.__name__, store / change.__name__
        path.write_bytes(old := os.urandom(64 * 2**20))
        wait_for(lambda: copying(store), "the copy is under way", pauses=(0.001,))
        workers = nursery.children()
        try:
            for worker in workers:
                worker.suspend()
            assert copying(store), "the copy was over before the change was"
            states = [sha(content) for content in (old, *change(path, old))]
            begun = time.monotonic()
        finally:
            for worker in workers:
                worker.resume()
        seen: dict[tuple[int, int], bytes] = {}

        def rests() -> bool:
            if not stored.exists():
                return False
            here = stored.stat().st_ino, stored.stat().st_ctime_ns
            if here not in seen:
                seen[here] = sha_of(stored)
            return seen[here] == states[-1]

        wait_for(rests, f"{change.__name__}: its last state is stored")
        took.append(time.monotonic() - begun)
        torn.extend(change.__name__ for digest in seen.values() if digest not in states)

    changes = (grows, shrinks, is_replaced, is_rewritten, is_written_through_a_mapping)
    with program.running() as service:
        program.wait_idle()
        store = embedded(program, "copied")
        for change in changes:
            change_in_the_middle(change, store, wait_for(lambda: child(service.pid, "nursery"), "there is a nursery"))
        program.wait_idle()
        assert_calm(program)
    stale = [path.name for path in folder.iterdir() if sha_of(store / path.name) != sha_of(path)]
    record(Row("changed while it is copied, 64 MiB", len(changes), len(stale), len(torn), None, None, max(took)))
    assert not stale
    assert not torn


# -- files that come, go and never rest --------------------------------------------------------------------------------


def test_a_file_that_never_comes_to_rest_is_never_stored_half(
    program: Program, wire: Wire, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    folder = program.drop / tmp_path.name / "r"
    (folder / "first").write_bytes(b"1")
    path, had, content = folder / "restless", {sha(b"1")}, b""
    rng = random.Random(5)  # noqa: S311  (a sequence that can be made again)
    with program.running():
        program.wait_idle()
        again = time.monotonic()
        end = again + 6

        def rewrite() -> bool:
            nonlocal again, content
            if time.monotonic() >= again:
                again = time.monotonic() + 0.05
                content = rng.randbytes(rng.randrange(50_000, 300_000))
                had.add(sha(content))
                with path.open("wb", buffering=0) as f:
                    for start in range(0, len(content), 50_000):
                        f.write(content[start : start + 50_000])
            return time.monotonic() > end

        wait_for(rewrite, "it comes to rest", 60)
        rested = time.monotonic()
        wait_for(lambda: wire.digests("restless")[-1:] == [sha(content)], "its last state is sent")
        took = wire.took["restless"][-1][1] - rested
        program.wait_idle()
        assert_calm(program)
    verdict = judge(mlflow_server, wire, folder, {"restless": had, "first": had}, tmp_path / "back")
    record(verdict.row("rewritten 20 times a second", len(had) - 1, took))
    verdict.assert_exact()


def test_checkpoints_of_which_the_oldest_goes_while_it_is_sent_are_no_trouble(
    program: Program, wire: Wire, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    rounds, kept, every = 40, 5, 0.15
    folder = program.drop / tmp_path.name / "r"
    had: dict[str, set[bytes]] = {"first": {sha(b"1")}}
    alive: list[Path] = []
    caught = 0
    with wire.misbehaving(Fault("throttle", uploads, rate=2 * 2**20)), program.running():
        (folder / "first").write_bytes(b"1")
        program.wait_idle()
        again = time.monotonic()

        def train() -> bool:
            nonlocal again, caught
            if time.monotonic() < again:
                return False
            again = time.monotonic() + every
            path = folder / f"epoch={len(had)}.ckpt"
            path.write_bytes(content := os.urandom(2 * 2**20))
            had[path.name] = {sha(content)}
            alive.append(path)
            if len(alive) > kept:
                caught += wire.moving(alive[0].name)
                alive.pop(0).unlink()
            return len(had) > rounds

        wait_for(train, "the job ends", 60)
        ended = time.monotonic()
        program.wait_idle()
        took = time.monotonic() - ended
        assert_calm(program)
    verdict = judge(mlflow_server, wire, folder, had, tmp_path / "back")
    record(verdict.row(f"checkpoints deleted, {caught} of them while sent", rounds - kept, took))
    assert caught, "no checkpoint was deleted while it was sent: nothing was proved"
    verdict.assert_exact()
    assert not verdict.repeats


# -- files of unusual kinds --------------------------------------------------------------------------------------------


def test_two_names_of_one_file_are_two_artifacts_that_both_follow_a_change(
    program: Program, wire: Wire, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    folder = program.drop / tmp_path.name / "r"
    (folder / "a").write_bytes(os.urandom(100_000))
    os.link(folder / "a", folder / "b")
    had = {sha_of(folder / "a")}
    with program.running():
        wait_for(lambda: wire.digests("a") and wire.digests("b"), "both are sent")
        program.wait_idle()
        with (folder / "a").open("r+b") as f:
            f.write(os.urandom(1000))
        changed = time.monotonic()
        had.add(sha_of(folder / "a"))
        wait_for(lambda: len(wire.digests("a")) == len(wire.digests("b")) == 2, "both are sent again")
        took = time.monotonic() - changed
        program.wait_idle()
        assert_calm(program)
    verdict = judge(mlflow_server, wire, folder, {"a": had, "b": had}, tmp_path / "back")
    record(verdict.row("one of two names written to", 1, took))
    verdict.assert_exact()
    assert not verdict.repeats


def test_a_name_for_a_file_outside_is_a_file_like_any_other(
    program: Program, wire: Wire, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    folder, elsewhere = program.drop / tmp_path.name / "r", tmp_path / "elsewhere"
    elsewhere.write_bytes(os.urandom(100_000))
    os.link(elsewhere, folder / "name")
    had = {sha_of(elsewhere)}
    with program.running():
        program.wait_idle()
        with elsewhere.open("r+b") as f:
            f.write(os.urandom(1000))
        changed = time.monotonic()
        had.add(sha_of(elsewhere))
        wait_for(lambda: len(wire.digests("name")) == 2, "a change from outside is found by a scan")
        took = time.monotonic() - changed
        program.wait_idle()
        elsewhere.unlink()  # the change time moves, the content does not
        moment = time.monotonic() + 3
        wait_for(lambda: time.monotonic() >= moment, "some scans")
        program.wait_idle()
        assert_calm(program)
    verdict = judge(mlflow_server, wire, folder, {"name": had}, tmp_path / "back")
    record(verdict.row("written to through a name outside", 1, took))
    verdict.assert_exact()
    assert not verdict.repeats, "a name that went elsewhere is no reason to send the content again"


def test_a_file_that_became_a_folder_and_a_folder_that_became_a_file_are_not_lost_in_silence(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """The store holds the one, nothing is deleted there, and it cannot hold the other under the same name."""
    folder = program.drop / tmp_path.name / "r"
    (folder / "folder").mkdir()
    for name in ("file", "folder/inner", "other"):
        (folder / name).write_bytes(name.encode())
    with program.running():
        wait_for(lambda: program.status().get("stored") == 3, "all are stored")
        stored = tree(folder)
        (folder / "file").unlink()
        (folder / "file").mkdir()
        (folder / "file" / "inner").write_bytes(b"new")
        shutil.rmtree(folder / "folder")
        (folder / "folder").write_bytes(b"new")
        (folder / "other").write_bytes(b"new")
        wait_for(lambda: program.status()["failed"] == 2, f"both fail: {program.status()}", 60)
        status = program.wait_idle()
        assert {f["path"] for f in status["failures"]} == {str(folder / "file" / "inner"), str(folder / "folder")}
        assert all(f["error"] and f["kind"] == "permanent" for f in status["failures"])
    oracle = Oracle(mlflow_server.uri)
    store = oracle.files(oracle.run(tmp_path.name, "r").info.run_id, tmp_path / "back")
    assert store == stored | {b"other": b"new"}, "what was stored stays, and the rest is not held up"
    assert "Traceback" not in program.text()


def with_holes(path: Path, size: int) -> None:
    """Random bytes at the beginning, in the middle and at the end of nothing."""
    with path.open("wb") as f:
        for at in (0, size // 2, size - 2**20):
            f.seek(at)
            f.write(os.urandom(2**20))
    assert path.stat().st_blocks * 512 < size // 4, "this filesystem makes no holes"


@pytest.mark.timeout(240)
def test_files_with_holes_arrive_exactly(
    mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri, more=RETRY)
    folder = program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    with_holes(folder / "holes", 256 * 2**20)
    for name, content in (("nothing but a hole", b""), ("ends in a hole", b"content")):
        (folder / name).write_bytes(content)
        os.truncate(folder / name, 3 * 2**20 + 5)
    begun = time.monotonic()
    done = program.call("sync", timeout=180)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    oracle = Oracle(mlflow_server.uri)
    run_id = oracle.run(tmp_path.name, "r").info.run_id
    (tmp_path / "back").mkdir()
    wrong = []
    for path in sorted(folder.iterdir()):
        copy = Path(oracle.client.download_artifacts(run_id, path.name, str(tmp_path / "back")))
        if sha_of(copy) != sha_of(path):
            wrong.append(path.name)
        copy.unlink()
    record(Row("files with holes, 256 MiB", 3, len(wrong), len(wrong), None, None, took))
    assert not wrong
    assert "Traceback" not in done.stderr


@pytest.mark.big
@BIG
@pytest.mark.timeout(3600)
def test_twenty_gibibytes_of_holes_arrive_exactly(tmp_path: Path, record: Callable[[Row], None]) -> None:
    size = 20 * 2**30
    if shutil.disk_usage(tmp_path).free < 2 * size:
        pytest.skip("needs 40 GiB of free disk")
    program = Program(tmp_path)
    try:
        folder = program.drop / "holes" / "r"
        folder.mkdir(parents=True)
        with_holes(folder / "holes", size)
        begun = time.monotonic()
        done = program.call("sync", timeout=3000)
        took = time.monotonic() - begun
        assert done.returncode == 0, done.stderr
        same = sha_of(embedded(program, "holes") / "holes") == sha_of(folder / "holes")
        record(Row("file with holes, 20 GiB", 1, int(not same), int(not same), None, None, took))
        assert same
    finally:
        shutil.rmtree(program.drop)
        shutil.rmtree(program.state)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=(pytest.mark.big, BIG))])
def test_a_run_of_very_many_files_is_stored_once_and_whole(
    count: int, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    program = Program(tmp_path)
    folder = program.drop / "many" / "r"
    folder.mkdir(parents=True)
    for n in range(count):
        (folder / f"f{n}").write_bytes(b"%016d" % n)
    begun = time.monotonic()
    done = program.call("sync", timeout=1500)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    store = embedded(program, "many")
    found = tree(store)
    lost = [n for n in range(count) if found.get(b"f%d" % n) != b"%016d" % n]

    def copies() -> set[tuple[str, int, int]]:
        return {(e.name, e.inode(), e.stat().st_ctime_ns) for e in os.scandir(store)}

    before = copies()
    again = program.call("sync", timeout=300)
    assert again.returncode == 0, again.stderr
    sent = len(copies() - before)
    record(Row(f"{count:,} files of 16 bytes in one run", 1, len(lost), len(found) - count + len(lost), sent, 0, took))
    assert not lost
    assert len(found) == count
    assert not sent, "a second pass sends nothing"
    assert "Traceback" not in done.stderr + again.stderr


@pytest.mark.timeout(240)
def test_a_folder_that_takes_a_server_long_to_list_is_verified_all_the_same(
    program: Program, wire: Wire, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """As a folder of 200,000 files on its disk, or of fewer in its bucket; here the proxy holds the listing back."""
    folder = program.drop / tmp_path.name / "r"
    (folder / "one").write_bytes(b"of very many")
    wire.listing_takes = 18.0
    with program.running():
        wait_for(lambda: wire.digests("one"), "it is sent")
        begun = time.monotonic()
        wait_for(lambda: program.status()["stored"] == 1, "it is stored", 90)
        took = time.monotonic() - begun
        wire.listing_takes = 0.0
    verdict = judge(mlflow_server, wire, folder, {"one": {sha(b"of very many")}}, tmp_path / "back")
    record(verdict.row("listing that takes 18 s", 1, took))
    verdict.assert_exact()
    assert not verdict.repeats
    assert "Traceback" not in program.text()
