"""The job of one model against the real embedded store, in this process: READY and registered once, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from artifactd.delivery.messages import (
    DeliverModel,
    Finished,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Root,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.weights import tell_model
from artifactd.delivery.worker import STILL_OPEN, Worker
from artifactd.errors import Kind, Scope
from artifactd.ledger import DueFile, FileId, Growth
from artifactd.registration import WEIGHTS, ModelMark, Registration
from artifactd.tracking import models, registry
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunSpec, inspect_run
from artifactd.watching.inside import open_file
from artifactd.watching.signature import Signature

NAMES = ("MLmodel", "README.md", "data/weights.bin")


class Bench:
    """One worker, one model's folder, one run of its own in an embedded store that all tests share."""

    def __init__(self, store: Path, drop: Path) -> None:
        self.drop = drop
        self.target = Target(f"sqlite:///{store}/mlflow.db", store / "artifacts")
        self.worker = Worker()
        self.name = drop.name
        spec = RunSpec(
            key=drop.name, run_id=None, experiment=drop.name, name="r", artifact_location=(store / "artifacts").as_uri()
        )
        (ready,) = self.worker.do(PrepareRun(self.target, 1, spec))
        assert isinstance(ready, RunReady)
        self.run_id, self.experiment = ready.run_id, ready.experiment_id
        self.client = MlflowClient(self.target.uri, registry_uri=self.target.uri)
        (drop / "model" / "data").mkdir(parents=True)
        for name in NAMES:
            self.write(name, f"this is {name}")

    def write(self, name: str, content: str) -> None:
        (self.drop / "model" / name).write_text(content)

    def due(self, name: str, *, ask: bool = True) -> DueFile:
        path = self.drop / "model" / name
        folder, _, leaf = f"model/{name}".rpartition("/")
        signature = Signature.of(path.lstat())
        ident = FileId(1, name.encode())
        return DueFile(
            ident, f"model/{name}".encode(), signature, folder, leaf, 1, None, 0, 0.0, ask=ask, role="model:1::t"
        )

    def deliver(self, registration: Registration | None = None, *names: str, lost: str = "") -> list[Any]:
        job = DeliverModel(
            self.target, 1, self.run_id, Root(os.fsencode(self.drop), None, leases=True),
            tuple(self.due(n, ask=n != lost) for n in names or NAMES), folder=b"model", path="model", name="model",
            registration=registration or Registration(self.name, ("champion",), (("team", "vision"),)),
        )  # fmt: skip
        *parts, end = self.worker.do(job)
        assert isinstance(end, Finished), end
        return [r for part in parts if isinstance(part, Outcomes) for r in part.results]

    def models(self) -> list[Any]:
        return list(self.client.search_logged_models([self.experiment]))

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions(f"name = '{self.name}'"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def bench(store: Path, tmp_path: Path) -> Bench:
    return Bench(store, tmp_path)


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], object]) -> None:
    """Have something happen to the disk after a file was sent, and before it is compared again."""
    upload = RunArtifacts.upload

    def and_then(self: RunArtifacts, fd: int, size: int, folder: str, leaf: str, *more: Any) -> None:
        upload(self, fd, size, folder, leaf, *more)
        act(leaf)

    monkeypatch.setattr(RunArtifacts, "upload", and_then)


def test_all_its_files_are_stored_with_one_mark_and_the_second_job_sends_nothing(bench: Bench) -> None:
    first = bench.deliver()
    assert [type(r) for r in first] == [Stored] * 3
    assert [r.sent for r in first] == [r.size for r in first]
    (model,) = bench.models()
    marks = {ModelMark.from_bytes(r.told.mark) for r in first}
    assert marks == {ModelMark(model.model_id, bench.name, "1")}
    assert [r.sent for r in bench.deliver()] == [None] * 3
    (version,) = bench.versions()
    assert version.description == "this is README.md"
    root = Path(model.artifact_location.removeprefix("file://"))
    assert {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()} == {
        name: f"this is {name}" for name in NAMES
    }


def test_what_the_store_lost_of_a_model_that_is_ready_is_sent_to_where_it_stood(bench: Bench) -> None:
    bench.deliver()
    (model,) = bench.models()
    weights = Path(model.artifact_location.removeprefix("file://")) / "data" / "weights.bin"
    weights.unlink()
    again = bench.deliver(lost="data/weights.bin")
    assert {r.file.leaf: r.sent for r in again} == {"MLmodel": None, "README.md": None, "weights.bin": 24}
    assert weights.read_text() == "this is data/weights.bin"
    assert [m.model_id for m in bench.models()] == [model.model_id]
    assert len(bench.versions()) == 1


@pytest.mark.parametrize("when", [1, 3])
def test_a_file_that_changes_under_the_job_leaves_nothing_ready(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    sent: list[str] = []

    def change(leaf: str) -> None:
        sent.append(leaf)
        if len(sent) == when:
            bench.write("MLmodel", "another one")  # sent before, whichever is the last

    with monkeypatch.context() as patch:
        meanwhile(patch, change)
        (result,) = bench.deliver()
    assert isinstance(result, NotAtRest)
    assert result.sent == sum(len(f"this is {n}") for n in NAMES[:when])
    assert [str(m.status) for m in bench.models()] == ["PENDING"]
    assert bench.versions() == []
    assert {type(r) for r in bench.deliver()} == {Stored}
    assert sorted(str(m.status) for m in bench.models()) == ["PENDING", "READY"]
    bench.write("MLmodel", "this is MLmodel")
    again = bench.deliver()
    assert sum(r.sent or 0 for r in again) <= sum(len(f"this is {n}") for n in NAMES[when:]), "what is there stays"
    assert [str(m.status) for m in bench.models()] == ["READY", "READY"], "the content that came back is gone on with"


def test_what_is_open_for_writing_or_gone_is_not_sent(bench: Bench) -> None:
    with (bench.drop / "model" / "MLmodel").open("a"):
        (result,) = bench.deliver()
    assert isinstance(result, NotAtRest)
    assert result.reason == STILL_OPEN
    files = [bench.due(n) for n in NAMES]
    (bench.drop / "model" / "README.md").unlink()
    job = DeliverModel(
        bench.target, 1, bench.run_id, Root(os.fsencode(bench.drop), None, leases=True), tuple(files), folder=b"model",
        path="model", name="model",
    )  # fmt: skip
    outcome, _ = bench.worker.do(job)
    assert isinstance(outcome, Outcomes)
    (gone,) = outcome.results
    assert isinstance(gone, NotAtRest)
    assert gone.signature is None
    assert bench.models() == []


def test_one_file_that_may_not_be_read_holds_all_back_by_its_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: int, rel: bytes) -> int:
        if rel.endswith(b"weights.bin"):
            raise PermissionError(13, "Permission denied")
        return open_file(root, rel)

    monkeypatch.setattr("artifactd.delivery.modelling.open_file", refuse)
    results = bench.deliver()
    assert [type(r) for r in results] == [NotDelivered] * 3
    assert {(r.failure.kind, r.failure.scope) for r in results} == {(Kind.PERMANENT, Scope.FILE)}
    assert all("model/data/weights.bin: the service's user may not read it" in r.failure.error for r in results)
    assert bench.models() == []


def test_what_the_registry_refuses_is_told_at_one_file_and_the_model_is_stored(bench: Bench) -> None:
    results = bench.deliver(Registration("no/such"))
    assert [type(r) for r in results] == [Stored] * 3
    failures = [(r.file.rel, r.told.failure) for r in results if r.told.failure is not None]
    ((rel, failure),) = failures
    assert rel == b"model/MLmodel"
    assert failure.kind is Kind.PERMANENT
    assert "could not be registered" in failure.error
    assert [str(m.status) for m in bench.models()] == ["READY"]
    assert {type(r) for r in bench.deliver()} == {Stored}
    assert len(bench.models()) == len(bench.versions()) == 1


def test_an_alias_that_a_person_moved_stays_and_new_tags_are_set(bench: Bench) -> None:
    bench.deliver()
    bench.client.create_model_version(bench.name, "file:///elsewhere", await_creation_for=0)
    bench.client.set_registered_model_alias(bench.name, "champion", "2")
    bench.deliver(Registration(bench.name, ("champion", "canary"), (("team", "audio"),)))
    aliases = {k: str(v) for k, v in bench.client.get_registered_model(bench.name).aliases.items()}
    assert aliases == {"champion": "2", "canary": "1"}
    assert bench.client.get_model_version(bench.name, "1").tags["team"] == "audio"


def test_two_hosts_that_make_it_at_the_same_moment_end_with_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.deliver()
    find, calls = models._find, []

    def not_yet(*args: Any) -> Any:
        calls.append(args)
        return None if len(calls) == 1 else find(*args)

    monkeypatch.setattr(models, "_find", not_yet)
    bench.worker = Worker()
    assert {type(r) for r in bench.deliver()} == {Stored}
    assert len(bench.models()) == len(bench.versions()) == 1


def test_two_hosts_that_register_it_at_the_same_moment_end_with_one_version(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.deliver()
    find, calls = registry._find, []

    def not_yet(*args: Any) -> Any:
        calls.append(args)
        return None if len(calls) == 1 else find(*args)

    monkeypatch.setattr(registry, "_find", not_yet)
    results = bench.deliver()
    assert {ModelMark.from_bytes(r.told.mark).version for r in results} == {"1"}
    assert [str(v.version) for v in bench.versions()] == ["1"]
    assert str(bench.client.get_model_version_by_alias(bench.name, "champion").version) == "1"


def test_missing_rights_to_the_registry_hold_back_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = MlflowException("Permission denied")
    refused.error_code = "PERMISSION_DENIED"

    def deny(*_: Any, **__: Any) -> None:
        raise refused

    # In a context: to undo all that was patched brings back the variables of an earlier test as well, and MLflow's
    # registry asks the server that they name for the model.
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_registered_model", deny)
        results = bench.deliver()
    assert {type(r) for r in results} == {Stored}
    (failure,) = [r.told.failure for r in results if r.told.failure is not None]
    assert (failure.kind, failure.scope) == (Kind.TRANSIENT, Scope.FILE), "it is tried again, and the target goes on"
    results = bench.deliver()
    assert {type(r) for r in results} == {Stored}
    assert [r.told.failure for r in results if r.told.failure is not None] == []
    assert len(bench.versions()) == len(bench.models()) == 1


def test_a_server_without_logged_models_is_a_failure_with_the_next_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = MlflowException("no such endpoint")
    refused.error_code = "ENDPOINT_NOT_FOUND"

    def old(*_: Any, **__: Any) -> None:
        raise refused

    monkeypatch.setattr(MlflowClient, "search_logged_models", old)
    results = bench.deliver()
    assert {type(r) for r in results} == {NotDelivered}
    assert "older than MLflow 3.0" in results[0].failure.error
    assert "take kind" in results[0].failure.cure


def test_weights_name_the_artifact_that_holds_them(bench: Bench) -> None:
    run = inspect_run(bench.client, bench.run_id, bench.target.uri)
    role = f"{WEIGHTS}:{Registration(bench.name).to_text()}"

    def file(leaf: str, version: int, digest: bytes | None, **more: Any) -> DueFile:
        signature = Signature(1, 1, 1, 1)
        return DueFile(
            FileId(1, b"m"), b"e/m.pkl", signature, "w", leaf, 1, digest, 0, 0.0, version=version, role=role, **more
        )

    def told(due: DueFile, digest: bytes) -> Any:
        return tell_model(bench.client, run, bench.target.uri, due, digest)

    assert told(file("m.pkl", 0, None), b"a" * 32).failure.cure.startswith('Set on_change = "version"')
    assert told(file("m.pkl", 1, None, growth=Growth.SNAPSHOT), b"a" * 32).mark is None
    told(file("m.pkl", 1, None), b"a" * 32)  # sent
    told(file("m_v2.pkl", 2, b"a" * 32), b"a" * 32)  # known to be there: under the name of the first
    told(file("m_v2.pkl", 2, b"b" * 32, ask=True), b"b" * 32)  # found there
    told(file("m_v3.pkl", 3, b"b" * 32), b"b" * 32)
    assert sorted(v.source for v in bench.versions()) == [
        f"runs:/{bench.run_id}/w/m.pkl", f"runs:/{bench.run_id}/w/m_v2.pkl"
    ]  # fmt: skip
