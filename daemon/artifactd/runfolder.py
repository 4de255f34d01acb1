"""What a run folder says about itself: markers, ``artifactd.toml``, and a name that is a run id.

Pure: the caller reads the file. Whatever MLflow would cut, refuse or take for its own is refused here with a
sentence, before anything is sent.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from artifactd.names import MAX_TEXT_CHARACTERS

MARKERS: Mapping[bytes, str] = MappingProxyType({b".done": "FINISHED", b"_SUCCESS": "FINISHED", b".failed": "FAILED"})
"""File names that end a run, with the MLflow status that they give it."""

ENDS = ("FINISHED", "FAILED", "KILLED")
"""MLflow's statuses of a run that is over."""

SETTINGS_NAME = b"artifactd.toml"
"""The file in a run folder that ``parse_settings`` reads."""

CONTROL = frozenset({*MARKERS, SETTINGS_NAME})
"""What says which run a folder is, and that it is over: no model's and no checkpoint's, and never removed."""

MAX_SETTINGS_BYTES = 64 * 1024

README_NAME = b"README.md"
"""The file in a run folder that ``described_by`` reads."""

MAX_README_BYTES = 32 * 1024
"""More than a description can hold."""

_MAX_DESCRIPTION = 5000
"""Characters that a server of any age keeps of a tag; MLflow cuts longer ones without a word."""
_MORE = "\n\n…\n\n*README.md among the artifacts has the rest.*"

MAX_MARKER_BYTES = 1024
"""As much of a marker as is read."""

_KEYS = ("run_id", "name", "description", "end_run", "alive", "tags", "params")
_ALIVE_KEYS = ("pid", "pid_file", "lock", "heartbeat")
_CODE = re.compile(r"[+-]?[0-9]{1,6}")
_MAX_REASON = 250
"""Characters of a failure's reason, which becomes a tag."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")

# mlflow.utils.validation: MAX_TAG_VAL_LENGTH and MAX_PARAM_VAL_LENGTH (longer values are cut without a word),
# MAX_ENTITY_KEY_LENGTH, MAX_PARAMS_TAGS_PER_BATCH, validate_param_and_metric_name and path_not_unique.
_MAX_VALUE_CHARACTERS = {"tags": 8000, "params": 6000}
_MAX_KEY_BYTES = 250
_MAX_TAGS = 100
_KEY = re.compile(r"(?!\.\.|/|\.\Z)[/\w.\- :]+")

# PostgreSQL holds no NUL; in a name, none of the others is meant.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Of MLflow's own tags, those that only tell: the others steer its UI, nest runs, or rename this one.
_TELLING_TAGS = frozenset(
    f"mlflow.{name}"
    for name in ("note.content", "user", "source.name", "source.type")
    + ("source.git.commit", "source.git.branch", "source.git.repoURL")
)


class RunSettingsError(ValueError):
    """An ``artifactd.toml`` that cannot be used; the message is a sentence for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class End:
    """What the server is to be told of a run.

    Attributes:
        status: FINISHED, FAILED, KILLED, or RUNNING for a run that is reopened.
        at: When it ended, or when life came back, milliseconds since 1970; None: now.
        reason: For people.
        before: The end that artifactd itself asked for before, and that may stand.
    """

    status: str
    at: int | None = None
    reason: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class Alive:
    """What of a run folder says that its job lives: the ``[alive]`` table. Paths are relative to the folder.

    Attributes:
        pid: A process of this host.
        pid_file: A file whose first line is a process id.
        lock: A file that the job holds locked, by ``flock`` or ``fcntl``.
        heartbeat: A file that the job touches now and then.
    """

    pid: int | None = None
    pid_file: str | None = None
    lock: str | None = None
    heartbeat: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """How a run has ended, by the word of its markers.

    Attributes:
        status: MLflow's: FINISHED or FAILED.
        reason: Why it failed, a line for people; "" for a run that has not.
    """

    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run folder's ``artifactd.toml`` asks for.

    Attributes:
        run_id: The run to adopt, 32 lower-case hex digits; None: the folder's own run.
        name: The run's name; None: the folder's.
        description: The run's description in MLflow's UI.
        tags: Tags to set, in the file's order.
        params: Parameters to log, in the file's order; more than 100 need several of MLflow's requests.
        end_run: A run that is adopted is ended as one of artifactd's own is, by its markers.
        alive: What says that the job lives.
    """

    run_id: str | None = None
    name: str | None = None
    description: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    end_run: bool = False
    alive: Alive = Alive()


def parse_settings(text: bytes) -> RunSettings:
    """Read an ``artifactd.toml``.

    Args:
        text: The file's content; the first 64 KiB and one byte are enough.

    Returns:
        The settings. Numbers and truth values become text as MLflow's own ``log_param`` writes them.

    Raises:
        RunSettingsError: If it is not TOML, has an unknown key, or a value that MLflow would not keep as it stands.
    """
    data = _load(text)
    for key in data:
        if key not in _KEYS:
            raise RunSettingsError(f"'{key}' is not a key of this file; {_nearest(key, _KEYS)}")
    run_id = _text(data, "run_id")
    if run_id is not None and not _RUN_ID.fullmatch(run_id):
        raise RunSettingsError(f"run_id '{run_id}' is not a run's id: write its 32 lower-case hex digits")
    name = _text(data, "name")
    if name is not None and (not name.strip() or len(name) > MAX_TEXT_CHARACTERS or _CONTROL.search(name)):
        raise RunSettingsError(f"name must be 1 to {MAX_TEXT_CHARACTERS} characters on one line, and not blank")
    description = _text(data, "description")
    if description is not None:
        _check_value("tags", "description", description)
    tags = _table(data, "tags")
    if len(tags) > _MAX_TAGS:
        raise RunSettingsError(f"[tags] has {len(tags)} tags; MLflow takes at most {_MAX_TAGS} at a time")
    for key, _ in tags:
        _check_tag_key(key, described=description is not None)
    end_run = data.get("end_run", False)
    if not isinstance(end_run, bool):
        raise RunSettingsError(f"end_run is {_kind(end_run)}: write true or false")
    return RunSettings(run_id, name, description, tags, _table(data, "params"), end_run, _alive(data))


def word_of(markers: Mapping[bytes, bytes]) -> Word | None:
    """Read how a run has ended from what its markers hold.

    Args:
        markers: The content of each marker that is there, by its name; ``MAX_MARKER_BYTES`` of it are enough.

    Returns:
        FAILED with ``.failed`` in any case, and with a code other than 0 in another one; None without markers.
    """
    words = [_word(name, markers[name]) for name in MARKERS if name in markers]
    return next((word for word in words if word.status == "FAILED"), words[0] if words else None)


def _word(name: bytes, content: bytes) -> Word:
    lines = content[:MAX_MARKER_BYTES].decode("utf-8-sig", "replace").strip().splitlines()
    first = _CONTROL.sub(" ", lines[0]).strip() if lines else ""
    code = int(first) if _CODE.fullmatch(first) else None
    if MARKERS[name] != "FAILED" and not code:
        return Word(MARKERS[name])
    if code is not None:
        return Word("FAILED", f"exit code {code}")
    return Word("FAILED", first[:_MAX_REASON] or f"{name.decode()} stands in the run folder")


def described_by(readme: bytes) -> str | None:
    """Give the description that a run folder's ``README.md`` is for its run.

    Args:
        readme: The file's content; the first ``MAX_README_BYTES`` and one byte are enough.

    Returns:
        Its text; of a long one the beginning, which says where the rest is. None where there is nothing to read.
    """
    text = readme.decode("utf-8-sig", "replace").replace("\0", "\ufffd").strip()
    if len(text) > _MAX_DESCRIPTION or len(readme) > MAX_README_BYTES:
        text = text[: _MAX_DESCRIPTION - len(_MORE)].rstrip() + _MORE
    return text or None


def adopted_run_id(folder_name: bytes) -> str | None:
    """Give the run id when a run folder is named by one.

    Args:
        folder_name: The folder's own name.

    Returns:
        The id, if the name is 32 lower-case hex digits.
    """
    name = folder_name.decode("utf-8", "surrogateescape")
    return name if _RUN_ID.fullmatch(name) else None


def noted_run_id(note: bytes | None) -> str | None:
    """Give the run id that a restored folder's note (``names.RUN_NOTE``) has.

    Args:
        note: The note's first bytes; None where there is none.

    Returns:
        The id, if it is one.
    """
    return adopted_run_id(note.strip()) if note is not None else None


def _load(text: bytes) -> dict[str, object]:
    if len(text) > MAX_SETTINGS_BYTES:
        raise RunSettingsError(f"it is longer than {MAX_SETTINGS_BYTES // 1024} KiB")
    try:
        # Some editors put a byte order mark before the text.
        return tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RunSettingsError(f"it is not UTF-8 text (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RunSettingsError(f"it is not TOML: {reason}") from None


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it may have {', '.join(known)}"


def _text(data: Mapping[str, object], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise RunSettingsError(f"{key} is {_kind(value)}: write a text in quotes")
    return value


def _alive(data: Mapping[str, object]) -> Alive:
    table = data.get("alive", {})
    if not isinstance(table, dict):
        raise RunSettingsError(f"alive is {_kind(table)}: write a table, '[alive]' with 'pid_file = \"…\"' below")
    for key in table:
        if key not in _ALIVE_KEYS:
            raise RunSettingsError(f"'{key}' is not a key of [alive]; {_nearest(key, _ALIVE_KEYS)}")
    pid = table.get("pid")
    if pid is not None and (not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31):
        raise RunSettingsError("[alive] pid is no process id: write its number, as 'pid = 1234'")
    files = {key: _path_within(table, key) for key in _ALIVE_KEYS[1:]}
    return Alive(pid, files["pid_file"], files["lock"], files["heartbeat"])


def _path_within(table: Mapping[str, object], key: str) -> str | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or not {"", ".", ".."}.isdisjoint(value.split("/")):
        raise RunSettingsError(
            f"[alive] {key} names no file of the run folder: write its path in there, as 'job/{key}'"
        )
    return value


def _table(data: Mapping[str, object], table: str) -> tuple[tuple[str, str], ...]:
    entries = data.get(table, {})
    if not isinstance(entries, dict):
        raise RunSettingsError(
            f"{table} is {_kind(entries)}: write a table, '[{table}]' with 'key = \"value\"' lines below"
        )
    return tuple((key, _value(table, key, value)) for key, value in entries.items())


def _value(table: str, key: str, value: object) -> str:
    where = f"[{table}] '{key}'"
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise RunSettingsError(f"[{table}] has a key of {len(key.encode())} bytes; MLflow takes {_MAX_KEY_BYTES}")
    # MLflow takes a key for a path, too: 'a//b' and './a' would be other keys.
    if not _KEY.fullmatch(key) or posixpath.normpath(key) != key:
        raise RunSettingsError(f"{where}: MLflow takes letters, digits, blanks and _ - . : / in a key, no folder steps")
    if isinstance(value, dict):
        raise RunSettingsError(f"{where} is a table: put a key with dots in quotes, '\"{key}.…\" = …'")
    if not isinstance(value, (str, int, float)):
        raise RunSettingsError(f"{where} is {_kind(value)}: write it in quotes")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RunSettingsError(f"{where} is a number of more than 64 bits, which TOML has not: write it in quotes")
    text = str(value)
    _check_value(table, where, text)
    return text


def _check_value(table: str, where: str, text: str) -> None:
    if "\0" in text:
        raise RunSettingsError(f"{where} has a NUL character, which databases refuse: leave it out")
    most = _MAX_VALUE_CHARACTERS[table]
    if len(text) > most:
        raise RunSettingsError(f"{where} has {len(text)} characters; MLflow would cut it at {most}: put it into a file")


def _check_tag_key(key: str, *, described: bool) -> None:
    if key.startswith("artifactd."):
        raise RunSettingsError(
            f"[tags] '{key}': tags that begin with 'artifactd.' are artifactd's own; use another key"
        )
    if key == "mlflow.runName":
        raise RunSettingsError("[tags] 'mlflow.runName': write name = \"…\" at the top instead")
    if key == "mlflow.note.content" and described:
        raise RunSettingsError("[tags] 'mlflow.note.content' is the description, which is given already: leave one out")
    if key.startswith("mlflow.") and key not in _TELLING_TAGS:
        raise RunSettingsError(f"[tags] '{key}' steers MLflow itself; allowed are {', '.join(sorted(_TELLING_TAGS))}")


def _kind(value: object) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")
