"""An upgrade: the service starts on a ledger that an earlier version wrote, and sends nothing again.

``ledgers/schema-N.sql`` is what a service that kept schema N wrote on a host called ``fixture-host`` when it had
delivered ``FILES`` from a folder of the name that `host` makes (a run's key comes from both).
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from artifactd.config import load_config
from artifactd.engine import Engine
from artifactd.ledger import Report, State
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from made_store import copy_store
from support import wait_for

LEDGERS = Path(__file__).with_name("ledgers")
SCHEMAS = sorted(int(path.stem.rpartition("-")[2]) for path in LEDGERS.glob("schema-*.sql"))
FILES = {
    "run-1": {
        "a.txt": b"alpha\n",
        "plots/loss #1.svg": b"<svg/>\n",
        "weights/model.bin": b"0123456789abcdef" * 4096,
        "deep/er/same.txt": b"alpha\n",
        ".done": b"",
    },
    "run-2": {"b.txt": b"beta\n", "train.log": b"line\n" * 2000},
}
STORED = {"plots/loss #1.svg": "plots/loss _x23_1.svg"}
"""What is called otherwise in the store."""


class Host:
    """The drop folder, the store and the ledger as the earlier version left them."""

    def __init__(self, base: Path, schema: int) -> None:
        self.drop, self.state = base / "drop", base / "state"
        copy_store(self.state / "mlflow.db", (self.state / "artifacts").as_uri())
        with closing(sqlite3.connect(self.state / FILE_NAME)) as con:
            con.executescript((LEDGERS / f"schema-{schema}.sql").read_text())
            assert con.execute("PRAGMA user_version").fetchone() == (schema,)
            client = MlflowClient(f"sqlite:///{self.state}/mlflow.db")
            experiment = client.create_experiment("vision", (self.state / "artifacts" / "1").as_uri())
            self.runs: dict[str, Path] = {}
            for name, key in con.execute("SELECT name, identity FROM runs").fetchall():
                run = client.create_run(experiment, run_name=name, tags={"artifactd.key": key})
                self.runs[name] = self.state / "artifacts" / "1" / run.info.run_id / "artifacts"
                con.execute("UPDATE runs SET run_id = ? WHERE name = ?", (run.info.run_id, name))
            con.commit()
        for name, files in FILES.items():
            for rel, content in files.items():
                for file in (self.drop / "vision" / name / rel, self.runs[name] / STORED.get(rel, rel)):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
        config = base / "config.toml"
        config.write_text(f'state_dir = "{self.state}"\n[[watch]]\npath = "{self.drop}"\nsettle = "0.2s"\n')
        self.engine = Engine(load_config(config), "test")

    def turn_until(self, condition: Callable[[], object], what: str) -> None:
        def turned() -> object:
            self.engine.turn(0.02)
            return condition()

        wait_for(turned, what, 60, pauses=(0.02,))

    def artifacts(self) -> dict[Path, int]:
        """What the store holds of the files, and since when."""
        files = [path for root in self.runs.values() for path in root.rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files if path.parent.name != "artifactd"}

    def bytes_sent(self) -> int:
        with closing(Report(self.state)) as report:
            return report.totals().bytes_sent

    def at_rest(self) -> bool:
        """Whether all is stored but the log, which may grow on."""
        with closing(Report(self.state)) as report:
            stored = report.totals().states.get(State.STORED, 0)
        return self.engine.scanned and not self.engine.busy and stored >= sum(map(len, FILES.values()))


@pytest.fixture
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(socket, "gethostname", lambda: "fixture-host")
    base = Path(f"/tmp/artifactd-ledger-{request.param}")
    with base.with_suffix(".lock").open("w") as lock:  # of another run of the tests on this machine
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(mode=0o700)
        made = Host(base, request.param)
        yield made
        made.engine.close()
        shutil.rmtree(base)


def test_the_ledger_of_the_version_before_is_kept() -> None:
    assert VERSION - 1 in SCHEMAS, "a new schema: keep a ledger of the one before it, see above"


@pytest.mark.parametrize("host", SCHEMAS, indirect=True)
def test_nothing_is_sent_again_after_an_upgrade_and_new_files_go_into_the_same_run(host: Host) -> None:
    before, sent = host.artifacts(), host.bytes_sent()
    assert written_version(host.state / FILE_NAME) == VERSION
    new = host.drop / "vision" / "run-1" / "later.txt"
    new.write_bytes(b"after the upgrade\n")
    host.turn_until(lambda: (host.runs["run-1"] / "later.txt").exists() and host.at_rest(), "the new file")
    now = host.artifacts()
    assert now.pop(host.runs["run-1"] / "later.txt")
    assert now == before
    assert host.bytes_sent() == sent + len(b"after the upgrade\n")
    assert sorted(path.name for path in host.runs["run-1"].parent.parent.iterdir()) == sorted(
        root.parent.name for root in host.runs.values()
    )
