"""Model folders, judged by the disk: whole, waited for, given up, stored; and what a look makes of their files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import Failure, Kind, Scope
from artifactd.layout import Route
from artifactd.ledger import DueFile, State
from artifactd.ledger.schema import LEAF
from artifactd.models import MAY_FOLLOW, ModelFolder, ModelFolders
from artifactd.pace import GIVE_UP, GIVE_UP_ENDED
from artifactd.registration import ModelRole, Registration
from desk import SETTLE, Desk, at_desk

LATER = SETTLE + 1
MLMODEL = """\
flavors:
  python_function:
    data: data
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: m
utc_time_created: '2026-11-26 10:00:00'
"""
REGISTERED = Registration("r", ("champion",))
ROUTES = (Route("model/**", None, "model", registration=REGISTERED),)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with at_desk(tmp_path) as made:
        made.rules(routes=ROUTES)
        yield made


def save(desk: Desk, folder: str = "e/r/model", *, without: Sequence[str] = ()) -> None:
    files = {"data/weights.bin": "w", "MLmodel": MLMODEL, "conda.yaml": "c", "python_env.yaml": "p"}
    for name, content in files.items():
        if name not in without:
            desk.write(f"{folder}/{name}", content)


def whole(desk: Desk, folder: bytes = b"e/r/model", later: float = LATER) -> ModelFolder | None:
    return desk.looker.models.whole(desk.fd, folder, time.time() + later)


def rows(desk: Desk) -> dict[str, tuple[str, str]]:
    """Role's kind and artifact path of all that is due."""
    found = desk.ledger._con.execute(
        f"SELECT d.rel || '/' || f.name, f.role, p.dir || '/' || {LEAF} FROM files f JOIN folders d ON d.id = f.folder"
        " JOIN places p ON p.id = f.place WHERE f.state = 0"
    )
    return {os.fsdecode(rel): (role.partition(":")[0], path.lstrip("/")) for rel, role, path in found}


def reasons(desk: Desk) -> set[str]:
    return {
        error for (error,) in desk.ledger._con.execute("SELECT error FROM files WHERE state = 0 AND error NOT NULL")
    }


def claim(desk: Desk, later: float = LATER) -> list[DueFile]:
    """As the dispatcher does."""
    ((run, _),) = desk.ledger.runs_with_due()
    now = time.time() + later
    for folder in desk.ledger.due_models(run, now):
        model = desk.looker.models.whole(desk.fd, folder, now)
        if model is not None:
            return desk.ledger.claim_model(desk.root, run, model.role, model.members, now)
    return []


def store(desk: Desk, files: list[DueFile]) -> None:
    for file in files:
        desk.ledger.delivered(file, b"d" * 32, size=file.signature.size, now=time.time(), sent=True, due_again=0)


def test_a_whole_model_at_rest_is_taken_by_one_claim_and_by_no_other(desk: Desk) -> None:
    save(desk)
    desk.write("e/r/other.txt")
    desk.scan()
    assert set(desk.due()) == {"e/r/other.txt"}, "no ordinary claim takes a model's file"
    assert whole(desk, later=0) is None, "it has to come to rest first"
    model = whole(desk)
    assert model is not None
    assert (model.name, model.registration, len(model.members)) == ("model", REGISTERED, 4)
    files = claim(desk)
    assert {os.fsdecode(f.rel) for f in files} == {
        f"e/r/model/{n}" for n in ("MLmodel", "conda.yaml", "python_env.yaml", "data/weights.bin")
    }
    assert all(f.ask and ModelRole.of(f.role) for f in files)
    assert claim(desk) == [], "they are under way"


@pytest.mark.parametrize(
    ("without", "content", "reason"),
    [
        (["python_env.yaml"], MLMODEL, "python_env.yaml is not there yet"),
        (["data/weights.bin", "conda.yaml"], MLMODEL, "conda.yaml is not there yet, data is not there yet"),
        ([], MLMODEL.partition("utc")[0], "not written to its end"),
        ([], "flavors: [", "cannot be used"),
        ([], MLMODEL.replace("data: data", "data: ../x"), "../x lies outside of its folder"),
        ([], MLMODEL.replace("data: data", "data: '10%'"), "10% has a name that MLflow cannot carry"),
    ],
)
def test_what_is_not_whole_waits_and_says_for_what(desk: Desk, without: list[str], content: str, reason: str) -> None:
    save(desk, without=without)
    desk.write("e/r/model/MLmodel", content)
    desk.write("e/r/model/10%")
    desk.scan()
    assert {kind for kind, _ in rows(desk).values()} == {"model"}
    (said,) = reasons(desk)
    assert said.startswith("its model to be whole: ")
    assert reason in said
    assert whole(desk) is None
    assert claim(desk, later=60) == []
    assert desk.due() == {}


def test_what_came_last_makes_it_whole_and_all_its_files_due(desk: Desk) -> None:
    save(desk, without=["conda.yaml"])
    desk.scan()
    desk.write("e/r/model/conda.yaml")
    desk.look(b"e/r/model")  # of which the service hears by an event; it looks at all of the model then
    desk.scan()
    assert reasons(desk) == set()
    assert len(claim(desk)) == 4


@pytest.mark.parametrize(("ended", "quiet"), [(False, GIVE_UP), (True, GIVE_UP_ENDED)])
def test_what_is_given_up_goes_as_plain_artifacts_with_the_reason_and_comes_back(
    desk: Desk, ended: bool, quiet: float
) -> None:
    save(desk, without=["conda.yaml"])
    if ended:
        desk.write("e/r/.done", "")
    desk.scan(time.time() + quiet - 2)
    assert rows(desk)["e/r/model/data/weights.bin"][0] == "model"
    desk.scan(time.time() + quiet + 1)
    due = desk.due()
    assert due["e/r/model/data/weights.bin"].role == ""
    assert due["e/r/model/MLmodel"].role == "unwhole:conda.yaml is not there yet"
    desk.deliver()
    desk.write("e/r/model/conda.yaml")
    desk.scan()
    assert {kind for kind, _ in rows(desk).values()} == {"model"}
    files = claim(desk)
    assert len(files) == 4
    assert all(file.digest is None for file in files), "what the run holds of it is not in the logged model"


def test_a_file_beside_the_model_and_one_that_waits_for_it(desk: Desk) -> None:
    desk.write("e/r/model/weights.bin")
    desk.scan()
    assert desk.due_at("e/r/model/weights.bin") == pytest.approx(time.time() + MAY_FOLLOW, abs=2)
    desk.write("e/r/.done", "")
    desk.scan()
    assert desk.due_at("e/r/model/weights.bin") <= time.time() + SETTLE
    assert desk.due()["e/r/model/weights.bin"].role == "", "there is no MLmodel: it is an artifact"


def test_single_weights_have_a_role_of_their_own_and_wait_for_nothing(desk: Desk) -> None:
    desk.rules(routes=[Route("*.pkl", None, "model", registration=REGISTERED)])
    desk.write("e/r/model.pkl")
    desk.scan()
    assert desk.due()["e/r/model.pkl"].role == f"weights:{REGISTERED.to_text()}"
    assert desk.due_at("e/r/model.pkl") <= time.time() + SETTLE


def test_the_outermost_model_counts_and_a_run_folder_can_be_one(desk: Desk) -> None:
    desk.rules(routes=[Route("**/MLmodel", None, "model")])
    save(desk, "e/r")
    save(desk, "e/r/inner")
    for name in (".done", "artifactd.toml", "a.png"):
        desk.write(f"e/r/{name}", "")
    desk.scan()
    found = rows(desk)
    assert found["e/r/inner/MLmodel"] == ("model", "model/inner/MLmodel")
    assert found["e/r/a.png"] == ("model", "model/a.png"), "all that lies in it belongs to it"
    assert {os.path.basename(rel) for rel, (kind, _) in found.items() if kind == ""} == {".done", "artifactd.toml"}
    model = whole(desk, b"e/r")
    assert model is not None
    assert b"e/r/.done" not in model.members


def test_no_other_route_takes_a_file_out_of_a_model(desk: Desk) -> None:
    desk.rules(routes=[Route("*.png", "plots", "artifact"), Route("**/MLmodel", None, "model")])
    save(desk)
    desk.write("e/r/model/a.png")
    desk.write("e/r/b.png")
    desk.scan()
    assert rows(desk)["e/r/model/a.png"] == ("model", "model/a.png")
    assert rows(desk)["e/r/b.png"] == ("", "plots/b.png")


def test_what_is_stored_stays_so_while_it_is_removed_file_by_file(desk: Desk) -> None:
    save(desk)
    desk.scan()
    store(desk, claim(desk))
    for name in ("MLmodel", "conda.yaml"):
        (desk.drop / "e/r/model" / name).unlink()
        desk.scan(time.time() + GIVE_UP + 100)
    assert rows(desk) == {}, "nothing of it is due as a plain artifact"
    save(desk)
    desk.write("e/r/model/conda.yaml", "another")
    desk.scan()
    assert len(claim(desk)) == 4, "and a model saved there anew is one, with all its files"


def test_a_change_of_one_file_takes_the_stored_ones_along(desk: Desk) -> None:
    save(desk)
    desk.scan()
    store(desk, claim(desk))
    desk.write("e/r/model/data/weights.bin", "other weights")
    desk.scan()
    assert set(rows(desk)) == {"e/r/model/data/weights.bin"}
    assert len(claim(desk)) == 4


def test_a_model_that_is_saved_over_and_over_is_spaced_out(desk: Desk) -> None:
    save(desk)
    desk.scan()
    files = claim(desk)
    store(desk, files)
    for file in files:
        desk.ledger.was_sent(file.id, 1, time.time(), in_a_row=9)
    desk.write("e/r/model/MLmodel", MLMODEL + "\n")
    desk.scan()
    assert desk.due_at("e/r/model/MLmodel") > time.time() + 10 * SETTLE
    assert "rewritten often" in next(iter(reasons(desk)))
    assert claim(desk) == []


def test_a_route_that_registers_otherwise_makes_what_is_stored_due_with_its_receipts(desk: Desk) -> None:
    save(desk)
    desk.scan()
    store(desk, claim(desk))
    assert rows(desk) == {}
    desk.rules(routes=[Route("model/**", None, "model", registration=Registration("other"))])
    desk.scan()
    files = claim(desk)
    assert [f.digest for f in files] == [b"d" * 32] * 4


def test_lower_numbers_come_first_and_are_waited_for(desk: Desk) -> None:
    desk.rules(routes=[Route("m{version}/**", None, "model", registration=REGISTERED)])
    for number in (10, 9):
        save(desk, f"e/r/m{number}")
    save(desk, "e/r/m2", without=["conda.yaml"])
    desk.scan()
    ((run, _),) = desk.ledger.runs_with_due()
    assert desk.ledger.due_models(run, time.time() + LATER) == [], "2 is on its way, and not whole yet"
    desk.write("e/r/m2/conda.yaml")
    desk.scan()
    assert desk.ledger.due_models(run, time.time() + LATER) == [b"e/r/m2"]
    for folder in (b"e/r/m2", b"e/r/m9", b"e/r/m10"):
        files = claim(desk)
        assert {ModelRole.of(f.role).folder(f.rel) for f in files} == {folder}  # type: ignore[union-attr]
        store(desk, files)


def test_a_model_whose_last_try_failed_waits_as_a_whole(desk: Desk) -> None:
    save(desk)
    desk.scan()
    files = claim(desk)
    failure = Failure(Kind.TRANSIENT, Scope.FILE, "refused")
    for number, file in enumerate(files):
        desk.ledger.not_delivered(file.id, failure, time.time() + 10 * number, touched=True)
    assert claim(desk) == []
    assert len(claim(desk, later=60)) == 4


def test_wrong_settings_of_the_run_are_a_failure_of_the_model_too(desk: Desk) -> None:
    save(desk)
    desk.write("e/r/artifactd.toml", "nonsense")
    desk.scan()
    assert set(desk.states(b"e/r/model").values()) == {State.FAILED}
    desk.write("e/r/artifactd.toml", "")
    desk.scan()
    desk.scan()
    assert len(claim(desk)) == 4


def test_a_watch_without_such_a_route_pays_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.rules()
    save(desk)
    monkeypatch.setattr(type(desk.looker.models), "_find", None)
    desk.scan()
    assert len(desk.due()) == 4


def test_a_scan_judges_a_model_once_for_all_its_folders(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        desk.write(f"e/r/model/data/{number}/weights.bin")
    save(desk)
    judged: list[bytes] = []
    judge = ModelFolders._judge

    def count(self: ModelFolders, root_fd: int, rel: bytes, *more: Any, **named: Any) -> ModelFolder:
        judged.append(rel)
        return judge(self, root_fd, rel, *more, **named)

    monkeypatch.setattr(ModelFolders, "_judge", count)
    desk.scan()
    assert judged == [b"e/r/model"]
    desk.write("e/r/model/data/7/weights.bin", "other")
    desk.scan()
    assert judged == [b"e/r/model"] * 2, "and once more where a look sees something new"
