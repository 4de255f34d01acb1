"""What an ``MLmodel`` file says: the files that make its model, and what it is.

``mlflow.*.save_model`` writes ``MLmodel`` before the environment files, so a folder is a whole model when every file
that ``MLmodel`` names is there. Known are the keys under which MLflow 3.17's flavours name paths; those of a flavour of
somebody else's under other keys are not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from artifactd.reading.problems import WHOLE, Unreadable
from artifactd.reading.tree import Table
from artifactd.reading.yamltext import load_yaml

NAME = b"MLmodel"
"""The file's name."""

MAX_BYTES = 1024 * 1024
"""Longest file that is read."""

# mlflow.*.save_model: what they give to add_flavor and pyfunc.add_to_model.
_PATH_KEYS = frozenset(
    ("data", "model_path", "pickled_model", "model_data", "model_binary", "saved_model_dir", "code", "python_model")
    + ("serialized_explainer", "peft_adaptor", "agent_data", "tools_data", "env")
)
_ENVIRONMENTS = ("conda", "virtualenv")
_COMPONENTS = "components"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its ``MLmodel`` describes it.

    Attributes:
        files: The paths that it names, relative to its folder, sorted; some are folders.
        outside: Paths that lead out of the folder: what is there does not come along.
        flavors: Names, in the file's order.
        model_uuid: Of this saving; None if there is none.
        model_id: Of MLflow's logged model; None if it was only saved.
        run_id: Of the run that it was logged to; None if it was only saved.
        size_bytes: Of the model's files as MLflow counted them, without the environment's; None if it did not.
        is_ended: It has the key that MLflow writes last, ``utc_time_created``, and a newline at its end. A file that is
            still being written may name fewer files than it will; one written by hand may lack the key.
    """

    files: tuple[str, ...]
    outside: tuple[str, ...] = ()
    flavors: tuple[str, ...] = ()
    model_uuid: str | None = None
    model_id: str | None = None
    run_id: str | None = None
    size_bytes: int | None = None
    is_ended: bool = False

    def missing(self, paths: Collection[str]) -> tuple[str, ...]:
        """What is not there yet of it.

        Args:
            paths: The files below the model's folder, relative to it, ``/`` between levels.

        Returns:
            The paths that are neither a file nor a folder with a file in it, those outside among them; empty when
            the model is whole.
        """
        there = set(paths)
        for path in paths:
            while path := posixpath.dirname(path):
                if path in there:
                    break
                there.add(path)
        return tuple(path for path in self.files if path not in there) + self.outside


def read_model(data: bytes) -> Model:
    """Read an ``MLmodel`` file.

    Args:
        data: Its content; ``MAX_BYTES`` and one byte are enough.

    Returns:
        What it says.

    Raises:
        Unreadable: It is too long, no YAML, or names no flavour.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(WHOLE, f"it is longer than {MAX_BYTES // 1024} KiB")
    found = load_yaml(data)
    top = _mapping(found)
    flavors = _mapping(top.get("flavors"))
    if not flavors:
        raise Unreadable(WHOLE, "it names no flavour of a model", "Is it written to its end?")
    named = set(_example(top.get("saved_input_example_info")))
    for flavor in flavors.values():
        named.update(_paths(_mapping(flavor)))
    inside = {path for path in map(_inside, named) if path}
    size = top.get("model_size_bytes")
    return Model(
        files=tuple(sorted(inside)),
        outside=tuple(sorted(path for path in named if _inside(path) is None)),
        flavors=tuple(flavors),
        model_uuid=_text(top.get("model_uuid")),
        model_id=_text(top.get("model_id")),
        run_id=_text(top.get("run_id")),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        is_ended="utc_time_created" in top and data.endswith(b"\n"),
    )


def _paths(flavor: dict[str, object]) -> Iterator[str]:
    for key, value in flavor.items():
        if key in _PATH_KEYS and isinstance(value, str):
            yield value
    # mlflow.pyfunc.model: whatever folder it came from, it lies in the model's own.
    if script := _text(flavor.get("model_code_path")):
        yield posixpath.basename(script)
    environment = _mapping(flavor.get("env"))
    artifacts = _mapping(flavor.get("artifacts")).values()
    extra = flavor.get("extra_files")
    of_files = [_mapping(entry).get("path") for entry in [*artifacts, *(extra if isinstance(extra, list) else [])]]
    for value in [*(environment.get(kind) for kind in _ENVIRONMENTS), *of_files]:
        if isinstance(value, str):
            yield value
    yield from _components(flavor)


def _components(flavor: dict[str, object]) -> Iterator[str]:
    """mlflow.transformers: each beside the model, unless a hub's name stands for it."""
    names = flavor.get(_COMPONENTS)
    for name in [*(names if isinstance(names, list) else []), *(["processor"] if "processor_type" in flavor else [])]:
        if isinstance(name, str) and f"{name}_name" not in flavor:
            yield f"{_COMPONENTS}/{name}"


def _example(found: object) -> Iterator[str]:
    info = _mapping(found)
    for key in ("artifact_path", "serving_input_path"):
        if isinstance(value := info.get(key), str):
            yield value


def _inside(path: str) -> str | None:
    """A path made plain: empty for the folder itself, None if it leads out."""
    if path.startswith("/") or "\0" in path:
        return None
    plain = posixpath.normpath(path) if path else "."
    if plain == ".." or plain.startswith("../"):
        return None
    return "" if plain == "." else plain


def _mapping(found: object) -> dict[str, object]:
    return dict(found.pairs) if isinstance(found, Table) else {}


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None
