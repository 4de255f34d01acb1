"""The same program against a real ``mlflow server``: what it delivers, and what it does while there is none."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from conftest import MlflowServer
from service.conftest import OwnServer
from support import Oracle, Program, tree, wait_for

pytestmark = pytest.mark.live

NAMES = [
    b"plain.txt", b"with space.txt", b" leading and trailing ", "açaí-naïve.csv".encode(), "emoji🎉.png".encode(),
    b"hash#1.png", b"hash#2.png", b"what?.txt", b"100%.txt", b"pct%20x", b".hidden", b"..hidden", b"back\\slash",
    b"new\nline", b"tab\there", b"nonutf8-\xff\xfe.bin", b"\xe9clair", b"a" * 255, ("é" * 127).encode(),
    b"#" * 100, b"_x23_", b"c:drive", b"file:uri", b"semi;colon", b"quote'\"", b"<b>markup&amp;", b"-dash", b"~tilde",
    b"e\xcc\x81 nfd", "é nfc".encode(), b"UPPER", b"upper", b".artifact.uploading.x", b"run", b"con",
]  # fmt: skip


def make_tree(drop: Path, files: int, seed: int) -> None:
    """Mixed files in three experiments: 0 B to 50 MiB, nested up to 12 deep, with every kind of name."""
    rng = random.Random(seed)  # noqa: S311  (a tree that can be made again, not a secret)
    root = os.fsencode(drop)
    sizes = [0, 1, 17, 100, 1000, 4096, 4097, 20_000, 65_536]
    for n in range(files):
        run = os.path.join(root, b"exp %d" % (n % 3), b"run-\xc3\xa9-%d" % (n % 7))
        depth = rng.randrange(13)
        folder = os.path.join(run, *(rng.choice([b"d", b"e f", b"g#h", b"\xff", b"i%j"]) for _ in range(depth)))
        os.makedirs(folder, exist_ok=True)
        name = NAMES[n % len(NAMES)]
        if os.path.exists(os.path.join(folder, name)) or os.path.isdir(os.path.join(folder, name)):
            name = b"%d-" % n + name[:240]
        size = 50 * 2**20 if n == 5 else 3 * 2**20 if n % 200 == 7 else rng.choice(sizes)
        with open(os.path.join(folder, name), "wb") as f:
            f.write(rng.randbytes(size))


def stored(program: Program, oracle: Oracle, to: Path) -> dict[bytes, bytes]:
    """What the server holds, put together as the drop folder is."""
    found: dict[bytes, bytes] = {}
    for experiment in os.listdir(os.fsencode(program.drop)):
        for run in os.listdir(os.path.join(os.fsencode(program.drop), experiment)):
            info = oracle.run(experiment.decode(), run.decode()).info
            for path, content in oracle.files(info.run_id, to / info.run_id).items():
                found[os.path.join(experiment, run, path)] = content
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("files", [150, pytest.param(1000, marks=pytest.mark.wide)])
def test_mixed_files_arrive_byte_for_byte_and_are_sent_once(
    files: int, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    make_tree(program.drop, files, seed=7)
    disk = tree(program.drop)
    assert len(disk) == files
    assert max(map(len, disk.values())) == 50 * 2**20
    first = program.call("sync", timeout=280)
    assert first.returncode == 0, first.stdout + first.stderr
    oracle = Oracle(mlflow_server.uri)
    assert stored(program, oracle, tmp_path / "back") == disk
    sent = program.status()["bytes_sent"]
    assert sent == sum(map(len, disk.values()))

    again = program.call("sync")
    assert again.returncode == 0
    assert program.status()["bytes_sent"] == sent, "a second pass sends nothing"

    paths = sorted(disk)
    root = os.fsencode(program.drop)
    for path in paths[:50]:
        os.utime(os.path.join(root, path))
    for path in paths[50:100]:
        with open(os.path.join(root, path), "wb") as f:
            f.write(disk[path])
    with open(os.path.join(root, paths[100]), "wb") as f:
        f.write(b"changed")
    assert program.call("sync").returncode == 0
    assert program.status()["bytes_sent"] == sent + 7, "neither touch nor rewrite is sent, and a change once"
    experiment, run, inner = paths[100].split(b"/", 2)
    now = oracle.files(oracle.run(experiment.decode(), run.decode()).info.run_id, tmp_path / "again")
    before = {
        p[len(experiment) + len(run) + 2 :]: c for p, c in disk.items() if p.startswith(experiment + b"/" + run + b"/")
    }
    assert now == before | {inner: b"changed"}
    assert sum(len(oracle.runs(e)) for e in ("exp 0", "exp 1", "exp 2")) == 21, "one run a folder"


@pytest.mark.timeout(240)
def test_a_server_that_is_down_at_the_start_and_in_the_middle(own_server: OwnServer, tmp_path: Path) -> None:
    program = Program(tmp_path, tracking_uri=own_server.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "2s"\n')
    folder = program.drop / "e" / "r"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"a" * 10)

    down = program.call("sync", "--deadline", "6s")
    assert down.returncode == 75, down.stderr
    assert "Traceback" not in down.stdout + down.stderr
    assert own_server.uri in down.stdout + down.stderr

    with program.running():
        said = wait_for(
            lambda: next(
                (t for t in [program.call("explain", str(folder / "a")).stdout] if "cannot be reached" in t), None
            ),
            "explain says what it waits for",
            60,
        )
        assert own_server.uri in said
        status = program.status()
        assert (status["pending"], status["failed"]) == (1, 0)
        own_server.start()
        program.wait_idle()
        own_server.stop()
        for n in range(20):
            (folder / f"meanwhile-{n}").write_bytes(b"m")
        wait_for(lambda: program.status()["pending"] == 20, "all wait")
        waits = wait_for(
            lambda: next((t for t in [program.call("status").stdout] if "cannot be reached" in t), None),
            "status says why",
            60,
        )
        assert own_server.uri in waits
        assert program.status()["failed"] == 0
        own_server.start()
        wait_for(lambda: program.status()["stored"] == 21, "everything follows", 60)
    assert "Traceback" not in program.text()
    oracle = Oracle(own_server.uri)
    run = oracle.run("e", "r")
    assert oracle.files(run.info.run_id, tmp_path / "back") == tree(folder)
    errors = [e for e in program.events() if e["level"] in ("warning", "error") and "next_step" in e]
    assert 1 <= len(errors) <= 6, f"an outage is said once or twice, not at each probe: {errors}"


@pytest.mark.timeout(240)
def test_a_server_that_goes_in_the_middle_of_a_pass(own_server: OwnServer, tmp_path: Path) -> None:
    """The pass ends with 75 and a list of what is left; the next one delivers it."""
    own_server.start()
    program = Program(tmp_path, tracking_uri=own_server.uri)
    folder = program.drop / "e" / "r"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"a")
    assert program.call("sync").returncode == 0
    own_server.signal(signal.SIGSTOP)
    (folder / "b").write_bytes(b"b")
    frozen = program.call("sync", "--deadline", "18s")
    own_server.signal(signal.SIGCONT)
    assert frozen.returncode == 75, frozen.stdout + frozen.stderr
    assert str(folder / "b") in frozen.stdout + frozen.stderr
    assert program.call("sync").returncode == 0
    assert program.status()["stored"] == 2


def test_a_server_that_names_the_state_folder_for_artifacts_is_refused(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    inside = program.state / "store"
    Oracle(mlflow_server.uri).client.create_experiment(tmp_path.name, artifact_location=inside.as_uri())
    run = program.drop / tmp_path.name / "r"
    run.mkdir(parents=True)
    (run / "ledger.db").write_bytes(b"no ledger")
    with program.running():
        wait_for(lambda: "artifactd's own state folder" in program.text(), "it is refused", 60)
    assert not inside.exists()
