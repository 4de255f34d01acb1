"""The promise under stories that nobody would think of: files, time, kills and a store that fails, in any order.

Hypothesis makes up the stories and shortens those that break the promise. The program is real, in this process, with
MLflow's own client on a real database and artifact root; ``model`` says what stands in for the rest.
``ARTIFACTD_TEST_EXAMPLES=n`` tells n stories of each kind, other ones each time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from artifactd import log
from artifactd.config import load_config
from artifactd.engine import Engine
from artifactd.ledger import FileView, Report, State
from artifactd.tracking import environment
from faults.model import CALLS, ERRORS, FINAL, LIVE, STEPS, Killed, World, die, kill, refuse
from faults.oracle import SECRET
from faults.table import Row

STORIES = int(os.environ.get("ARTIFACTD_TEST_EXAMPLES", "0"))
STEPS_A_STORY = 25

SETTLE, SCAN = 5.0, 300.0
LONGEST = 3 * 3600.0
"""Virtual seconds in which all comes to rest: the widest spacing of a runaway file is an hour."""
LIVE_LONGEST = 40 * 3600.0
"""The same where a growing file is waited for: it may be quiet for long before it is over."""

RUNS = ("r", "s")
EXCLUDES = {"nothing": "", "b": '"**/b"', "d": '"**/d/"'}
MARKERS = {".done": "FINISHED", ".failed": "FAILED"}
BROKEN = "name = "

Then = tuple[str, int, str]
Trouble = tuple[Any, ...]

runs = st.sampled_from(RUNS)
paths = st.runner().flatmap(lambda story: st.sampled_from(story.PATHS))
contents = st.runner().flatmap(lambda story: st.sampled_from(story.CONTENTS))
fates = st.sampled_from(("now", "now", "late", "lost"))
thens = st.tuples(fates, st.sampled_from((3, 0, 1, 2, 5)), st.sampled_from(("", "", "", "", "kill", "restart")))
"""What becomes of the event; turns that follow when the time for them has come; how they end."""

steps = st.sampled_from([f"{call}.{when}" for call in ("log_artifact",) * 3 + CALLS for when in ("before", "after")])
changes = st.sampled_from(("write", "write", "replace", "append", "disguise", "touch", "delete", "link"))
troubles = st.one_of(
    st.tuples(st.just("flickers")),
    st.tuples(st.just("changes"), steps, changes, paths, contents, fates),
    st.tuples(st.just("kill"), st.one_of(steps, st.sampled_from(STEPS)), st.integers(1, 2)),
    st.tuples(st.just("worker dies"), steps, st.just(1)),
    st.tuples(st.just("fails"), steps, st.sampled_from(ERRORS), st.sampled_from((1, 2, 99))),
    st.tuples(st.sampled_from(("lost", "torn", "torn and fails"))),
)
"""What goes wrong at a step, when it is reached."""
maybe = st.sampled_from((False, False, True)).flatmap(lambda bad: troubles if bad else st.none())


class Story(RuleBasedStateMachine):
    """One host, one drop folder, one experiment.

    ``calm``: nothing happened that has a content sent twice.
    """

    world: World
    counts: Counter[str]
    PATHS: tuple[str, ...] = ()
    CONTENTS: tuple[bytes, ...] = (b"one", b"two")
    WATCH = ""

    def __init__(self) -> None:
        super().__init__()
        self.base = self.world.begin()
        self.disk, self.clock, self.store = self.world.disk, self.world.clock, self.world.store
        self.experiment = f"e{self.world.stories}"
        self.excluded = "nothing"
        self.engine: Engine | None = None
        self.late: list[tuple[bytes, bytes | None]] = []
        self.marked: dict[str, set[str]] = {}
        self.final = self.live = False
        self.calm = True

    @initialize(tick=st.sampled_from((0.001, 0.02)))
    def on_a_machine(self, tick: float) -> None:
        """Fast, or so slow that a scan of some folders takes several turns."""
        self.clock.tick = tick

    @rule(path=paths, content=contents, then=thens, trouble=maybe)
    def write(self, path: str, content: bytes, then: Then, trouble: Trouble | None) -> None:
        self._change("write", path, content, then, trouble)

    @rule(path=paths, content=contents, then=thens, trouble=maybe)
    def replace(self, path: str, content: bytes, then: Then, trouble: Trouble | None) -> None:
        self._change("replace", path, content, then, trouble)

    @rule(wait=st.sampled_from((SETTLE + 1, 0.0, 61.0, SCAN + 1)), times=st.integers(1, 6))
    def turn(self, wait: float, times: int) -> None:
        self.clock.sleep(wait)
        for _ in range(times):
            self._turn()

    @rule(hours=st.sampled_from((-1, -24, 24)))
    def step_the_clock(self, hours: int) -> None:
        self.clock.ahead += hours * 3600.0

    @precondition(lambda self: self.late)
    @rule()
    def late_events_come(self) -> None:
        self._hint(self.late)
        self.late.clear()

    @rule(work=st.integers(0, 2), word=st.integers(0, 2))
    def workers_are_slow(self, work: int, word: int) -> None:
        self.world.lag.work, self.world.lag.word = work, word

    @precondition(lambda self: self.engine)
    @rule()
    def kill(self) -> None:
        self._killed()

    @precondition(lambda self: self.engine)
    @rule()
    def restart(self) -> None:
        self._guarded(self._stop)

    @rule()
    def lose_the_ledger(self) -> None:
        if self.engine is not None:
            self._killed()
        for file in (self.base / "state").glob("ledger.db*"):
            file.unlink()

    @rule(trouble=troubles)
    def trouble(self, trouble: Trouble) -> None:
        self._trouble(*trouble)

    @rule(then=st.sampled_from(("scan", "restart", "touch")))
    def come_to_rest(self, then: str) -> None:
        """All is in order again and left alone: now the promise holds to the letter, and more looks send nothing."""
        self._quiesce()
        self._check()
        uploads = self.store.uploads
        if then == "restart":
            self._stop()
        if then == "touch":
            for rel in self.disk.files():
                self.disk.touch(rel)
            self._tell("now")
        self._quiesce()
        self._check()
        assert self.store.uploads == uploads, f"sent again after a {then}"

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.come_to_rest("restart")
                assert "Traceback" not in self.world.log.getvalue()
                self.counts["stories"] += 1
                self.counts["repeats"] += self.store.repeats
        finally:
            if self.engine is not None:
                self._killed()
            self.disk.close()
            shutil.rmtree(self.base)

    # -- what must hold ------------------------------------------------------------------------------------------

    def _check_now(self) -> None:
        """At any moment: what is called stored, and is on disk as it was then, is in the store."""
        for view in self._views(State.STORED):
            path = Path(os.fsdecode(view.path))
            if path.is_file() and not path.is_symlink() and self.disk.signature(path.stat()) == view.signature:
                rel = str(path.relative_to(self.disk.drop / self.experiment)).partition("/")[2]
                held = self._holds(str(view.run_id)).get(rel)
                assert held == path.read_bytes(), f"{rel} is called stored, and the store holds {held!r}"

    def _check_removed(self) -> None:
        """The folder is the user's: nothing goes."""
        assert not self.disk.missing()

    def _check(self) -> None:
        """At rest."""
        files = {rel.partition("/")[2]: content for rel, content in {**self.disk.removed, **self.disk.files()}.items()}
        settings = {run: self._settings(run) for run in RUNS}
        broken = {run for run in RUNS if settings[run] == BROKEN}
        failed = {os.fsdecode(v.path).partition(f"/{self.experiment}/")[2]: v.error for v in self._views(State.FAILED)}
        assert {path.partition("/")[0] for path in failed} <= broken, failed
        held: dict[str, bytes] = {}
        own: Counter[str] = Counter()
        torn: list[str] = []
        for info, tags in self.world.runs(self.experiment):
            folder = os.path.basename(tags["artifactd.path"]) if "artifactd.key" in tags else ""
            own[folder] += bool(folder)
            torn += self._never_were(info.run_id, (folder,) if folder else RUNS)
            for run in set(RUNS) - broken:
                if settings[run] == f'run_id = "{info.run_id}"' or (run == folder and "run_id" not in settings[run]):
                    held |= {f"{run}/{rel}": content for rel, content in self._holds(info.run_id).items()}
                    self._check_run(run, info, settings[run], files)
        due = {rel: c for rel, c in files.items() if rel.partition("/")[0] not in broken and not self._is_excluded(rel)}
        lost = {rel: (content, held.get(rel)) for rel, content in due.items() if held.get(rel) != content}
        self.counts.update(lost=len(lost), torn=len(torn), runs=sum(max(n - 1, 0) for n in own.values()))
        assert not lost, "on disk, and in the store"
        assert not torn, "what is in the store never was on disk"
        assert own.total() == len(+own), f"folders with several runs: {own}"
        assert not (self.calm and self.store.repeats), "the same content went to the same place twice"

    def _never_were(self, run_id: str, folders: tuple[str, ...]) -> list[str]:
        """What a run holds that no file of these folders was in whole; what a fault of the store tore is its own."""
        store = self.store.holds(run_id)
        assert SECRET not in store.values()
        return [
            f"{rel}: {content!r}" for rel, content in store.items()
            if content not in self.store.torn
            and not any(content in self.disk.ever.get(self._rel(f"{f}/{self._name(rel)}"), ()) for f in folders)
        ]  # fmt: skip

    def _check_run(self, run: str, info: Any, settings: str, files: dict[str, bytes]) -> None:
        stand = {MARKERS[m] for m in MARKERS if f"{run}/{m}" in files}
        if not self.marked.get(run) or "run_id" in settings:
            assert info.status == "RUNNING", "nobody has ended it, or only its own job may"
        elif stand:
            assert info.status == ("FAILED" if "FAILED" in stand else "FINISHED"), f"{run} is {info.status}"
            said = self.store.manifest(info.run_id)
            for rel, content in files.items():
                if rel.startswith(f"{run}/") and not self._is_excluded(rel):
                    assert said.get(rel.partition("/")[2]) == hashlib.sha256(content).hexdigest(), f"{rel}: {said}"
        alive = any(rel.startswith(f"{run}/") and not self._is_excluded(rel) for rel in files)
        if alive and "run_id" not in settings:
            assert info.run_name == (settings[8:-1] or run)

    def _holds(self, run_id: str) -> dict[str, bytes]:
        """What the store holds of each file of now."""
        return self.store.holds(run_id)

    def _name(self, rel: str) -> str:
        """The file that this was."""
        return rel

    # -- how -----------------------------------------------------------------------------------------------------

    def _quiesce(self) -> None:
        """Mend all, and turn until nothing is left to do."""
        self.world.mend()
        self._tell("lost")
        begun = self.clock.now
        self._turn()
        while self.engine is not None and self.engine.busy:
            self._turn()  # what went wrong before is told now
        if self.final:
            report = Report(self.base / "state")
            report.retry(None)
            report.close()
            self.final = False
        assert self.engine is not None
        watched = self.engine.watched[0]
        # Twice: a scan that was under way may have been to a folder before its last change.
        scans = watched.scanned + 2
        while watched.scanned < scans or self.engine.ledger.waiting()[0] or self._is_busy():
            self.clock.sleep(SETTLE + 1 if self._is_busy() else SCAN + 1)
            self._turn()
            left = self._views(State.DUE, State.UPLOADING)
            assert self.clock.now - begun < (LIVE_LONGEST if self.live else LONGEST), f"never at rest: {left}"

    def _is_busy(self) -> bool:
        assert self.engine is not None
        return self.engine.busy > 0 or bool(self.engine.waiting_runs) or self.engine.watched[0].scanning

    def _rel(self, path: str) -> str:
        return f"{self.experiment}/{path}"

    def _settings(self, run: str) -> str:
        file = self.disk.drop / self.experiment / run / "artifactd.toml"
        return file.read_text() if file.is_file() else ""

    def _is_excluded(self, rel: str) -> bool:
        _, *folders, name = rel.split("/")
        return (self.excluded == "b" and name == "b") or (self.excluded == "d" and "d" in folders)

    def _views(self, *states: State) -> list[FileView]:
        report = Report(self.base / "state")
        try:
            return report.files(states=states)
        finally:
            report.close()

    def _config(self) -> Path:
        file = self.base / "config.toml"
        file.write_text(
            f'state_dir = "{self.base}/state"\n'
            f'[mlflow]\ntracking_uri = "{self.world.uri}"\nartifact_location = "{self.world.artifacts.as_uri()}"\n'
            "[upload]\nworkers = 2\n"
            f'[[watch]]\npath = "{self.disk.drop}"\nmode = "scan"\nsettle = "{SETTLE:.0f}s"\n'
            f'scan_interval = "{SCAN:.0f}s"\nexclude = [{EXCLUDES[self.excluded]}]\n{self.WATCH}\n'
        )
        return file

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Killed:
            self._killed()

    def _turn(self) -> None:
        self._guarded(self._start_and_turn)
        self._check_removed()
        if self.engine is not None:
            self._check_now()

    def _start_and_turn(self) -> None:
        if self.engine is None:
            self.engine = Engine.__new__(Engine)  # known before it is whole: it may be killed while it starts
            Engine.__init__(self.engine, load_config(self._config()), "test", events=False)
        self.engine.turn(0.0)

    def _stop(self) -> None:
        if self.engine is not None:
            self.engine.drain(self.clock.monotonic() + 20)
            self.engine.close()
            self.engine = None

    def _reload(self) -> None:
        if self.engine is not None:
            self.engine.drain(self.clock.monotonic() + 20)
            self.engine.use(load_config(self._config()))

    def _killed(self) -> None:
        """Only what the kernel does: what was open is closed, and what was not committed is lost."""
        parts, self.engine = vars(self.engine), None
        self.late.clear()
        if "ledger" in parts:
            parts["ledger"]._con.close()
        for watched in parts.get("_watched", ()):
            watched.close()
        if "_lock" in parts:
            parts["_lock"].release()
        if "_wake_fd" in parts:
            os.close(parts["_wake_fd"])

    def _change(self, how: str, path: str, content: bytes, then: Then, trouble: Trouble | None = None) -> None:
        self.live |= path.endswith(LIVE)
        self.calm &= how != "link"  # what was away from a path is sent there again
        getattr(self.disk, how)(self._rel(path), content)
        if trouble:
            self._trouble(*trouble)
        self._then(then)

    def _trouble(self, what: str, step: str = "", *more: Any) -> None:
        self.calm &= what == "kill"
        arm = self.world.steps.arm
        if what == "flickers":
            arm("log_artifact.before", self._flicker)
        elif not step:
            self.store.instead.append(what.partition(" ")[0])
            if what.endswith("fails"):
                self._trouble("fails", "log_artifact.after", "unreachable", 1)
        elif what == "changes":
            how, path, content, fate = more
            arm(step, lambda: self._change(how, path, content, (fate, 0, "")))
        elif what == "fails":
            error, times = more
            self.final |= error == FINAL or times > 2
            arm(step, lambda: refuse(error), times=times)
        else:
            arm(step, die if what == "worker dies" else kill, nth=more[0])

    def _flicker(self) -> None:
        """Another content for the time of an upload alone."""
        rel = self._rel(self.PATHS[0])
        content = self.disk.files().get(rel)
        if content is not None:
            self.disk.disguise(rel)
            self.world.steps.arm("log_artifact.after", lambda: self.disk.write(rel, content))

    def _then(self, then: Then) -> None:
        fate, turns, end = then
        self._tell(fate)
        if turns:
            self.turn(SETTLE + 1 if fate == "now" else SCAN + 1, turns)
        if end and self.engine is not None:
            self.kill() if end == "kill" else self.restart()

    def _tell(self, fate: str) -> None:
        """What becomes of the events of the last change."""
        events = list(self.disk.events)
        self.disk.events.clear()
        if fate == "now":
            self._hint(events)
        elif fate == "late":
            self.late += events

    def _hint(self, events: list[tuple[bytes, bytes | None]]) -> None:
        for watched in vars(self.engine).get("_watched", ()) if self.engine is not None else ():
            for folder, name in events:
                if name is None:
                    watched._hints.folder(folder, deep=True)
                else:
                    watched._hints.file(folder, name)


class Files(Story):
    """What happens to files."""

    @rule(how=changes, path=paths, content=contents, then=thens)
    def change(self, how: str, path: str, content: bytes, then: Then) -> None:
        self._change(how, path, content, then)

    @rule(path=paths, to=paths, then=thens)
    def move(self, path: str, to: str, then: Then) -> None:
        self.live |= to.endswith(LIVE)
        self.disk.move(self._rel(path), self._rel(to))
        self._then(then)

    @rule(path=paths, content=contents, then=thens, trouble=maybe)
    def begin(self, path: str, content: bytes, then: Then, trouble: Trouble | None) -> None:
        """Somebody begins to write, and keeps it open."""
        self._change("begin", path, content, then, trouble)

    @precondition(lambda self: self.disk.written)
    @rule(then=thens)
    def end(self, then: Then) -> None:
        self.disk.end()
        self._then(then)


class Folders(Story):
    """What happens to folders, runs and rules."""

    @rule(pair=st.sampled_from((("r/d", "r/e"), ("r/d", "s/d"), ("r", "s"))), then=thens)
    def swap_folders(self, pair: tuple[str, str], then: Then) -> None:
        self.disk.swap_folders(*map(self._rel, pair))
        marked = set[str]().union(*(self.marked.get(name, ()) for name in pair))
        self.marked |= dict.fromkeys(pair, marked)
        self._then(then)

    @rule(folder=st.sampled_from(("r/d", "r/e", "r")), then=thens)
    def link_folder(self, folder: str, then: Then) -> None:
        self.calm = False
        self.disk.link_folder(self._rel(folder))
        self._then(then)

    @rule(run=runs, marker=st.sampled_from(tuple(MARKERS)), then=thens)
    def end_run(self, run: str, marker: str, then: Then) -> None:
        self.marked.setdefault(run, set()).add(marker)
        self._change("write", f"{run}/{marker}", b"", then)

    @rule(run=runs, name=st.sampled_from(("one", "two", None)), then=thens)
    def set_run(self, run: str, name: str | None, then: Then) -> None:
        """Its artifactd.toml names it, or is wrong."""
        self.calm &= name is not None
        self._change("write", f"{run}/artifactd.toml", (f'name = "{name}"' if name else BROKEN).encode(), then)

    @rule(run=runs, then=thens)
    def adopt_a_run(self, run: str, then: Then) -> None:
        """Its artifactd.toml names a run that somebody made."""
        self.calm = False  # what was in another run in between is sent again
        made = self.world.make_run(self.experiment)
        self._change("write", f"{run}/artifactd.toml", f'run_id = "{made}"'.encode(), then)

    @rule(what=st.sampled_from(tuple(EXCLUDES)), then=thens)
    def exclude(self, what: str, then: Then) -> None:
        """A reload, as SIGHUP does it."""
        self.calm = False  # what was excluded in between is sent again
        self.excluded = what
        self._guarded(self._reload)
        self._then(then)


class AFile(Files):
    """Stories that come back to the same file with the same content."""

    PATHS = ("r/a",)


class SomeFolders(Folders):
    """Stories of few files in folders that move."""

    PATHS = ("r/d/a", "r/d/a", "r/e/a", "s/d/a", "r/b")


class ATree(Files, Folders):
    """Stories of all there is."""

    PATHS = tuple(f"{run}/{name}" for run in RUNS for name in ("a", "b", "d/a", "d/d", f"train{LIVE}", "what?#1"))
    CONTENTS = (b"one", b"two", b"three", b"")


class Versions(Files):
    """Stories where a changed file is a further artifact."""

    PATHS = ("r/a", "r/a", "r/b.c")
    WATCH = 'on_change = "version"'

    def _holds(self, run_id: str) -> dict[str, bytes]:
        """The version that the file is now, or else the last; they are numbered without a gap.

        One that was sent when its receipt was lost may come after it: its number is used by the next content.
        """
        versions: dict[str, dict[int, bytes]] = {}
        for rel, content in super()._holds(run_id).items():
            versions.setdefault(self._name(rel), {})[int((_VERSION.search(rel) or "01")[1])] = content
        assert all(max(found) == len(found) for found in versions.values()), versions
        files = self.disk.files()
        last = {name: found[max(found)] for name, found in versions.items()}
        now = {name: files.get(self._rel(f"r/{name}"), b"") for name in versions}
        return {name: now[name] if now[name] in versions[name].values() else last[name] for name in versions}

    def _name(self, rel: str) -> str:
        return _VERSION.sub("", rel)


_VERSION = re.compile(r"_v(\d+)")


class Removing(Files):
    """Stories where what is delivered is removed."""

    PATHS = ("r/a", "r/a", "r/d/b")
    WATCH = 'after_upload = "delete"'

    def _check_removed(self) -> None:
        """Nothing goes that is not stored."""
        for rel, content in self.disk.missing().items():
            (run_id,) = (i.run_id for i, t in self.world.runs(self.experiment) if t["artifactd.path"].endswith("/r"))
            held = self._holds(run_id).get(rel.partition("/r/")[2])
            assert held == content, f"{rel} was removed with {content!r}, and the store holds {held!r}"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # In memory where there is such a place: no story is about power cuts, and waiting for a disk is most of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    handlers, show = list(logging.getLogger().handlers), warnings.showwarning
    with tempfile.TemporaryDirectory(prefix="artifactd-model-", dir=memory) as base:
        made = World(Path(base))
        environment.prepare(made.uri)
        log.configure("json", "info", stream=made.log)
        made.make_store()
        made.take_over(monkeypatch, [m for name, m in sys.modules.items() if name.startswith("artifactd")])
        try:
            yield made
        finally:
            monkeypatch.undo()
            os.close(made.ready)
            logging.getLogger().handlers, warnings.showwarning = handlers, show
            structlog.reset_defaults()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "number"), [(AFile, 40), (SomeFolders, 30), (ATree, 20), (Versions, 15), (Removing, 15)]
)
def test_the_promise_holds_in_any_story(
    kind: type[Story], number: int, world: World, record: Callable[[Row], None]
) -> None:
    counts: Counter[str] = Counter()
    run_state_machine_as_test(
        type(kind.__name__, (kind,), {"world": world, "counts": counts}),
        settings=settings(
            max_examples=STORIES or number, stateful_step_count=STEPS_A_STORY, derandomize=not STORIES, database=None,
            deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
        ),
    )  # fmt: skip
    name = str(kind.__doc__).removesuffix(".").lower()
    record(Row(name, counts["stories"], counts["lost"], counts["torn"], counts["repeats"], counts["runs"]))
