"""The parts of the model test: a clock, a disk, a store and workers that do what a story says, in this process.

Only what stands outside of the program is replaced: time, the kernel's change times, MLflow's calls where a story has
them fail, and the process boundary around the workers. What is between is the program itself.
"""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import pytest

from artifactd import engine, failpoint
from artifactd.delivery.messages import Answer, Job, JobFailed, Outcomes
from artifactd.delivery.pool import _died
from artifactd.delivery.worker import Worker
from artifactd.watching.mounts import leases_work, mount_of
from artifactd.watching.signature import Signature
from faults.oracle import SECRET, decode

LIVE = ".log"


class Killed(BaseException):
    """The service and its workers end here, as by kill -9."""


class WorkerDied(BaseException):
    """One worker ends here; the service goes on."""


class Clock:
    """The module ``time`` as the program sees it: it moves when a story says so, and a little at each look at it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.tick = 0.001
        self.now = 1_000.0
        self.ahead = 1_700_000_000.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now

    def time(self) -> float:
        return self.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


# -- what happens at a step ------------------------------------------------------------------------------------------


@dataclass
class Armed:
    """Something that happens when a step is reached: for the `nth` time, and `times` in a row."""

    step: str
    act: Callable[[], object]
    nth: int = 1
    times: int = 1


class Steps:
    """What a story has happen at the program's steps: those of ``failpoint``, and around each call of MLflow."""

    def __init__(self) -> None:
        self.armed: list[Armed] = []

    def arm(self, step: str, act: Callable[[], object], *, nth: int = 1, times: int = 1) -> None:
        self.armed.append(Armed(step, act, nth, times))

    def reach(self, name: str) -> None:
        for armed in [a for a in self.armed if a.step == name]:
            armed.nth -= 1
            if armed.nth <= 0:
                armed.times -= 1
                if armed.times <= 0:
                    self.armed.remove(armed)
                armed.act()


ERRORS = ("unreachable", "500", "403", "full", "refused")
FINAL = "refused"
"""The error that time does not mend: a person has to say ``artifactd retry``."""


def kill() -> None:
    raise Killed


def die() -> None:
    raise WorkerDied


def refuse(error: str) -> None:
    """Raise what MLflow raises; see ``tracking.classify`` for what each is."""
    from mlflow.exceptions import MlflowException

    if error == "unreachable":
        raise ConnectionError("no route to host")
    if error == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    texts = {"500": "too many 500 error responses", "403": "error code 403", FINAL: "Invalid artifact path"}
    raise MlflowException(texts[error])


# -- the disk --------------------------------------------------------------------------------------------------------


class Disk:
    """The drop folder, and who works in it. It knows each whole content that a path ever had.

    Change times are the clock's: ``Signature.of`` is told so, since nobody can set those of the kernel.
    """

    def __init__(self, drop: Path, clock: Clock) -> None:
        self.drop = drop
        self.ever: dict[str, set[bytes]] = {}
        self.removed: dict[str, bytes] = {}
        self._now: dict[str, bytes] = {}
        self.events: list[tuple[bytes, bytes | None]] = []
        self._clock = clock
        self._count = itertools.count()
        self._stamps: dict[int, int] = {}
        self._writers: dict[int, tuple[Any, bytes]] = {}
        self._outside = drop.parent / "outside"
        self._outside.mkdir(parents=True)
        (self._outside / "a").write_bytes(SECRET)
        drop.mkdir()
        self.leases = leases_work(mount_of(os.fsencode(drop)).fstype)

    def signature(self, st: os.stat_result) -> Signature:
        real = Signature(st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
        return Signature(real.size, real.mtime_ns, self._stamps.get(real.inode, real.ctime_ns), real.inode)

    def files(self) -> dict[str, bytes]:
        """Every regular file: relative path, content."""
        found = {}
        for here, _, names in os.walk(self.drop):
            for path in (Path(here, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    found[str(path.relative_to(self.drop))] = path.read_bytes()
        return found

    def missing(self) -> dict[str, bytes]:
        """What is gone, with its last content, though nobody here took it away."""
        files = self.files()
        missing = {rel: content for rel, content in self._now.items() if rel not in files}
        self.removed |= missing
        self._now = files
        return missing

    # -- what people and programs do to it; each is one step that nobody sees a part of

    def write(self, rel: str, content: bytes) -> None:
        """Made, or overwritten in place."""
        self._at(rel).write_bytes(content)
        self._changed(rel)

    def append(self, rel: str, content: bytes) -> None:
        with self._at(rel).open("ab") as f:
            f.write(content)
        self._changed(rel)

    def disguise(self, rel: str, _content: bytes = b"") -> None:
        """Rewritten with the same size, and the time of before put back."""
        path = self._at(rel)
        if path.exists() and path.stat().st_size:
            st = path.stat()
            with path.open("r+b") as f:
                f.write(bytes(b ^ 1 for b in path.read_bytes()))
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
            self._changed(rel)

    def touch(self, rel: str, _content: bytes = b"") -> None:
        if self._at(rel).exists():
            self._at(rel).touch()
            self._changed(rel)

    def replace(self, rel: str, content: bytes) -> None:
        """Written beside it, and renamed over it."""
        path = self._at(rel)
        beside = path.with_name(f"{path.name}.new")
        beside.write_bytes(content)
        beside.replace(path)
        self._changed(rel)

    def delete(self, rel: str, _content: bytes = b"") -> None:
        path = self._at(rel)
        if path.exists():
            path.unlink()
            self._event(rel)
            self.note()

    def link(self, rel: str, _content: bytes = b"") -> None:
        """A symbolic link to the secret in its place."""
        path = self._at(rel)
        path.unlink(missing_ok=True)
        path.symlink_to(self._outside / "a")
        self._event(rel)
        self.note()

    def begin(self, rel: str, content: bytes) -> None:
        """Half of it is written, and the file stays open."""
        path = self._at(rel)
        if path.exists() and path.stat().st_ino in self._writers:
            return
        file = path.open("wb", buffering=0)
        file.write(content[:1])
        self._writers[os.fstat(file.fileno()).st_ino] = (file, content[1:])
        self._changed(rel)

    @property
    def written(self) -> int:
        """Files that somebody has open."""
        return len(self._writers)

    def end(self) -> None:
        """Whoever has a file open writes the rest and closes it."""
        for inode, (file, rest) in list(self._writers.items()):
            file.write(rest)
            file.close()
            del self._writers[inode]
            self._stamp(inode)
        self.note()

    def move(self, rel: str, to: str) -> None:
        """A file gets another name, over what stands there."""
        if self._at(rel).exists() and rel != to:
            self._at(rel).replace(self._at(to))
            self._event(rel)
            self._changed(to)

    def swap_folders(self, one: str, other: str) -> None:
        """Two folders, or the one there is, change names; nothing in them is touched."""
        self.missing()
        here, there = self.drop / one, self.drop / other
        aside = self._outside / "aside"
        for old, new in ((here, aside), (there, here), (aside, there)):
            if old.is_symlink():
                old.unlink()
            elif old.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                old.rename(new)
        for rel in (one, other):
            self.events.append((os.fsencode(rel), None))
        self.note()

    def link_folder(self, rel: str) -> None:
        """A folder is replaced by a symbolic link to one outside that has such a file, too."""
        self.missing()
        path = self.drop / rel
        if path.exists() and not path.is_symlink():
            path.rename(self._outside / f"was-{next(self._count)}")
            path.symlink_to(self._outside)
            self.events.append((os.fsencode(rel), None))
            self.note()

    def note(self) -> None:
        """Remember the contents of now; but not what a writer has written half, where the program can see that."""
        self._now = self.files()
        for rel, content in self._now.items():
            self.removed.pop(rel, None)
            open_still = (self.drop / rel).stat().st_ino in self._writers
            if not open_still or not self.leases or rel.endswith(LIVE):
                self.ever.setdefault(rel, set()).add(content)

    def close(self) -> None:
        for file, _ in self._writers.values():
            file.close()

    def _at(self, rel: str) -> Path:
        """The path, without a link at it or on its way: a change must not go through it."""
        self.missing()
        path = self.drop / rel
        for part in (*reversed(path.relative_to(self.drop).parents[:-1]), Path(rel)):
            if (self.drop / part).is_symlink():
                (self.drop / part).unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _changed(self, rel: str) -> None:
        self._stamp((self.drop / rel).stat().st_ino)
        self._event(rel)
        self.note()

    def _stamp(self, inode: int) -> None:
        # No two are equal, whatever the clock does: the kernel's have nanoseconds.
        self._stamps[inode] = int((self._clock.now + self._clock.ahead) * 1e9) + next(self._count)

    def _event(self, rel: str) -> None:
        folder, _, name = os.fsencode(rel).rpartition(b"/")
        self.events.append((folder, name))


# -- the store -------------------------------------------------------------------------------------------------------


class Store:
    """The artifact folder, read past everybody, and the ways in which an upload goes wrong without a word."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reset()

    def reset(self) -> None:
        self.uploads = self.repeats = 0
        self.torn: set[bytes] = set()
        self.instead: list[str] = []

    def holds(self, run_id: str) -> dict[str, bytes]:
        """Path within the run folder, by the published rule for names, and content; the manifest aside."""
        base = self._folder / run_id / "artifacts"
        return {
            os.fsdecode(decode(str(Path(here, name).relative_to(base)))): Path(here, name).read_bytes()
            for here, _, names in os.walk(base)
            for name in names
            if Path(here) != base / "artifactd"
        }

    def manifest(self, run_id: str) -> dict[str, str]:
        """What the run's manifest says: path within the run folder, and SHA-256."""
        text = (self._folder / run_id / "artifacts" / "artifactd" / "manifest.json").read_text()
        return {file["path"]: file["sha256"] for file in json.loads(text)["files"]}

    def take(self, real: Callable[..., None], repo: Any, local: str, folder: str | None) -> None:
        """An upload that reached the store."""
        there = Path(repo.artifact_dir, folder or "", os.path.basename(local))
        new = Path(local).read_bytes()
        if folder == "artifactd":  # a manifest, which says another thing after a touch
            real(repo, local, folder)
            return
        self.uploads += 1
        self.repeats += there.exists() and there.read_bytes() == new
        how = self.instead.pop() if self.instead else ""
        if how == "torn":
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(new[:-1])
            self.torn.add(new[:-1])
        # What was there before with this size cannot be told from it by a listing, which is all that MLflow has.
        elif how != "lost" or (there.exists() and there.stat().st_size == len(new)):
            real(repo, local, folder)


# -- the workers -----------------------------------------------------------------------------------------------------


@dataclass
class Lag:
    """How many turns a worker rests before each word: before it works for it, and before it says it."""

    work: int = 0
    word: int = 0


class Line:
    """A worker's line, on which only the wish to wrap up comes."""

    def __init__(self) -> None:
        self.wrap = False

    def poll(self) -> bool:
        return self.wrap


@dataclass
class _Hand:
    job: Job
    doing: Iterator[Answer]
    line: Line
    rest: int
    said: list[Answer] = field(default_factory=list)


class Hands:
    """Stands in for ``delivery.pool.Pool``: real workers without processes, which work while the engine rests.

    What a worker did is said a turn later at the soonest, so a story can go on between an upload and its receipt.
    """

    def __init__(
        self, lag: Lag, ready: int, size: int, _uri: str, keep: Iterable[int] = (), staging: Path | None = None,
        limits: object = None, _artifacts: str | None = None, _embedded: Path | None = None,
    ) -> None:  # fmt: skip
        self.size = size
        self.alive = False
        self._lag = lag
        self._ready = ready
        self._worker = Worker()
        self._at_work: list[_Hand] = []

    @property
    def busy(self) -> int:
        return len(self._at_work)

    @property
    def free(self) -> int:
        return self.size - self.busy if self.alive else 0

    @property
    def moving(self) -> bool:
        return self.busy > 0

    def jobs(self) -> list[Job]:
        return [h.job for h in self._at_work]

    def warm(self) -> None:
        self.alive = True

    def submit(self, job: Job) -> None:
        line = Line()
        self._at_work.append(_Hand(job, self._worker.do(job, cast("Connection", line)), line, self._lag.work))
        self._work(self._at_work[-1])

    def waitables(self) -> list[int]:
        for hand in self._at_work:
            self._work(hand)
        return [self._ready] if self._at_work else []

    def _work(self, hand: _Hand) -> None:
        if hand.said:
            return
        hand.rest -= 1
        if hand.rest < 0:
            try:
                hand.said.append(next(hand.doing))
            except WorkerDied:
                hand.said.append(JobFailed(_died(hand.job)))
            hand.rest = self._lag.word

    def answers(self) -> list[tuple[Job, Answer]]:
        said = []
        for hand in list(self._at_work):
            if not hand.said:
                continue
            hand.rest -= 1
            if hand.rest < 0:
                answer = hand.said.pop()
                said.append((hand.job, answer))
                hand.rest = self._lag.work
                if not isinstance(answer, Outcomes):
                    self._at_work.remove(hand)
        return said

    def end_stuck(self) -> list[tuple[Job, Answer]]:
        return []

    def wrap_up(self, jobs: Collection[Job]) -> None:
        for hand in self._at_work:
            hand.line.wrap = hand.line.wrap or any(hand.job is job for job in jobs)

    def stop(self) -> None:
        self.alive = False
        self._at_work.clear()


# -- all of it -------------------------------------------------------------------------------------------------------


CALLS = ("create_run", "search_runs", "get_run", "set_terminated", "log_artifact", "list_artifacts")
"""MLflow's calls around which a story has steps: ``create_run.before`` and ``create_run.after``."""
STEPS = ("claims.handed_out", "commit.before", "commit.after")
"""Steps of the service itself."""


class World:
    """One MLflow database and artifact root for all stories; clock, steps and disk are those of the story of now."""

    disk: Disk

    def __init__(self, base: Path) -> None:
        self.base = base
        self.uri = f"sqlite:///{base}/mlflow.db"
        self.artifacts = base / "artifacts"
        self.stories = 0
        self.clock, self.steps, self.lag, self.store = Clock(), Steps(), Lag(), Store(self.artifacts)
        self.ready = os.eventfd(1)
        self.log = io.StringIO()
        self.client: Any = None

    def make_store(self) -> None:
        from mlflow import MlflowClient
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(self.uri, self.artifacts.as_uri())
        self.client = MlflowClient(self.uri, registry_uri=self.uri)

    def begin(self) -> Path:
        """A new story: a folder of its own, and everything in order."""
        self.stories += 1
        folder = self.base / f"s{self.stories}"
        self.clock.reset()
        self.store.reset()
        self.log.seek(0)
        self.log.truncate()
        self.disk = Disk(folder / "drop", self.clock)
        self.mend()
        return folder

    def mend(self) -> None:
        """Nothing goes wrong any more, and nobody has a file open."""
        self.steps.armed.clear()
        self.store.instead.clear()
        self.lag.work = self.lag.word = 0
        self.disk.end()

    def make_run(self, experiment: str) -> str:
        """Somebody makes a run."""
        found = self.client.get_experiment_by_name(experiment)
        ident = (found and found.experiment_id) or self.client.create_experiment(experiment, self.artifacts.as_uri())
        return str(self.client.create_run(ident).info.run_id)

    def runs(self, experiment: str) -> list[tuple[Any, dict[str, str]]]:
        """All runs, each with its tags."""
        found = self.client.get_experiment_by_name(experiment)
        return [] if found is None else [(r.info, r.data.tags) for r in self.client.search_runs([found.experiment_id])]

    def take_over(self, patch: pytest.MonkeyPatch, modules: Iterable[Any]) -> None:
        """Put clock, steps, disk and workers in the place of what the program would use."""
        from mlflow import MlflowClient
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        for module in modules:
            if getattr(module, "time", None) is time:
                patch.setattr(module, "time", self.clock)
        patch.setattr(failpoint, "reach", self.steps.reach)
        patch.setattr(Signature, "of", staticmethod(self._signature))
        patch.setattr(engine, "Pool", partial(Hands, self.lag, self.ready))
        for name in CALLS:
            owner = LocalArtifactRepository if "artifact" in name else MlflowClient
            patch.setattr(owner, name, self._stepped(name, getattr(owner, name)))

    def _signature(self, st: os.stat_result) -> Signature:
        return self.disk.signature(st)

    def _stepped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(that: Any, *args: Any, **more: Any) -> Any:
            if that is self.client:  # the test's own
                return real(that, *args, **more)
            self.steps.reach(f"{name}.before")
            do = partial(self.store.take, real) if name == "log_artifact" else real
            answer = do(that, *args, **more)
            self.steps.reach(f"{name}.after")
            return answer

        return call
