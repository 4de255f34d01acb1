"""MLflow is imported without what only models and data frames need, and nothing else is changed by that."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from artifactd.tracking import environment as ours
from support import environment

_CONNECT = """
import json, sys
from pathlib import Path
from artifactd.tracking import server
client = server.connect(sys.argv[1], embedded_artifacts=Path(sys.argv[2]))
client.search_experiments(max_results=1)
loaded = sorted(name for name, module in sys.modules.items() if module is not None)
import pandas  # may be had all the same
print(json.dumps(loaded))
"""


def test_a_command_that_asks_the_embedded_store_imports_no_data_frames(tmp_path: Path) -> None:
    call = [sys.executable, "-c", _CONNECT, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts")]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "mlflow.store.tracking.sqlalchemy_store" in loaded
    assert not {"numpy", "pandas", "pyarrow"} & loaded


_FOR_SERVER = """
import json, sys
from artifactd.tracking import environment
environment.prepare(sys.argv[1])
environment.preload()
loaded = sorted(sys.modules)
import mlflow
late = type(mlflow.genai).__name__, callable(mlflow.genai.evaluate), type(mlflow.genai).__name__
import mlflow.gateway.utils
import mlflow.store.tracking.sqlalchemy_store
print(json.dumps([loaded, late]))
"""


def test_a_client_of_a_server_imports_what_it_needs_and_has_the_rest_when_it_is_asked_for() -> None:
    call = [sys.executable, "-W", "ignore", "-c", _FOR_SERVER, "http://127.0.0.1:1"]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, check=True)
    loaded, late = json.loads(done.stdout)
    assert "mlflow.tracking.client" in loaded
    assert not {"mlflow.genai", "mlflow.gateway", "fastapi"} & set(loaded)
    assert late == ["LazyLoader", True, "module"]


_NOT_WITHOUT = """
import json, os, sys
from artifactd.tracking import environment
environment._OF_DATABASES = ("mlflow.entities",)
environment.prepare("http://127.0.0.1:1")
environment.preload()
import mlflow.entities
print(mlflow.entities.__file__)
"""


def test_an_mlflow_that_cannot_do_without_them_is_imported_whole() -> None:
    call = [sys.executable, "-c", _NOT_WITHOUT]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("mlflow/entities/__init__.py")


def test_what_is_hidden_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(ours, "_FOR_MODELS", ("pyarrow",))
    monkeypatch.setattr(ours, "entry_points", EntryPoints)
    with ours.lean():
        assert not gc.isenabled()
        with pytest.raises(ModuleNotFoundError):
            import_module("pyarrow")
    assert gc.isenabled()
    assert "pyarrow" not in sys.modules


def test_a_garbage_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with ours.lean():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_beside_a_plugin_of_mlflow_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = EntryPoint("here", "somebody.plugin:Repository", "mlflow.artifact_repository")
    monkeypatch.setattr(ours, "_FOR_MODELS", ("a_package_that_is_not_there",))
    monkeypatch.setattr(ours, "entry_points", lambda: EntryPoints([plugin]))
    with ours.lean():
        assert "a_package_that_is_not_there" not in sys.modules
