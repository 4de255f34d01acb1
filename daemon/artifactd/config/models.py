"""What may be said of models and their registry: MLflow's own rules, told before anything is sent."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated

from pydantic import AfterValidator

from artifactd.config.problems import Mistake, shown
from artifactd.registration import NUMBER, is_weights

_LONGEST_NAME = 256  # the registry's database: registered_models.name
_LONGEST_ALIAS = 255  # mlflow.utils.validation: MAX_REGISTERED_MODEL_ALIAS_LENGTH
_LONGEST_KEY, _LONGEST_VALUE = 250, 5000  # MAX_MODEL_REGISTRY_TAG_KEY_LENGTH; what servers of any age keep
_ALIAS = re.compile(r"[\w\-]+", re.ASCII)
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE | re.ASCII)
_KEY = re.compile(r"[/\w.\- :]+")
_OURS = ("artifactd.", "mlflow.")


def _registered_name(value: str) -> str:
    if not value.strip() or value != value.strip() or len(value) > _LONGEST_NAME or "@" in value:
        raise Mistake(
            f"{shown(value)} is no name of a registered model",
            f'write 1 to {_LONGEST_NAME} characters without "@", as "classifier"',
        )
    if not {"/", ":"}.isdisjoint(value) or posixpath.normpath(value) != value or value in (".", ".."):
        raise Mistake(
            f"MLflow takes no registered model named {shown(value)}", 'write it without "/" and ":", as "classifier"'
        )
    return value


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value) or len(value) > _LONGEST_ALIAS:
        raise Mistake(f"MLflow takes no alias {shown(value)}", 'write letters, digits, "_" and "-", as "champion"')
    if _RESERVED.fullmatch(value):
        raise Mistake(f"MLflow keeps the alias {shown(value)} for itself", 'write another one, as "champion"')
    return value


def _version_tags(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        is_path = posixpath.normpath(key) == key and not key.startswith(("/", ".."))
        if not _KEY.fullmatch(key) or not is_path or len(key) > _LONGEST_KEY:
            raise Mistake(
                f"MLflow takes no tag {shown(key)}", 'write letters, digits, "_", "-", "." and "/" as its key'
            )
        if key.startswith(_OURS):
            raise Mistake(f"the tag {shown(key)} is not for you to set", "write a key of your own")
        if len(text) > _LONGEST_VALUE:
            raise Mistake(f"the tag {shown(key)} has {len(text)} characters", f"write at most {_LONGEST_VALUE}")
    return value


RegisteredName = Annotated[str, AfterValidator(_registered_name)]
Alias = Annotated[str, AfterValidator(_alias)]
VersionTags = Annotated[dict[str, str], AfterValidator(_version_tags)]


def check_folder(kind: str, artifact_path: str | None) -> None:
    """A model's folder goes as it is.

    Raises:
        Mistake: It is to be put elsewhere.
    """
    if kind == "model" and artifact_path is not None:
        raise Mistake(
            'it is "model", and artifact_path is set: a model\'s folder keeps its place and its files their names',
            "remove artifact_path",
        )


def check_registered(key: str, *, kind: str | None, match: str | None, register: str | None) -> None:
    """What is said of a registered model has one, and is said of a model.

    Args:
        key: The key that is set, for the message.
        kind: The route's; None where that is wrong itself.
        match: Likewise.
        register: The registered model, if `key` needs one.

    Raises:
        Mistake: It is not.
    """
    if kind is not None and kind != "model":
        raise Mistake(f'it is set, and kind is "{kind}"', f'remove {key}, or write kind = "model"')
    if key != "register" and register is None:
        raise Mistake(
            "it is set, and nothing says which registered model is meant", 'write register = "classifier" too'
        )
    if match is not None and match.count(NUMBER) > 1:
        raise Mistake(f"match has {NUMBER} more than once", "write it once")


def check_kept(match: str, register: str | None, on_change: str) -> None:
    """A single file that is registered keeps each of its contents.

    Raises:
        Mistake: It would be overwritten, and with it what a version says.
    """
    name = match.rpartition("/")[2]
    if register is not None and on_change != "version" and is_weights(name.encode()):
        raise Mistake(
            f"{shown(match)} names single files that are registered, and on_change is {shown(on_change)}: what a "
            "version is made of must never change",
            'write on_change = "version" for this watch, so that each content keeps its own name',
        )
