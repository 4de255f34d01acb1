"""Models: the files that a real MLmodel names are those that its saving left, and hostile ones are sentences."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from artifactd.reading.model import NAME, Model, read_model
from artifactd.reading.problems import Unreadable

TRANSFORMERS = b"""\
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.transformers
    model_binary: model
  transformers:
    code: code
    components: [tokenizer, image_processor]
    image_processor_name: some/hub-name
    image_processor_type: ViTImageProcessor
    model_binary: model
    processor_type: Wav2Vec2Processor
    source_model_name: some/hub-name
    extra_files: [{path: extra_files/a.txt}]
model_id: m-0123
run_id: 0123456789abcdef0123456789abcdef
"""


def files_below(folder: Path) -> list[str]:
    return [os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    features = np.array([[1.0], [2.0]])
    fitted = LinearRegression().fit(features, [1.0, 2.0])
    mlflow.sklearn.save_model(fitted, folder, input_example=features, pip_requirements=["scikit-learn"])
    return folder


def test_a_model_as_mlflow_saves_it(saved: Path) -> None:
    model = read_model((saved / os.fsdecode(NAME)).read_bytes())
    assert model.flavors == ("python_function", "sklearn")
    there = files_below(saved)
    # requirements.txt is named by python_env.yaml, which is written after it.
    assert set(model.files) == set(there) - {"MLmodel", "requirements.txt"}
    assert model.missing(there) == ()
    assert model.outside == ()
    assert model.model_uuid is not None
    assert (model.model_id, model.run_id) == (None, None)
    assert model.size_bytes is not None
    assert model.size_bytes > 500
    for name in model.files:
        assert model.missing(set(there) - {name}) == (name,)


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model of one's own."""

    def predict(self, context: object, model_input: list[str]) -> list[str]:
        return model_input


def test_a_python_model_names_its_artifacts_and_code(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "one.txt").write_text("one")
    (tmp_path / "helper.py").write_text("")
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(
        folder,
        python_model=Echo(),
        artifacts={"words": str(tmp_path / "words")},
        code_paths=[str(tmp_path / "helper.py")],
        pip_requirements=[],
    )
    model = read_model((folder / "MLmodel").read_bytes())
    assert model.files == ("artifacts/words", "code", "conda.yaml", "python_env.yaml", "python_model.pkl")
    there = files_below(folder)
    assert model.missing(there) == ()
    assert model.missing([path for path in there if not path.startswith("artifacts/")]) == ("artifacts/words",)


def test_a_model_from_code_lies_beside_its_script(tmp_path: Path) -> None:
    script = tmp_path / "my_model.py"
    script.write_text(
        "import mlflow\n"
        "class M(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: list[str]) -> list[str]:\n        return model_input\n"
        "mlflow.models.set_model(M())\n"
    )
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(folder, python_model=str(script), pip_requirements=[])
    model = read_model((folder / "MLmodel").read_bytes())
    assert "my_model.py" in model.files
    assert model.missing(files_below(folder)) == ()


def test_transformers_components_and_extra_files() -> None:
    model = read_model(TRANSFORMERS)
    assert model == Model(
        files=("code", "components/processor", "components/tokenizer", "conda.yaml", "extra_files/a.txt")
        + ("model", "python_env.yaml"),
        flavors=("python_function", "transformers"),
        model_id="m-0123",
        run_id="0123456789abcdef0123456789abcdef",
    )
    assert "components/tokenizer" in model.missing(["components/processor/x.json", "model/config.json"])
    assert "model" not in model.missing(["model/config.json"])
    assert "model" in model.missing(["models/config.json"])


def test_an_environment_of_mlflow_1() -> None:
    assert read_model(b"flavors: {python_function: {env: conda.yaml, data: .}}").files == ("conda.yaml",)


def test_paths_that_lead_out_are_never_there() -> None:
    text = b"flavors: {x: {data: /etc/passwd, model_path: ../up, pickled_model: a/../b//c, code: 'a/../..'}}"
    model = read_model(text)
    assert model.files == ("b/c",)
    assert model.outside == ("../up", "/etc/passwd", "a/../..")
    assert model.missing(["b/c", "/etc/passwd", "../up"]) == model.outside


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "names no flavour"),
        (b"flavors:", "names no flavour"),
        (b"- a", "names no flavour"),
        (b"flavors: [a]", "names no flavour"),
        (b"flavors: {a: {", "not YAML"),
        (b"a: &a [*a]", "an alias stands inside"),
        (b"a: &a " + b"[" * 60 + b"]" * 60 + b"\nb: " + b"[" * 60 + b"*a" + b"]" * 60, "aliases nest more than 100"),
        (b"x" * (1024 * 1024 + 1), "longer than 1024 KiB"),
    ],
)
def test_a_file_that_is_no_model_is_a_sentence(text: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_model(text)


def test_a_file_that_is_still_being_written_is_known(saved: Path) -> None:
    text = (saved / "MLmodel").read_bytes()
    whole = read_model(text)
    assert whole.is_ended
    fewer = 0
    for cut in range(len(text)):
        try:
            early = read_model(text[:cut])
        except Unreadable:
            continue
        assert not early.is_ended
        fewer += len(early.files) < len(whole.files)
    # Without that mark, many of them would pass for a model with fewer files.
    assert fewer > 20


names = st.text("abc./", min_size=1, max_size=8)


@given(st.lists(names, max_size=4), st.sets(names, max_size=6))
def test_a_path_is_there_if_it_is_a_file_or_has_one_below(files: list[str], paths: set[str]) -> None:
    model = Model(tuple(files))
    wanted = tuple(f for f in files if not any(path == f or path.startswith(f + "/") for path in paths))
    if all(os.path.normpath(path) == path and path[0] != "/" for path in paths):
        assert model.missing(paths) == wanted
