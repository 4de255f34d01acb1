"""The servers that the tests of the stores share, each started once when its first test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from stores.azurite import azurite as run_azurite
from stores.fakegcs import fakegcs as run_fakegcs
from stores.form import Form
from stores.forms import FORMS
from stores.gcloud import google
from stores.objects import ObjectStore
from stores.running import NotThereError
from stores.seaweed import seaweed as run_seaweed
from stores.servers import auth_server, direct_server, postgres_server
from stores.serving import certificate
from stores.user import user

__all__ = ["auth_server", "certificate", "direct_server", "google", "postgres_server", "user"]


def _started(start: Callable[[Path], AbstractContextManager[ObjectStore]], folder: Path) -> Iterator[ObjectStore]:
    try:
        with start(folder) as store:
            yield store
    except NotThereError as exc:
        pytest.fail(f"a store could not be started: {exc}")


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server."""
    yield from _started(run_seaweed, tmp_path_factory.mktemp("seaweed"))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An Azure Blob server."""
    yield from _started(run_azurite, tmp_path_factory.mktemp("azurite"))


@pytest.fixture(scope="session")
def fakegcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A Google Cloud Storage server."""
    yield from _started(run_fakegcs, tmp_path_factory.mktemp("fakegcs"))


@pytest.fixture(params=["seaweed", "azurite", "fakegcs"])
def object_store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each of them in turn."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(scope="session", params=list(FORMS))
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Form]:
    """Each form of store in turn."""
    with ExitStack() as ends:
        yield FORMS[request.param](request, tmp_path_factory.mktemp(request.param), ends)
