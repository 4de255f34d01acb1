"""A worker against the real embedded store, in this process: what it says of a file must be true."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifactd.delivery import worker as room
from artifactd.delivery.messages import (
    AskRun,
    Deliver,
    EndRun,
    Finished,
    Free,
    JobFailed,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Root,
    RunEnded,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.worker import STILL_OPEN, Worker
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger import DueFile, FileId, Growth, Name
from artifactd.runfolder import End
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunSpec
from artifactd.watching.signature import Signature


class Bench:
    """One worker, one drop folder, one run in an embedded store."""

    def __init__(self, base: Path) -> None:
        self.drop = base / "drop"
        self.drop.mkdir()
        self.target = Target(f"sqlite:///{base}/mlflow.db", base / "artifacts")
        self.worker = Worker()
        (ready,) = self.worker.do(self.prepare())
        assert isinstance(ready, RunReady)
        self.run_id = ready.run_id
        self.store = base / "artifacts" / self.run_id / "artifacts"

    def prepare(self, **more: Any) -> PrepareRun:
        spec: dict[str, Any] = {
            "key": "k" * 40, "run_id": None, "experiment": "e", "name": "r", "tags": {"artifactd.host": "h"},
            "artifact_location": (self.drop.parent / "artifacts").as_uri(), **more,
        }  # fmt: skip
        return PrepareRun(self.target, 1, RunSpec(**spec))

    def due(self, name: str, *, folder: str = "", digest: bytes | None = None, **more: Any) -> DueFile:
        signature = Signature.of((self.drop / name).lstat())
        return DueFile(FileId(1, name.encode()), name.encode(), signature, folder, name, 1, digest, 0, 0.0, **more)

    def deliver(self, *files: DueFile, run_id: str | None = None) -> list[Any]:
        job = Deliver(self.target, 1, run_id or self.run_id, Root(os.fsencode(self.drop), None, leases=True), files)
        *parts, end = self.worker.do(job)
        assert isinstance(end, Finished), end
        return [r for part in parts if isinstance(part, Outcomes) for r in part.results]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    yield shared
    for path in shared.drop.iterdir():
        path.unlink()


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen to the disk after the file was read and sent, and before it is compared again."""
    upload = RunArtifacts.upload

    def and_then(self: RunArtifacts, *args: Any) -> None:
        upload(self, *args)
        act()

    monkeypatch.setattr(RunArtifacts, "upload", and_then)


@pytest.mark.parametrize("size", [300_000, 3_000_000])  # hashed before it is sent, and while
def test_what_is_called_stored_is_in_the_store_byte_for_byte(bench: Bench, size: int) -> None:
    content = os.urandom(size)
    (bench.drop / "m.bin").write_bytes(content)
    (bench.drop / "empty").touch()
    stored, empty = sorted(
        bench.deliver(bench.due("m.bin", folder="models"), bench.due("empty")), key=lambda r: -r.sent
    )
    assert isinstance(stored, Stored)
    assert (stored.sent, stored.digest) == (size, hashlib.sha256(content).digest())
    assert (bench.store / "models" / "m.bin").read_bytes() == content
    assert isinstance(empty, Stored)
    assert (bench.store / "empty").read_bytes() == b""


def test_the_same_content_is_not_sent_again(bench: Bench) -> None:
    (bench.drop / "f").write_bytes(b"same")
    (first,) = bench.deliver(bench.due("f"))
    (bench.store / "f").unlink()  # whatever is sent would be seen
    os.utime(bench.drop / "f")
    (second,) = bench.deliver(bench.due("f", digest=first.digest))
    assert (second.sent, second.digest) == (None, first.digest)
    assert not (bench.store / "f").exists()


def test_a_file_that_changed_since_the_look_is_not_sent(bench: Bench) -> None:
    (bench.drop / "f1").write_bytes(b"old")
    file = bench.due("f1")
    (bench.drop / "f1").write_bytes(b"newer")
    (result,) = bench.deliver(file)
    assert isinstance(result, NotAtRest)
    assert (result.sent, result.signature) == (0, bench.due("f1").signature)
    assert not (bench.store / "f1").exists()


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_file_that_changes_under_the_upload_is_not_called_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (bench.drop / "f").write_bytes(b"a" * size)
    meanwhile(monkeypatch, lambda: (bench.drop / "f").write_bytes(b"b" * size))
    (result,) = bench.deliver(bench.due("f"))
    assert isinstance(result, NotAtRest)
    assert result.sent == size


@pytest.mark.parametrize("how", ["unlink", "replace"])
def test_a_file_that_goes_or_is_replaced_under_the_upload_is_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (bench.drop / "f").write_bytes(b"a")
    (bench.drop / "other").write_bytes(b"b")
    act = (bench.drop / "f").unlink if how == "unlink" else lambda: (bench.drop / "other").rename(bench.drop / "f")
    meanwhile(monkeypatch, act)
    (result,) = bench.deliver(bench.due("f"))
    assert isinstance(result, NotAtRest)


def test_a_file_that_is_gone_is_told_as_gone(bench: Bench) -> None:
    (bench.drop / "f").touch()
    file = bench.due("f")
    (bench.drop / "f").unlink()
    (result,) = bench.deliver(file)
    assert isinstance(result, NotAtRest)
    assert result.signature is None


def test_a_file_that_became_a_link_out_of_the_folder_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("outside")
    (bench.drop / "f2").touch()
    file = bench.due("f2")
    (bench.drop / "f2").unlink()
    (bench.drop / "f2").symlink_to(secret)
    (result,) = bench.deliver(file)
    assert isinstance(result, NotAtRest)
    assert not (bench.store / "f2").exists()


def test_a_file_that_is_open_for_writing_waits(bench: Bench) -> None:
    with (bench.drop / "log").open("wb") as writing:
        writing.write(b"line")
        writing.flush()
        (result,) = bench.deliver(bench.due("log"))
        assert isinstance(result, NotAtRest)
        assert result.reason == STILL_OPEN
    (result,) = bench.deliver(bench.due("log"))
    assert isinstance(result, Stored)


def test_an_upload_that_the_store_does_not_list_is_not_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that answers 200 in the server's place: the call succeeds and nothing is there."""
    (bench.drop / "f3").write_bytes(b"x")
    monkeypatch.setattr(RunArtifacts, "upload", lambda *_: None)
    (result,) = bench.deliver(bench.due("f3"))
    assert isinstance(result, NotDelivered)
    assert result.touched
    assert "does not list it" in result.failure.error
    assert result.failure.kind is Kind.TRANSIENT


def test_a_short_object_in_the_store_is_not_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.drop / "f4").write_bytes(b"12345")
    meanwhile(monkeypatch, lambda: (bench.store / "f4").write_bytes(b"123"))
    (result,) = bench.deliver(bench.due("f4"))
    assert isinstance(result, NotDelivered)
    assert "lists it with 3 bytes instead of 5" in result.failure.error


def test_a_store_that_cannot_be_listed_is_sent_no_more_of_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it could be called stored, and all of it would be in doubt."""
    refused = Failure(Kind.PAUSED, Scope.RUN, "may not be listed", "let it be")
    uploads: list[str] = []

    def refuse(*_: object) -> dict[str, int]:
        raise DeliveryError(refused)

    def longer_than_the_span(*args: Any) -> None:
        uploads.append(args[4])
        time.sleep(0.2)

    monkeypatch.setattr(RunArtifacts, "sizes", refuse)
    monkeypatch.setattr(RunArtifacts, "upload", longer_than_the_span)
    monkeypatch.setattr(room, "SPAN", 0.1)
    for name in ("v0", "v1", "v2"):
        (bench.drop / name).write_bytes(b"x")
    files = tuple(bench.due(name) for name in ("v0", "v1", "v2"))
    job = Deliver(bench.target, 1, bench.run_id, Root(os.fsencode(bench.drop), None, leases=True), files)
    outcomes, end = Worker().do(job)
    assert isinstance(outcomes, Outcomes)
    assert [r.failure for r in outcomes.results if isinstance(r, NotDelivered)] == [refused]
    assert end == JobFailed(refused)
    assert uploads == ["v0"]


def test_one_bad_file_does_not_keep_the_others(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        (bench.drop / name).write_bytes(name.encode())
    bad = bench.due("b", folder="x/../y")
    results = {r.file.leaf: r for r in bench.deliver(bench.due("a"), bad, bench.due("c"))}
    assert isinstance(results["a"], Stored)
    assert isinstance(results["c"], Stored)
    assert isinstance(results["b"], NotDelivered)
    assert results["b"].failure.kind is Kind.PERMANENT


def test_a_stop_between_files_reports_what_was_done(bench: Bench) -> None:
    from multiprocessing import Pipe

    for n in range(5):
        (bench.drop / f"s{n}").write_bytes(b"x")
    ours, theirs = Pipe()
    job = Deliver(
        bench.target,
        1,
        bench.run_id,
        Root(os.fsencode(bench.drop), None, leases=True),
        tuple(bench.due(f"s{n}") for n in range(5)),
    )
    ours.send("wrap up")
    answers = list(bench.worker.do(job, theirs))
    assert answers == [Finished()], "told before the first file: none was begun"


def test_prepare_finds_the_run_that_a_lost_answer_left(bench: Bench) -> None:
    from mlflow import MlflowClient

    (again,) = Worker().do(bench.prepare())
    assert isinstance(again, RunReady)
    assert (again.run_id, again.status, again.found) == (bench.run_id, "RUNNING", True)
    (asked,) = bench.worker.do(AskRun(bench.target, 0, bench.run_id))
    assert asked == again
    experiment = MlflowClient(bench.target.uri).get_experiment_by_name("e")
    assert experiment is not None
    assert again.experiment_id == experiment.experiment_id


def test_an_end_that_the_job_gave_itself_keeps_its_time(bench: Bench) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(bench.target.uri)
    run = client.create_run("0").info.run_id
    client.set_terminated(run, "FINISHED", end_time=1234)
    assert list(bench.worker.do(EndRun(bench.target, 1, run, End("FINISHED")))) == [RunEnded("FINISHED")]
    assert client.get_run(run).info.end_time == 1234
    assert list(bench.worker.do(EndRun(bench.target, 1, run, End("FAILED")))) == [RunEnded("FAILED")]
    assert client.get_run(run).info.status == "FAILED"


def test_prepare_tells_what_changed_and_adopts(bench: Bench) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(bench.target.uri)
    other = client.create_run("0", tags={"artifactd.host": "elsewhere", "mine": "1"}, run_name="theirs")
    adopt = bench.prepare(
        key=None, run_id=other.info.run_id, name="ours", tags={"artifactd.host": "h", "team": "x"}, params={"lr": "0.1"}
    )
    assert list(bench.worker.do(adopt)) == [RunReady(other.info.run_id, "RUNNING", found=True, experiment_id="0")]
    run = client.get_run(other.info.run_id)
    assert (run.info.run_name, run.data.tags["artifactd.host"], run.data.tags["team"]) == ("theirs", "elsewhere", "x")
    assert run.data.params == {"lr": "0.1"}


def test_a_deleted_run_and_a_deleted_experiment_are_found_out_before_the_upload(bench: Bench) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(bench.target.uri)
    experiment = client.create_experiment("doomed", artifact_location=(bench.drop.parent / "artifacts").as_uri())
    run_id = client.create_run(experiment, tags={"artifactd.key": "x" * 40}).info.run_id
    (bench.drop / "f").write_bytes(b"x")
    job = Deliver(bench.target, 1, run_id, Root(os.fsencode(bench.drop), None, leases=True), (bench.due("f"),))
    client.delete_run(run_id)
    for doomed in (
        job,
        bench.prepare(key="x" * 40, experiment="doomed"),
        EndRun(bench.target, 1, run_id, End("FINISHED")),
    ):
        (failed,) = bench.worker.do(doomed)
        assert isinstance(failed, JobFailed)
        assert (failed.failure.kind, failed.failure.scope) == (Kind.PERMANENT, Scope.RUN)
        assert f"mlflow runs restore --run-id {run_id}" in failed.failure.cure
    client.restore_run(run_id)
    client.delete_experiment(experiment)
    for doomed in (job, bench.prepare(key="x" * 40, experiment="doomed")):
        (failed,) = bench.worker.do(doomed)
        assert isinstance(failed, JobFailed)
        assert f"mlflow experiments restore --experiment-id {experiment}" in failed.failure.cure
    assert not list((bench.drop.parent / "artifacts" / run_id).rglob("f"))


def test_a_purged_run_of_ours_is_made_anew_and_an_adopted_one_is_not(bench: Bench) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(bench.target.uri)
    run_id = client.create_run("0").info.run_id
    client._tracking_client.store._hard_delete_run(run_id)
    (ready,) = bench.worker.do(bench.prepare(key="p" * 40, run_id=run_id))
    assert isinstance(ready, RunReady)
    assert ready.run_id != run_id
    (failed,) = bench.worker.do(bench.prepare(key=None, run_id=run_id))
    assert isinstance(failed, JobFailed)
    assert (failed.failure.kind, failed.failure.scope) == (Kind.PERMANENT, Scope.RUN)


def test_ending_a_run(bench: Bench) -> None:
    from mlflow import MlflowClient

    run_id = MlflowClient(bench.target.uri).create_run("0").info.run_id
    assert list(bench.worker.do(EndRun(bench.target, 1, run_id, End("FAILED")))) == [RunEnded("FAILED")]
    assert MlflowClient(bench.target.uri).get_run(run_id).info.status == "FAILED"


def test_what_another_process_puts_in_the_files_place_is_never_sent(bench: Bench, tmp_path: Path) -> None:
    """A second user swaps the file for a link to a secret, over and over, while it is delivered."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"SECRET")
    path, spare = bench.drop / "race", bench.drop / "spare"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            spare.unlink(missing_ok=True)
            spare.symlink_to(secret)
            spare.replace(path)
            spare.write_bytes(b"honest")
            spare.replace(path)

    path.write_bytes(b"honest")
    swapper = threading.Thread(target=swap)
    swapper.start()
    stored = 0
    try:
        for _ in range(300):
            (result,) = bench.deliver(bench.due("race"))
            stored += isinstance(result, Stored)
            if (bench.store / "race").exists():
                assert (bench.store / "race").read_bytes() == b"honest"
    finally:
        stop.set()
        swapper.join()


def test_listings_are_made_by_folder_not_by_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    sizes = RunArtifacts.sizes

    def counting(self: RunArtifacts, folder: str, *names: Any) -> dict[str, int]:
        asked.append(folder)
        return sizes(self, folder, *names)

    monkeypatch.setattr(RunArtifacts, "sizes", counting)
    monkeypatch.setattr(room, "SPAN", 60.0)
    for n in range(20):
        (bench.drop / f"l{n}").write_bytes(b"x")
    assert len(bench.deliver(*(bench.due(f"l{n}", folder=f"d{n % 2}") for n in range(20)))) == 20
    assert sorted(asked) == ["d0", "d1"]


def test_another_folder_in_the_roots_place_is_not_delivered_from(bench: Bench) -> None:
    (bench.drop / "f").write_bytes(b"x")
    st = bench.drop.stat()
    for identity, begun in (((st.st_dev, st.st_ino), True), ((st.st_dev, st.st_ino + 1), False)):
        root = Root(os.fsencode(bench.drop), identity, leases=True)
        answers = list(bench.worker.do(Deliver(bench.target, 1, bench.run_id, root, (bench.due("f"),))))
        assert isinstance(answers[0], Outcomes) is begun


# -- names in a run that other hosts deliver into --------------------------------------------------------------------


def named(file: DueFile, name: Name, **more: Any) -> DueFile:
    return replace(file, name=name, **more)


def test_a_name_that_is_free_is_told_before_anything_is_sent(bench: Bench) -> None:
    (bench.drop / "n1").write_bytes(b"mine")
    file = bench.due("n1", folder="fleet")
    assert bench.deliver(named(file, Name.STRANGE)) == [Free(named(file, Name.STRANGE))]
    assert not (bench.store / "fleet" / "n1").exists()
    (stored,) = bench.deliver(named(file, Name.FREE))
    assert isinstance(stored, Stored)
    assert (bench.store / "fleet" / "n1").read_bytes() == b"mine"


@pytest.mark.parametrize("name", [Name.STRANGE, Name.FREE])
@pytest.mark.parametrize("growth", list(Growth))
@pytest.mark.parametrize("leases", [True, False], ids=["own disk", "shared disk"])
def test_another_hosts_file_is_never_overwritten(bench: Bench, name: Name, growth: Growth, leases: bool) -> None:
    (bench.store / "n2").write_bytes(b"theirs")
    (bench.drop / "n2").write_bytes(b"mine!!")
    file = named(bench.due("n2"), name, growth=growth)
    job = Deliver(bench.target, 1, bench.run_id, Root(os.fsencode(bench.drop), None, leases=leases), (file,))
    outcomes, end = bench.worker.do(job)
    assert isinstance(outcomes, Outcomes)
    (refused,) = outcomes.results
    assert isinstance(refused, NotDelivered)
    assert refused.failure.kind is (Kind.PERMANENT if leases else Kind.TRANSIENT)
    assert "another host's file stands there: the run holds n2" in refused.failure.error
    assert "rank-0/" in refused.failure.cure
    assert not refused.touched
    assert isinstance(end, Finished)
    assert (bench.store / "n2").read_bytes() == b"theirs"


def test_the_same_content_of_another_host_is_taken_for_stored(bench: Bench) -> None:
    (bench.store / "n3").write_bytes(b"equal")
    (bench.drop / "n3").write_bytes(b"equal")
    (stored,) = bench.deliver(named(bench.due("n3"), Name.STRANGE))
    assert isinstance(stored, Stored)
    assert (stored.sent, stored.file.ask) == (None, True)


def test_versions_of_another_host_are_no_first_version_of_this_one(bench: Bench) -> None:
    for leaf, content in (("n4.bin", b"1"), ("n4_v2.bin", b"2")):
        (bench.store / leaf).write_bytes(content)
    (bench.drop / "n4.bin").write_bytes(b"3")
    (refused,) = bench.deliver(named(bench.due("n4.bin"), Name.STRANGE, version=1))
    assert isinstance(refused, NotDelivered)
    (bench.drop / "n4.bin").write_bytes(b"2")
    (stored,) = bench.deliver(named(bench.due("n4.bin"), Name.STRANGE, version=1))
    assert isinstance(stored, Stored)
    assert (stored.sent, stored.file.leaf) == (None, "n4_v2.bin")


@pytest.mark.parametrize("scope", [Scope.FILE, Scope.TARGET])
def test_a_store_that_cannot_be_asked_makes_no_name_ours(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    (bench.drop / "n5").write_bytes(b"x")
    failure = Failure(Kind.TRANSIENT, scope, "answered 500")

    def refuse(*_: object) -> dict[str, int]:
        raise DeliveryError(failure)

    monkeypatch.setattr(RunArtifacts, "sizes", refuse)
    file = named(bench.due("n5"), Name.FREE)
    job = Deliver(bench.target, 1, bench.run_id, Root(os.fsencode(bench.drop), None, leases=True), (file,))
    answers = list(bench.worker.do(job))
    if scope is Scope.FILE:
        assert answers[0] == Outcomes((NotDelivered(file, failure, 0, touched=False),))
    else:
        assert answers == [JobFailed(failure)], "nothing was tried"
    assert not (bench.store / "n5").exists()
