"""What a route says of models: their name in the registry, aliases, tags and number; and the names that MLflow takes.

Pure. The roles here are how the ledger remembers what a file of a model is delivered as.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace

from artifactd.names import encode_folder

MODEL = "model"
"""Role of a file that goes to its logged model: ``model:LEVELS:NUMBER:TOKEN``, LEVELS of its path being the folder."""
UNWHOLE = "unwhole"
"""Role of an ``MLmodel`` whose folder is no whole model and goes as plain artifacts: ``unwhole:REASON``."""
WEIGHTS = "weights"
"""Role of a single file that is an artifact and, besides, a version in the registry: ``weights:REGISTRATION``."""

WAITS = "its model to be whole"
"""How the reason of a file begins that is held back until its model is whole."""

NUMBER = "{version}"
"""In a route's ``match``: the digits in a name that say which version a folder is."""

_SUFFIXES = (
    ".pkl", ".pickle", ".joblib", ".skops", ".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".keras", ".h5", ".hdf5",
    ".bin", ".ubj", ".json", ".txt", ".cbm", ".tflite", ".gguf",
)  # fmt: skip
"""What a file of weights ends in, boosters' text forms among them."""

_LONGEST = 250
_REFUSED = re.compile(r"""[/:."']""")
"""What MLflow's names of logged models cannot have, besides what no artifact path has."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What becomes of a model in the registry.

    Attributes:
        name: The registered model; "" for none.
        aliases: Set on each new version.
        tags: Set on each version.
        number: Which version its folder's name says that it is; None for nothing said.
        single: The route names single files, and no folders.
    """

    name: str = ""
    aliases: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    number: int | None = None
    single: bool = False

    def numbered(self, number: str | None) -> Registration:
        """With the number that a name says."""
        return self if number is None else replace(self, number=int(number))

    @property
    def token(self) -> str:
        """Differs when a model is to be registered otherwise; the same for all numbers of a route."""
        said = json.dumps([self.name, self.aliases, self.tags])
        return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()

    def to_text(self) -> str:
        """As text, for a role."""
        return json.dumps([self.name, self.aliases, self.tags, self.number])

    @classmethod
    def from_text(cls, text: str) -> Registration:
        """Undo ``to_text``."""
        name, aliases, tags, number = json.loads(text)
        return cls(name, tuple(aliases), tuple((k, v) for k, v in tags), number)


NOWHERE = Registration()
"""Of a model that is not registered, and of what is none."""


@dataclass(frozen=True, slots=True)
class ModelRole:
    """The role of a file that goes to its logged model.

    Attributes:
        levels: Of the path below the watched folder that name the model's folder.
        number: As in ``Registration``.
        token: That one's.
    """

    levels: int
    number: int | None
    token: str

    def __str__(self) -> str:
        return f"{MODEL}:{self.levels}:{'' if self.number is None else self.number}:{self.token}"

    @classmethod
    def of(cls, role: str) -> ModelRole | None:
        """Read a role; None for another one's."""
        kind, _, rest = role.partition(":")
        if kind != MODEL:
            return None
        levels, number, token = rest.split(":")
        return cls(int(levels), int(number) if number else None, token)

    @classmethod
    def is_of(cls, role: str) -> bool:
        """Whether a file in this role goes to a logged model."""
        return cls.of(role) is not None

    def folder(self, rel: bytes) -> bytes:
        """The model's folder, from the path of a file in it."""
        return b"/".join(rel.split(b"/")[: self.levels])


@dataclass(frozen=True, slots=True)
class ModelMark:
    """What a model has become on the server: the mark of its files in the ledger.

    Attributes:
        model_id: Of the logged model, as in ``models:/m-…``.
        registered: The registered model; "" for none.
        version: The number that MLflow gave it there.
    """

    model_id: str
    registered: str = ""
    version: str = ""

    def to_bytes(self) -> bytes:
        """For the ledger."""
        return json.dumps([self.model_id, self.registered, self.version]).encode()

    @classmethod
    def from_bytes(cls, mark: bytes) -> ModelMark:
        """Undo ``to_bytes``."""
        return cls(*json.loads(mark))

    def sentence(self, number: int | None) -> str:
        """For people; `number` is what the folder's name says of the version."""
        said = f"It is part of the logged model {self.model_id}"
        if not self.registered:
            return said
        other = f", which its folder calls {number}" if number is not None and str(number) != self.version else ""
        return f"{said}, version {self.version} of {self.registered}{other}"


def in_words(role: str) -> str:
    """What a run was told of a file by its role, for people: of a model's and of metrics, the kind alone."""
    kind = role.partition(":")[0]
    return "model" if kind in (MODEL, UNWHOLE, WEIGHTS) else kind if kind == "metrics" else role


def is_weights(name: bytes) -> bool:
    """Whether a file, by its name, holds a model's weights."""
    return name.lower().endswith(tuple(s.encode() for s in _SUFFIXES))


def model_name(folder: bytes) -> str:
    """The name of the logged model that a folder becomes.

    MLflow looks for ``runs:/RUN/NAME/…`` by the first level alone, so the whole path is in the name: two folders of one
    run never share one. ``names.decode_path`` gives it back, unless it was cut.

    Args:
        folder: Relative to the run folder; empty for the run folder itself, which is ``model``.
    """
    if not folder:
        return "model"
    name = _REFUSED.sub(lambda found: f"_x{ord(found[0]):02X}_", encode_folder(folder))
    if len(name) <= _LONGEST:
        return name
    ending = "_x~" + hashlib.sha256(folder).hexdigest()[:32]
    return name[: _LONGEST - len(ending)] + ending


def number_group(regex: str) -> str:
    """A glob's regex in which ``{version}`` stands for the digits of a number."""
    # Twice the same name in one regex is an error, which the configuration has refused before.
    return regex.replace(re.escape(NUMBER), "(?P<version>[0-9]{1,9})", 1)
