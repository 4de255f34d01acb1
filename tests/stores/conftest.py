"""The forms of store, each started once when its first test asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import MlflowServer
from stores.form import Form

_Get = Callable[[str], object]

FORMS: dict[str, Callable[[pytest.FixtureRequest, pytest.TempPathFactory], Form]] = {}


def form_of(make: Callable[[pytest.FixtureRequest, pytest.TempPathFactory], Form]) -> None:
    """Add a form to the table, under its function's name."""
    FORMS[make.__name__.removeprefix("_")] = make


@form_of
def _embedded(_: pytest.FixtureRequest, folder: pytest.TempPathFactory) -> Form:
    base = folder.mktemp("embedded")
    (base / "artifacts").mkdir()
    return Form(
        "local folder", f"sqlite:///{base}/mlflow.db", (base / "artifacts").as_uri(), checksum="", atomic=True
    )


@form_of
def _proxied_folder(request: pytest.FixtureRequest, _: pytest.TempPathFactory) -> Form:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    return Form("server, its folder", server.uri)


@pytest.fixture(scope="session", params=list(FORMS))
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Form:
    """Each form in turn."""
    return FORMS[request.param](request, tmp_path_factory)
