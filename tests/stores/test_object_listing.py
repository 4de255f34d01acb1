"""An object store is asked for the few objects that were sent, not for all that stands beside them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from artifactd.tracking import environment, sdks
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.sdks.listing import Entry, page
from stores.objects import ObjectStore

pytestmark = [pytest.mark.stores, pytest.mark.timeout(120)]

NAMES = [f"step-{n:03}.txt" for n in range(60)]
ODD = ["0", "~", "ä.txt", "ß & co.txt", "zz\U0001f600.txt", "step-010", "step-010.txt.old"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("listing")


@pytest.fixture
def filled(object_store: ObjectStore, base: Path, monkeypatch: pytest.MonkeyPatch) -> RunArtifacts:
    """Two folders of small objects, one below the other."""
    uri = f"sqlite:///{base}/mlflow.db"
    environment.prepare(uri)
    for name, value in object_store.environ.items():
        monkeypatch.setenv(name, value)
    artifacts = RunArtifacts(f"{object_store.artifact_location}/{base.name}", uri)
    if not artifacts.sizes("a"):
        for folder, names in (("a", NAMES + ODD), ("a/step-030.txt.d", NAMES[:2])):
            for name in names:
                _put(artifacts, base, folder, name)
    return artifacts


def _put(artifacts: RunArtifacts, base: Path, folder: str, name: str) -> None:
    (base / "content").write_bytes(b"x" * len(name))
    fd = os.open(base / "content", os.O_RDONLY)
    try:
        artifacts.upload(fd, len(name), folder, name)
    finally:
        os.close(fd)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders that were listed to their end."""
    folders: list[str] = []
    theirs = sdks.few

    def few(repo: object, folder: str, names: Collection[str]) -> list[Entry]:
        found = theirs(repo, folder, names)
        if not {name for name, _, _ in found}.issuperset(names):
            folders.append(folder)
        assert len(found) <= page(names)
        return found

    monkeypatch.setattr(sdks, "few", few)
    return folders


@pytest.mark.parametrize(
    "names",
    [NAMES[:1], NAMES[50:52], NAMES[-1:], *([odd] for odd in ODD), ["zz\U0001f600.txt", "ä.txt"], NAMES[:12]],
    ids=lambda names: names[0],
)
def test_objects_that_stand_together_are_found_by_one_page(
    names: list[str], filled: RunArtifacts, whole: list[str], object_store: ObjectStore
) -> None:
    found = filled.sizes("a", names)
    assert {name: found.get(name) for name in names} == {name: len(name) for name in names}
    assert whole == [] or (object_store.artifact_location.startswith("wasbs") and names[0][0] != names[-1][0])


def test_objects_far_apart_are_found_as_well(filled: RunArtifacts) -> None:
    ends = [min(NAMES + ODD), max(NAMES + ODD)]
    assert filled.sizes("a", ends).items() >= {name: len(name) for name in ends}.items()


@pytest.mark.parametrize("names", [["step-030.txt.d"], ["step-005.tx"], ["missing", NAMES[3]]], ids=lambda n: n[0])
def test_what_is_not_there_is_not_found(names: list[str], filled: RunArtifacts, whole: list[str]) -> None:
    found = filled.sizes("a", names)
    assert found == {name: len(name) for name in NAMES + ODD}
    assert whole == ["a"]


def test_a_whole_folder_has_its_folders_too(filled: RunArtifacts) -> None:
    assert {name for name, _, is_dir in filled._entries("a") if is_dir} == {"step-030.txt.d"}
    assert filled.tree("a") == sorted(
        [(f"a/{name}", len(name)) for name in NAMES + ODD]
        + [(f"a/step-030.txt.d/{name}", len(name)) for name in NAMES[:2]]
    )
