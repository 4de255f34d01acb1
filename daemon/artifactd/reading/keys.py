"""Keys and values as MLflow takes them.

``mlflow.utils.validation`` (3.17): ``validate_param_and_metric_name`` allows letters, digits, blanks and ``_ - . : /``;
``path_not_unique`` refuses what is no plain path (``/a``, ``a//b``, ``./a``, ``..b``); ``MAX_ENTITY_KEY_LENGTH``,
``MAX_PARAM_VAL_LENGTH`` and ``MAX_TAG_VAL_LENGTH`` are counted in characters, and longer values are cut without a word
unless ``MLFLOW_TRUNCATE_LONG_VALUES`` is off.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_KEY_CHARACTERS = 250
"""``MAX_ENTITY_KEY_LENGTH``: of params, tags and metrics."""

MAX_RAW_CHARACTERS = 8 * MAX_KEY_CHARACTERS
"""Blanks and parentheses go from a key, so one that is too long may still fit; one longer than this is not tried."""

MAX_PARAM_CHARACTERS = 6000
"""``MAX_PARAM_VAL_LENGTH``."""

MAX_TAG_CHARACTERS = 8000
"""``MAX_TAG_VAL_LENGTH``; it was 5,000 before MLflow 3."""

# 'metrics/mAP50(B)' becomes 'metrics/mAP50B', as Ultralytics' own MLflow callback writes it: charts of both compare.
_DROPPED = re.compile(r"[()]")
_REFUSED = re.compile(
    r"\A/|/(?=/|\Z)"
    r"|\A\.(?=\.|/|\Z)|(?<=/)\.(?=\.?(?:/|\Z))"
    r"|_(?=x[0-9A-F]{2})"  # would read as an escape
    r"|[^/\w.\- :]"
)
_ESCAPE = re.compile(r"(?:_x[0-9A-F]{2}_)+")

_TELLING_TAGS = frozenset(
    f"mlflow.{name}"
    for name in ("note.content", "user", "source.name", "source.type")
    + ("source.git.commit", "source.git.branch", "source.git.repoURL")
)


def fit(key: str) -> str:
    """Write a key so that MLflow takes it.

    Args:
        key: Any text.

    Returns:
        Without blanks at its ends and without parentheses; each UTF-8 byte of what MLflow refuses as ``_xHH_``, as
        in artifact names (``top@5`` becomes ``top_x40_5``). Apart from blanks at the ends and parentheses, different
        keys stay different and ``plain`` gives them back. May still be too long: see ``why_unfit``.
    """
    return _fit_cached(key) if len(key) <= MAX_RAW_CHARACTERS else _fit(key)


def plain(key: str) -> str:
    """Undo ``fit``'s escapes."""
    return _ESCAPE.sub(lambda found: _bytes(found[0]).decode("utf-8", "surrogatepass"), key)


def why_unfit(key: str) -> str | None:
    """Say why MLflow would refuse a key that ``fit`` gave, or None."""
    if not key:
        return "it has no name"
    if len(key) > MAX_KEY_CHARACTERS:
        return f"its name has {len(key)} characters; MLflow takes {MAX_KEY_CHARACTERS}"
    return None


def why_unfit_value(value: str, most: int) -> str | None:
    """Say why a param's or tag's value cannot be kept as it stands, or None.

    Args:
        value: The text.
        most: ``MAX_PARAM_CHARACTERS`` or ``MAX_TAG_CHARACTERS``.
    """
    if len(value) > most:
        return f"it has {len(value)} characters; MLflow would cut it at {most}"
    if "\0" in value:
        return "it has a NUL character, which databases refuse"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "it has half of a surrogate pair, which is no character"
    return None


def why_reserved(tag: str) -> str | None:
    """Say why a tag may not be set from a file, or None.

    Args:
        tag: The key. Of MLflow's own tags, those that only tell may be set; the others steer its UI, nest runs or
            rename this one.
    """
    if tag.startswith("artifactd."):
        return "tags that begin with 'artifactd.' are artifactd's own"
    if tag.startswith("mlflow.") and tag not in _TELLING_TAGS:
        return "it steers MLflow itself"
    return None


def shown(key: str) -> str:
    """A key for an error's text: in quotes, without control characters, not endlessly long."""
    text = fit(key[:200])
    return f"'{text}'" if len(text) <= 80 else f"'{text[:79]}…'"


def _fit(key: str) -> str:
    return _REFUSED.sub(_escape, _DROPPED.sub("", key).strip())


# A table names the same few keys in every row; longer ones would make the cache large.
_fit_cached = lru_cache(maxsize=4096)(_fit)


def _escape(found: re.Match[str]) -> str:
    return "".join(f"_x{byte:02X}_" for byte in found[0].encode("utf-8", "surrogatepass"))


def _bytes(escapes: str) -> bytes:
    return bytes.fromhex(escapes.replace("_x", "").replace("_", ""))
