"""Model folders that a job only saves: one logged model for each content, loadable, once in the registry, or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy
from support import Oracle, Program, environment, wait_for

pytestmark = pytest.mark.live

LAST = ("conda.yaml", "requirements.txt", "python_env.yaml")
"""What `save_model` writes after MLmodel."""

_PREDICT = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
print(json.dumps([mlflow.pyfunc.load_model(uri).predict([1, 2]) for uri in sys.argv[2:]]))
"""


_CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Times(PythonModel):
    def predict(self, context, model_input, params=None):
        with open(context.artifacts["factor"]) as f:
            factor = int(f.read())
        return [factor * x for x in model_input]


set_model(Times())
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models as `mlflow.pyfunc.save_model` writes them, by the factor that they multiply with."""
    base = tmp_path_factory.mktemp("models")

    def save(factor: int) -> Path:
        folder = base / str(factor)
        if not folder.exists():
            (base / "factor.txt").write_text(str(factor))
            (base / "times.py").write_text(_CODE)
            mlflow.pyfunc.save_model(
                folder, python_model=str(base / "times.py"), artifacts={"factor": str(base / "factor.txt")},
                pip_requirements=["mlflow"],
            )  # fmt: skip
            (folder / "README.md").write_text(f"Multiplies by {factor}.\n")
        return folder

    return save


def route(name: str, match: str = "model/**", more: str = "") -> str:
    return (
        f'[[watch.route]]\nmatch = "{match}"\nkind = "model"\nregister = "{name}"\naliases = ["champion"]\n'
        f'tags = {{ team = "vision" }}\n{more}'
    )


class Site:
    def __init__(
        self, base: Path, server: MlflowServer, *, watch: str | None = None, way: str = "", more: str = ""
    ) -> None:
        self.name = base.name
        watch = route(self.name) if watch is None else watch
        self.program = Program(base, tracking_uri=way or server.uri, watch=watch, more=more)
        self.folder = self.program.drop / base.name / "r"
        self.folder.mkdir(parents=True)
        self.uri = server.uri
        self.oracle = Oracle(server.uri)

    def put(self, source: Path, name: str = "model", *, without: tuple[str, ...] = ()) -> Path:
        folder = self.folder / name
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*without))
        return folder

    def done(self) -> None:
        (self.folder / ".done").touch()

    @property
    def run(self) -> Any:
        return self.oracle.run(self.name, "r")

    def models(self) -> list[Any]:
        experiment = self.oracle.client.get_experiment_by_name(self.name)
        return [] if experiment is None else list(self.oracle.client.search_logged_models([experiment.experiment_id]))

    def versions(self, name: str | None = None) -> list[Any]:
        found = self.oracle.client.search_model_versions(f"name = '{name or self.name}'")
        return sorted(found, key=lambda v: int(v.version))

    def predict(self, *uris: str) -> list[list[int]]:
        done = subprocess.run(
            [sys.executable, "-c", _PREDICT, self.uri, *uris],
            env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        answers: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
        return answers

    def wait_stored(self, path: Path) -> None:
        """Until the file is stored exactly as it is on disk now."""
        wait_for(lambda: f"{path}: stored" in self.explain(path).replace("\n", ""), f"{path} is stored", 30)

    def explain(self, path: Path) -> str:
        return self.program.call("explain", str(path)).stdout


@pytest.fixture
def site(mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    return Site(tmp_path, mlflow_server)


def test_a_saved_folder_is_a_logged_model_that_loads_and_a_version_that_loads(site: Site, saved: Any) -> None:
    folder = site.put(saved(3))
    (site.folder / "other.txt").write_text("beside it")
    site.done()
    with site.program.running():
        status = site.program.wait_idle()
        wait_for(lambda: site.run.info.status == "FINISHED", "the run is over", 30)
    (model,) = site.models()
    assert (str(model.status), model.name, model.source_run_id) == ("READY", "model", site.run.info.run_id)
    assert [o.model_id for o in site.run.outputs.model_outputs] == [model.model_id]
    (version,) = site.versions()
    assert (version.source, version.run_id) == (f"models:/{model.model_id}", site.run.info.run_id)
    assert version.tags["team"] == "vision"
    assert version.description == "Multiplies by 3."
    assert site.oracle.client.get_model_version_by_alias(site.name, "champion").version == version.version
    uris = [f"models:/{model.model_id}", f"models:/{site.name}/1", f"models:/{site.name}@champion"]
    assert site.predict(*uris, f"runs:/{site.run.info.run_id}/model") == [[3, 6]] * 4
    plain = {a.path for a in site.oracle.client.list_artifacts(site.run.info.run_id) if a.path != "artifactd"}
    assert plain == {"other.txt", ".done"}, "no byte of the model lies in the run's folder as well"
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert status["bytes_sent"] == size + len("beside it")
    said = site.explain(folder / "MLmodel")
    assert "model/MLmodel" in said
    assert f"logged model {model.model_id}, version 1 of {site.name}" in said


def test_a_half_written_model_is_held_back_and_says_why(site: Site, saved: Any) -> None:
    with site.program.running():
        folder = site.put(saved(3), without=LAST)
        why = "its model to be whole: conda.yaml is not there yet, python_env.yaml is not there yet"
        wait_for(lambda: why in site.explain(folder / "MLmodel"), "held back", 20)
        assert site.models() == []
        assert site.versions() == []
        for name in LAST:
            shutil.copy(saved(3) / name, folder / name)
        wait_for(lambda: len(site.versions()) == 1, "whole", 30)
        status = site.program.wait_idle()
    assert [str(m.status) for m in site.models()] == ["READY"]
    assert status["bytes_sent"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert site.predict(f"models:/{site.name}/1") == [[3, 6]]


STEPS = (
    "model.create.before:1", "model.create.after:1", "upload.before:1", "upload.after:2", "verify.before:1",
    "verify.after:1", "model.finalize.before:1", "model.finalize.after:1", "model.output.before:1",
    "model.output.after:1", "registered.before:1", "registered.after:1", "version.before:1", "version.after:1",
    "alias.before:1", "alias.after:1",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_leaves_one_model_one_output_one_version(site: Site, saved: Any, step: str) -> None:
    site.put(saved(3))
    with site.program.running(_ARTIFACTD_FAILPOINT=step) as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    with site.program.running():
        site.program.wait_idle()
    (model,) = site.models()
    assert str(model.status) == "READY"
    assert [o.model_id for o in site.run.outputs.model_outputs] == [model.model_id]
    (version,) = site.versions()
    assert version.source == f"models:/{model.model_id}"
    assert str(site.oracle.client.get_model_version_by_alias(site.name, "champion").version) == str(version.version)


class LostOnce:
    """Requests that change something: the first answer to each kind of them is lost."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def __call__(self, method: str, path: str) -> bool:
        kinds = ("registered-models/create", "registered-models/alias", "model-versions/create", "/outputs")
        kind = next((k for k in kinds if path.endswith(k)), "")
        if "/logged-models" in path and "search" not in path:
            kind = f"{method} logged-models"
        if method == "PUT" and "mlflow-artifacts" in path:
            kind = "upload"
        new = kind not in ("", *self.lost) and method != "GET"
        self.lost |= {kind} if new else set()
        return new


def test_answers_that_are_lost_leave_one_of_each(mlflow_server: MlflowServer, tmp_path: Path, saved: Any) -> None:
    proxy, lost = Proxy(mlflow_server.uri), LostOnce()
    try:
        retry = '[retry]\ninitial = "0.1s"\nmaximum = "0.3s"\n'
        site = Site(tmp_path, mlflow_server, way=proxy.uri, more=retry)
        site.put(saved(3))
        with proxy.misbehaving(Fault("drop", lost)), site.program.running():
            site.program.wait_idle()
    finally:
        proxy.close()
    assert len(lost.lost) == 7, lost.lost
    (model,) = site.models()
    assert str(model.status) == "READY"
    assert [o.model_id for o in site.run.outputs.model_outputs] == [model.model_id]
    (version,) = site.versions()
    assert str(site.oracle.client.get_model_version_by_alias(site.name, "champion").version) == str(version.version)
    assert site.predict(f"models:/{site.name}/1") == [[3, 6]]


def test_what_the_store_lost_of_a_model_is_found_and_sent_again(
    site: Site, saved: Any, mlflow_server: MlflowServer
) -> None:
    site.put(saved(3))
    with site.program.running():
        site.program.wait_idle()
        (model,) = site.models()
        (lost,) = mlflow_server.artifact_root.rglob(f"{model.model_id}/artifacts/python_env.yaml")
        lost.unlink()
        found = site.program.call("verify", site.run.info.run_id)
        assert (found.returncode, "python_env.yaml" in found.stdout) == (1, True), found.stdout
        assert site.program.call("retry", "--all").returncode == 0
        wait_for(lost.exists, "it is there again", 30)
        site.program.wait_idle()
        assert site.program.call("verify", site.run.info.run_id, "--deep").returncode == 0
    assert [m.model_id for m in site.models()] == [model.model_id]
    assert len(site.versions()) == 1


def test_changed_content_is_a_new_version_and_the_old_one_still_loads(site: Site, saved: Any) -> None:
    with site.program.running():
        folder = site.put(saved(3))
        wait_for(lambda: len(site.versions()) == 1, "the first", 30)
        site.program.wait_idle()
        shutil.rmtree(folder)
        site.put(saved(5))
        wait_for(lambda: len(site.versions()) == 2, "the second", 30)
        site.program.wait_idle()
    name = site.name
    uris = [f"models:/{name}/1", f"models:/{name}/2", f"models:/{name}@champion", f"runs:/{site.run.info.run_id}/model"]
    assert site.predict(*uris) == [[3, 6], [5, 10], [5, 10], [5, 10]]
    assert len(site.models()) == 2


def test_a_touch_the_same_bytes_and_a_lost_ledger_send_nothing_and_make_no_version(site: Site, saved: Any) -> None:
    folder = site.put(saved(3))
    client = site.oracle.client
    with site.program.running():
        before = site.program.wait_idle()["bytes_sent"]
        client.create_registered_model(f"{site.name}-other")
        client.delete_registered_model_alias(site.name, "champion")  # a person's decision, which stays
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            path.write_bytes(path.read_bytes())
        os.utime(folder / "MLmodel")
        for name in ("MLmodel", "python_env.yaml"):
            site.wait_stored(folder / name)
        assert site.program.wait_idle()["bytes_sent"] == before
    (site.program.state / "ledger.db").unlink()
    with site.program.running():
        assert site.program.wait_idle()["bytes_sent"] == 0
    assert len(site.models()) == len(site.versions()) == 1
    assert client.get_registered_model(site.name).aliases == {}


def test_what_is_no_whole_model_at_the_end_goes_as_plain_artifacts_and_becomes_one_later(
    site: Site, saved: Any, tmp_path: Path
) -> None:
    folder = site.put(saved(3), without=("python_env.yaml",))
    site.done()
    with site.program.running():
        (failure,) = wait_for(lambda: site.program.status().get("failures"), "told", 60)
        assert failure["path"] == str(folder / "MLmodel")
        assert "no whole model: python_env.yaml is not there yet" in failure["error"]
        run_id = site.run.info.run_id
        copy = site.oracle.client.download_artifacts(run_id, "model", str(tmp_path))
        assert (Path(copy) / "MLmodel").read_bytes() == (folder / "MLmodel").read_bytes(), "nothing is lost"
        assert site.models() == []
        assert site.versions() == []
        shutil.copy(saved(3) / "python_env.yaml", folder)
        wait_for(lambda: len(site.versions()) == 1, "whole after all", 30)
        wait_for(lambda: site.run.info.status == "FINISHED", "and over", 30)
    assert site.program.status()["failures"] == []
    assert site.predict(f"models:/{site.name}/1") == [[3, 6]]


def test_weights_alone_are_an_artifact_and_one_version_for_each_content(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    site = Site(tmp_path, mlflow_server, watch='on_change = "version"\n' + route(tmp_path.name, "*.pkl"))
    weights = site.folder / "model.pkl"
    with site.program.running():
        weights.write_bytes(b"one")
        site.done()
        wait_for(lambda: len(site.versions()) == 1, "the first", 30)
        (site.folder / ".done").unlink()
        weights.write_bytes(b"two, longer")
        site.done()
        wait_for(lambda: len(site.versions()) == 2, "the second", 30)
        site.program.wait_idle()
        weights.write_bytes(weights.read_bytes())
        site.wait_stored(weights)
    (site.program.state / "ledger.db").unlink()
    with site.program.running():
        site.program.wait_idle()
    run_id = site.run.info.run_id
    assert [v.source for v in site.versions()] == [f"runs:/{run_id}/model.pkl", f"runs:/{run_id}/model_v2.pkl"]
    held = [Path(mlflow_download(site, v.source)).read_bytes() for v in site.versions()]
    assert held == [b"one", b"two, longer"]
    assert site.program.status()["failures"] == []


def mlflow_download(site: Site, source: str) -> str:
    _, run_id, path = source.split("/", 2)
    return str(site.oracle.client.download_artifacts(run_id, path))


def test_numbered_folders_are_registered_in_their_order_and_a_number_that_differs_is_told(
    mlflow_server: MlflowServer, tmp_path: Path, saved: Any
) -> None:
    site = Site(tmp_path, mlflow_server, watch=route(tmp_path.name, "modelo_v{version}/**"))
    for number in (10, 9, 2):
        site.put(saved(number), f"modelo_v{number}")
    site.done()
    with site.program.running():
        site.program.wait_idle()
    found = [(int(v.version), v.tags["artifactd.version"], v.description) for v in site.versions()]
    assert found == [(n, str(m), f"Multiplies by {m}.") for n, m in enumerate((2, 9, 10), 1)]
    assert str(site.oracle.client.get_model_version_by_alias(site.name, "champion").version) == "3"
    said = site.explain(site.folder / "modelo_v10" / "MLmodel")
    assert f"version 3 of {site.name}, which its folder calls 10" in said


def test_a_model_deeper_in_the_run_loads_by_its_encoded_path_and_two_of_one_name_are_two(
    mlflow_server: MlflowServer, tmp_path: Path, saved: Any
) -> None:
    watch = 'preset = "mlflow"\nafter_upload = "delete"\n'
    site = Site(tmp_path, mlflow_server, watch=watch)
    first, second = site.put(saved(3), "fold-0/best"), site.put(saved(5), "fold-1/best")
    site.done()
    with site.program.running():
        site.program.wait_idle()
        wait_for(lambda: not [*first.rglob("*.*"), *second.rglob("*.*")], "delivered files are removed", 30)
        wait_for(lambda: site.run.info.status == "FINISHED", "the run is over", 30)
    run_id = site.run.info.run_id
    assert site.predict(f"runs:/{run_id}/fold-0_x2F_best", f"runs:/{run_id}/fold-1_x2F_best") == [[3, 6], [5, 10]]
    assert [a.path for a in site.oracle.client.list_artifacts(run_id) if a.path != "artifactd"] == [".done"]
    assert len(site.models()) == 2


def test_a_name_in_the_registry_that_is_configured_later_sends_nothing(site: Site, saved: Any) -> None:
    site.put(saved(3))
    config = site.program.config.read_text()
    site.program.config.write_text(
        config.replace(route(site.name), '[[watch.route]]\nmatch = "model/"\nkind = "model"')
    )
    with site.program.running():
        before = site.program.wait_idle()["bytes_sent"]
    assert site.versions() == []
    site.program.config.write_text(config)
    with site.program.running():
        wait_for(lambda: len(site.versions()) == 1, "registered", 30)
        assert site.program.wait_idle()["bytes_sent"] == before
    assert len(site.models()) == 1


def test_a_second_host_of_a_fleet_that_sees_the_folder_finds_its_model(
    mlflow_server: MlflowServer, tmp_path: Path, saved: Any
) -> None:
    site = Site(tmp_path, mlflow_server, watch='run_scope = "fleet"\n' + route(tmp_path.name))
    other = Program(tmp_path / "other", tracking_uri=mlflow_server.uri)
    other.config.write_text(site.program.config.read_text().replace(str(site.program.state), str(other.state)))
    site.put(saved(3))
    with site.program.running():
        site.program.wait_idle()
    with other.running():  # on one host, two never watch one folder at a time
        assert other.wait_idle()["bytes_sent"] == 0
    (model,) = site.models()
    assert [o.model_id for o in site.run.outputs.model_outputs] == [model.model_id]
    assert [v.source for v in site.versions()] == [f"models:/{model.model_id}"]
    assert site.predict(f"models:/{site.name}@champion") == [[3, 6]]
