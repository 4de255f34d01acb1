"""What the user does meanwhile: other rules in the middle of the work, a wrong one, any name, links to elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import MlflowServer
from faults.oracle import NAMES, SECRET
from faults.proxy import Fault, Proxy, creations, uploads
from faults.table import Row
from faults.test_network import Site
from support import Oracle, Program, environment, tree, wait_for

WORKERS = 4
MORE = f'[upload]\nworkers = {WORKERS}\n[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
SETTLE = 'settle = "0.3s"\n'
SLOW = Fault("throttle", uploads, rate=128 * 1024)
CLOSED = Fault("answer", uploads, status=503)
WRONG = "the new configuration is wrong, the old one stays"


class Keeping(Proxy):
    """Keeps the digest of each content that the server took."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.digests: defaultdict[str, list[bytes]] = defaultdict(list)

    def note_upload(self, path: str, digest: bytes, size: int) -> None:
        super().note_upload(path, digest, size)
        with self.lock:
            self.digests[path].append(digest)

    def begun(self) -> set[str]:
        """Paths of which an upload has begun."""
        with self.lock:
            return {path for method, path in list(self.counts.requests) if method == "PUT"}

    def in_flight(self) -> set[str]:
        """Paths of which an upload has begun and none was taken yet."""
        return self.begun() - self.digests.keys()


@pytest.fixture
def keeping(mlflow_server: MlflowServer) -> Iterator[Keeping]:
    made = Keeping(mlflow_server.uri)
    yield made
    made.close()


@pytest.fixture
def site(keeping: Keeping, mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    """A service that does not run yet, with an empty run folder."""
    program = Program(tmp_path, tracking_uri=keeping.uri, more=MORE)
    folder = program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    return Site(program, keeping, Oracle(mlflow_server.uri), folder)


def edit(site: Site, old: str, new: str) -> None:
    """Change the configuration's text."""
    text = site.program.config.read_text()
    assert old in text
    site.program.config.write_text(text.replace(old, new))


def reload(site: Site, word: str = "reloaded") -> None:
    """Have the configuration read anew, until the service says this of it."""

    def said() -> int:
        return sum(e["event"] == word for e in site.program.events())

    before, service = said(), site.program._service
    assert service is not None
    service.send_signal(signal.SIGHUP)
    wait_for(lambda: said() > before, f"{word}: {site.program.text()[-2000:]}")


def explain(site: Site, path: Path) -> dict[str, Any]:
    done = site.program.call("explain", "--json", str(path))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)[0]
    return answer


# -- other rules -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(150)
def test_reloads_in_the_middle_of_uploads_lose_tear_and_double_nothing(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    runs = [Site(site.program, keeping, site.oracle, site.folder.parent / f"r{n}") for n in range(WORKERS)]
    for run in runs:
        run.folder.mkdir()
        for n in range(8):
            (run.folder / f"f{n}").write_bytes(os.urandom(100 * 1024 + n))
    reloads, flying = 2, 0
    with site.program.running(), keeping.misbehaving(SLOW):
        for n in range(reloads):
            wait_for(lambda: len(keeping.in_flight()) >= 3, "several workers are busy", 60)
            flying += len(keeping.in_flight())
            edit(site, f'maximum = "{n + 1}s"', f'maximum = "{n + 2}s"')
            reload(site)
        begun = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}", 60)
        took = time.monotonic() - begun
    assert len(site.oracle.runs(tmp_path.name)) == WORKERS
    for run in runs:
        run.assert_exact(tmp_path / "back" / run.folder.name)
    record(Row("reload during uploads", reloads, 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats <= flying


@pytest.mark.timeout(150)
def test_a_changed_layout_moves_files_to_their_new_run_says_so_and_leaves_the_old_copies(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    old = Site(site.program, keeping, site.oracle, site.folder)
    other = f"{tmp_path.name}-other"
    for name in ("a", "sub/b", "sub/deep/c"):
        (old.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (old.folder / name).write_bytes(name.encode() * 500)
    with site.program.running():
        site.program.wait_idle()
        edit(site, SETTLE, f'{SETTLE}layout = "{{run}}"\nexperiment = "{other}"\n')
        with keeping.misbehaving(Fault("answer", creations, status=503)):
            reload(site)
            said = wait_for(
                lambda: [e for e in site.program.events() if "new destination" in e["event"]],
                f"it is said: {site.program.text()[-2000:]}",
            )
            assert 3 in said[0].values(), said
            answer = wait_for(
                lambda: (a := explain(site, old.folder / "sub" / "b"))["state"] == "waiting" and a, "explain says so"
            )
            assert (answer["experiment"], answer["run"], answer["artifact_path"]) == (other, tmp_path.name, "r/sub/b")
            assert "rewritten" not in answer["reason"], "it did not change, its rules did"
            assert site.program.status()["stored"] == 0
        begun = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}")
        took = time.monotonic() - begun
    old.assert_exact(tmp_path / "old")
    new = site.oracle.run(other, tmp_path.name)
    assert site.oracle.files(new.info.run_id, tmp_path / "new") == tree(old.folder.parent)
    assert len(site.oracle.runs(other)) == len(site.oracle.runs(tmp_path.name)) == 1
    record(Row("layout changed by a reload", 1, 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats == 0


def test_what_is_excluded_by_a_reload_stays_where_it_is_stored_and_is_delivered_when_the_rule_goes(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    rule = 'exclude = ["**/*.dat"]\n'
    for name in ("kept.txt", "stored.dat"):
        (site.folder / name).write_bytes(os.urandom(3000))
    with site.program.running():
        site.program.wait_idle()
        with keeping.misbehaving(CLOSED):
            for name in ("pending.txt", "pending.dat"):
                (site.folder / name).write_bytes(os.urandom(3000))
            wait_for(lambda: site.program.status()["pending"] == 2, "they wait")
            edit(site, SETTLE, SETTLE + rule)
            reload(site)
            wait_for(lambda: site.program.status()["pending"] == 1, "one of them is ignored")
            said = explain(site, site.folder / "pending.dat")
            assert (said["state"], said["rule"]) == ("ignored", "exclude **/*.dat")
        wait_for(lambda: explain(site, site.folder / "pending.txt")["state"] == "stored", "the other is delivered")
        run_id = site.oracle.run(tmp_path.name, "r").info.run_id
        disk = {name: content for name, content in tree(site.folder).items() if name != b"pending.dat"}
        assert site.oracle.files(run_id, tmp_path / "ruled") == disk, "what was stored stays, nothing is added"
        edit(site, rule, "")
        reload(site)
        begun = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}")
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("exclude added and taken away by reloads", 2, 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats == 0, "what the store held all the time is not sent again"


def test_a_settle_time_changed_by_a_reload_holds_for_what_waits(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    edit(site, SETTLE, 'settle = "1h"\n')
    site.drop("waits", 3)
    with site.program.running():
        wait_for(lambda: site.program.status().get("pending") == 3, "they wait")
        assert "come to rest" in explain(site, site.folder / "waits-0")["reason"]
        edit(site, 'settle = "1h"\n', SETTLE)
        reload(site)
        begun = time.monotonic()
        wait_for(site.stored, f"they are delivered: {site.program.status()}")
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("settle changed by a reload", 1, 0, 0, site.proxy.counts.repeats, 0, took))


@pytest.mark.timeout(150)
def test_a_watch_that_is_taken_away_and_given_back_loses_nothing_and_sends_nothing_twice(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    spare = tmp_path / "spare"
    (spare / tmp_path.name / "s").mkdir(parents=True)
    site.drop("before", 5)
    with site.program.running():
        site.program.wait_idle()
        with keeping.misbehaving(CLOSED):
            site.drop("pending", 5)
            wait_for(lambda: site.program.status()["pending"] == 5, "they wait")
            edit(site, f'path = "{site.program.drop}"', f'path = "{spare}"')
            reload(site)
        begun = keeping.begun()
        site.drop("meanwhile", 5)
        (site.folder / "before-0").write_bytes(b"changed meanwhile")
        (spare / tmp_path.name / "s" / "a").write_bytes(b"a")
        wait_for(lambda: site.program.status()["stored"] == 1, "the other watch is served")
        assert len(keeping.begun() - begun) == 1, "and it alone"
        edit(site, f'path = "{spare}"', f'path = "{site.program.drop}"')
        reload(site)
        back = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}")
        took = time.monotonic() - back
    site.assert_exact(tmp_path / "back")
    record(Row("watch taken away and given back", 1, 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats == 0


MISTAKES: dict[str, Callable[[str], bytes | None]] = {
    "no TOML": lambda text: text.replace("[[watch]]", "[[watch").encode(),
    "an unknown key": lambda text: text.replace("settle", "settel").encode(),
    "a wrong layout": lambda text: f'{text}layout = "{{run}}/{{run}}"\n'.encode(),
    "another state folder": lambda text: text.replace('/state"', '/elsewhere"').encode(),
    "bytes that are no text": lambda text: text.encode() + b"\xff\xfe\n",
    "no file": lambda _text: None,
}


@pytest.mark.timeout(150)
def test_wrong_configurations_at_reloads_change_nothing_and_uploads_go_on(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    text = site.program.config.read_text()
    for n in range(10):
        (site.folder / f"f{n}").write_bytes(os.urandom(100 * 1024 + n))
    with site.program.running() as service, keeping.misbehaving(SLOW):
        wait_for(keeping.in_flight, "an upload is under way", 60)
        for mistake, wrong in MISTAKES.items():
            content = wrong(text)
            if content is None:
                site.program.config.unlink()
            else:
                site.program.config.write_bytes(content)
            reload(site, WRONG)
            assert service.poll() is None, mistake
        assert keeping.in_flight(), "uploads go on"
        site.program.config.write_text(text)
        begun = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}")
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("wrong configuration at a reload", len(MISTAKES), 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats == 0


def test_a_changed_file_whose_folder_is_taken_away_and_given_back_before_its_turn_is_delivered(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    inner, aside = site.folder / "inner", tmp_path / "aside"
    inner.mkdir()
    (inner / "a").write_bytes(b"old")
    with site.program.running():
        site.program.wait_idle()
        with keeping.misbehaving(CLOSED):
            (inner / "a").write_bytes(b"new content")
            wait_for(lambda: site.held("503"), "it waits for the server")
            inner.rename(aside)
            wait_for(lambda: site.program.status()["pending"] == 0, "it is missed")
            aside.rename(inner)
            wait_for(lambda: "look" not in (explain(site, inner / "a")["reason"] or ""), "it is seen again")
        begun = time.monotonic()
        wait_for(lambda: len(keeping.digests[next(iter(keeping.digests))]) == 2, f"it is sent: {site.program.status()}")
        wait_for(site.stored, "all is delivered")
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("folder away and back before a change was sent", 1, 0, 0, keeping.counts.repeats, 0, took))


# -- any name --------------------------------------------------------------------------------------------------------

MORE_NAMES = (
    b" ", b"  x  ", b"\t", b"tab\tbed", b"cr\rlf\r\n", b"\x01\x7f", b"\x1b[31mred\x1b[0m\x07", b"..x", b"...", b"x.",
    b"-rf", b"--help", b"$(id)", b"`id`", b"${HOME}", b"'single'", b'"double"', b"*", b"?", b"[a-z]", b"{experiment}",
    b"a|b>c<d&e", b"%2e%2e", b"%2F", b"%00", b"%", b"#", b"a#", b"?x=1", b"a=b&c=d", b"x;", b";", b"http:", b"s3:x",
    b"file:", b"C:", b"\\", b"..\\..\\x", b"_x2F_", b"_x_", b"__x_", b"x_", b"_x2f_", b".artifact.uploading.x",
    b"mlflow", b"artifacts", b"MLmodel", b"CON", b"nul", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80",
    "\u202egpj.exe".encode(), "\ufeffbom".encode(), "\ufffe".encode(), "\u2028".encode(), "\u0130\u0131".encode(),
    "é".encode() * 127, b"\xff" * 255, b"#" * 255, b"_" * 255,
)  # fmt: skip


@pytest.mark.timeout(150)
def test_hostile_names_in_one_folder_arrive_byte_for_byte(
    site: Site, keeping: Keeping, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """Each as a file, and as a folder that holds a file of its own name."""
    names = sorted({*NAMES, *MORE_NAMES})
    for n, name in enumerate(names):
        folder = os.path.join(os.fsencode(site.folder), b"folders", name)
        os.makedirs(folder)
        for path in (os.path.join(os.fsencode(site.folder), name), os.path.join(folder, name)):
            with open(path, "wb") as f:
                f.write(b"%d " % n + hashlib.sha256(path).digest())
    with site.program.running():
        begun = time.monotonic()
        wait_for(site.stored, f"all is delivered: {site.program.status()}", 90)
        took = time.monotonic() - begun
        ugly = site.program.call("explain", *(os.path.join(str(site.folder), os.fsdecode(n)) for n in names)).stdout
    site.assert_exact(tmp_path / "back")
    record(Row(f"{2 * len(names)} hostile names", 1, 0, 0, keeping.counts.repeats, 0, took))
    assert keeping.counts.repeats == 0
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(ugly + site.program.text()), "names cannot paint on a terminal"


# -- links to elsewhere ----------------------------------------------------------------------------------------------

FOLDERS, FILES, CONTENTS = 10, 20, 50
RACE_SECONDS = 5.0

_RACE = """
import ctypes, os, random, sys, time

drop, experiment, outside, aside, seconds, folders, files, contents = sys.argv[1:]
folders, files, contents = int(folders), int(files), int(contents)
rng = random.Random(5)
libc = ctypes.CDLL(None, use_errno=True)

def exchange(one, other):
    "RENAME_EXCHANGE: there is no moment at which nothing stands there."
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), one)

def swap(path, target, link):
    os.symlink(target, link)
    exchange(path, link)
    time.sleep(rng.choice((0, 0, 0.0005, 0.002, 0.01)))
    exchange(path, link)
    os.unlink(link)

def step(number):
    run = f"{drop}/{experiment}/r"
    d, f = f"d{rng.randrange(folders)}", f"f{rng.randrange(files)}"
    link, dice = f"{aside}/{number}", rng.random()
    if dice < 0.2:
        with open(link, "wb") as new:
            new.write(b"own %d " % rng.randrange(contents) * 1000)
        os.rename(link, f"{run}/{d}/{f}")
    elif dice < 0.5:
        swap(f"{run}/{d}/{f}", f"{outside}/r/{d}/{f}", link)
    elif dice < 0.9:
        swap(f"{run}/{d}", f"{outside}/r/{d}", link)
    elif dice < 0.97:
        swap(run, f"{outside}/r", link)
    else:
        swap(f"{drop}/{experiment}", outside, link)

end, number = time.monotonic() + float(seconds), 0
while time.monotonic() < end:
    step(number)
    number += 1
    time.sleep(rng.choice((0, 0.001, 0.005)))
print(number)
"""


@pytest.mark.timeout(150)
def test_no_race_with_links_brings_what_lies_outside_into_the_store(
    site: Site, keeping: Keeping, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """Files, folders, the run and the experiment are swapped for links to a tree that looks the same, and back.

    A hard link is the file itself and cannot be told apart: whoever can make one may read the file.
    """
    edit(site, SETTLE, f'{SETTLE}scan_interval = "2s"\n')
    outside, aside = tmp_path / "outside", tmp_path / "aside"
    aside.mkdir()
    for base, content in ((site.folder, b"own 0 " * 1000), (outside / "r", SECRET)):
        for d in range(FOLDERS):
            (base / f"d{d}").mkdir(parents=True)
            for f in range(FILES):
                (base / f"d{d}" / f"f{f}").write_bytes(content)
    (outside / "r" / "artifactd.toml").write_text('name = "secret name"\n')
    command: list[object] = [sys.executable, "-c", _RACE, site.program.drop, tmp_path.name, outside, aside]
    command += [RACE_SECONDS, FOLDERS, FILES, CONTENTS]
    with site.program.running():
        wait_for(keeping.in_flight, "uploads have begun", 60)
        race = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True, check=False)
        assert race.returncode == 0, race.stderr
        raced = len(keeping.begun())
        begun = time.monotonic()
        store = mlflow_server.artifact_root / site.oracle.client.get_experiment_by_name(tmp_path.name).experiment_id
        store /= f"{site.oracle.run(tmp_path.name, 'r').info.run_id}/artifacts"
        wait_for(lambda: tree(store) == tree(site.folder), f"all is delivered: {site.program.status()}", 60)
        took = time.monotonic() - begun
        wait_for(site.stored, f"the service knows it: {site.program.status()}")
    own = {hashlib.sha256(b"own %d " % n * 1000).digest() for n in range(CONTENTS)}
    taken = [digest for digests in keeping.digests.values() for digest in digests]
    foreign = [digest for digest in taken if digest not in own]
    assert hashlib.sha256(SECRET).digest() not in taken
    assert not foreign
    site.assert_exact(tmp_path / "back")
    assert len(site.oracle.runs(tmp_path.name)) == 1
    assert raced >= FILES, "too little was sent to race with"
    record(Row(f"swapped for links, {len(taken)} uploads", int(race.stdout), 0, len(foreign), keeping.counts.repeats, 0,
               took))  # fmt: skip
