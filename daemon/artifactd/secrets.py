"""Secrets out of texts: everything that people read (logs, errors, tables) passes through ``mask``.

It knows secrets by where they stand (a URL's password, a query's signature, a header, a key's value), by their look
(PEM blocks, well-known token prefixes) and, surest of all, by value: what the environment holds under a secret's name.
In doubt it masks too much. All of it is linear in the text's length, whatever the text: every repetition is possessive
or stops where the next match can begin.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

MASK = "***"

_MIN_VALUE = 6
"""Shorter values of the environment stand in too many innocent words."""

_SHORT = 256
"""Characters of texts that are remembered with their masks: a log says the same words again and again."""

_MAX_ROUNDS = 4
_MAX_DEPTH = 10

# --- by name -----------------------------------------------------------------------------------------------------

_NAME = (
    r"pass(?:word|wd|phrase)|secret|token|signature|credentials?"
    r"|(?:api|access|account|secret|private|shared|storage|signing|encryption|master)[_-]?key"
    r"|(?<![a-z0-9])(?:sig|pwd)"
)
_ENV_NAME = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN\Z|_KEY\Z|APIKEY\Z|CONNECTION_STRING")
_ENV_PLACE = re.compile(r"_(?:FILE|PATH|DIR)\Z")  # where a secret lies is no secret, and needed to mend things
_KEY_NAME = re.compile(rf"(?:{_NAME}|authorization|cookie|connection[_-]?string)\Z|password|secret", re.IGNORECASE)

# --- by place ----------------------------------------------------------------------------------------------------

# A quote belongs to a value unless what follows shows that it closes one.
_VALUE = r"(?:[^\s&;\"'`<>]|[\"'`<>](?=[^\s,;:}\])]))"
_QUOTE = r"(?:[bru]?(?P<quote>\\*+[\"']))?+"
_QUOTED = r"(?:(?!(?<!\\)(?P=quote))[^\n])*+"
_ASSIGN = r"(?:\\*+[\"']\]?)?+[ \t]*+(?:={1,2}>?|:=?|%3D)[ \t]*+"

_ASSIGNED = re.compile(
    rf"((?=[aceikmpst])(?:{_NAME}|(?<=[?&])key){_ASSIGN}{_QUOTE})(?(quote){_QUOTED}|{_VALUE}++)", re.IGNORECASE
)
# The whole header: schemes such as Digest or AWS4-HMAC-SHA256 are followed by several values.
_HEADER = re.compile(
    rf"((?:authorization|cookie)(?:{_ASSIGN}|[\"'][ \t]*+,[ \t]*+){_QUOTE})(?(quote){_QUOTED}|[^\r\n]++)",
    re.IGNORECASE,
)
_SHARED_ACCESS_SIGNATURE = re.compile(r"(SharedAccessSignature=)[^;\s\"']++", re.IGNORECASE)

_RUN = r"(?:[^\s\"'`<>]|[\"'`<>](?=[^\s,;:}\])]))*+"
_URL = re.compile(rf"(?://|\\/\\/){_RUN}")
_URL_START = re.compile(r"(?:\A|:)(?://|\\/\\/)")
_AUTHORITY_END = re.compile(r"[/?#]")
_ENCODED_URL = re.compile(rf"%2F%2F{_RUN}", re.IGNORECASE)
_ENCODED_URL_START = re.compile(r"(?:\A|%3A)%2F%2F", re.IGNORECASE)
_ENCODED_AUTHORITY_END = re.compile(r"%2F|%3F|%23|[/?#&]", re.IGNORECASE)
_COLON = re.compile(r":|%3A", re.IGNORECASE)

# --- by look -----------------------------------------------------------------------------------------------------

# A user without a password in a web address is a token; in sftp:// it is just a user.
_TOKEN_AS_USER = re.compile(r"(https?://)(?:(?!%3A)[^\s/?#@:\"'`<>])++@(?![^\s/?#@]*+@)", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----))*+(?:-----END [A-Z0-9 ]{0,60}-----)?"
)
_TOKEN = re.compile(
    r"(?<![\w-])(?:gh[pousr]_\w{20,}+|github_pat_\w{20,}+|glpat-[\w-]{16,}+|hf_[A-Za-z0-9]{20,}+|dapi[0-9a-f]{32}"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?)"
)
_BEARER = re.compile(r"\b(Bearer|Basic)([ \t]++)(?=[^\s\d=]*+[\d=])[\w.~+/=-]{8,}+", re.IGNORECASE)

_AS_THEY_ARE = (int, float, type(None))
"""Values that hold no text."""


def mask(text: str) -> str:
    """Replace every secret in a text by ``***``.

    Args:
        text: Any text, of any length; lone surrogates are welcome.

    Returns:
        The text without secrets; masked again it stays the same.
    """
    return _mask(text, _environment())


def mask_event(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every text of a log event: a structlog processor, the last before the renderer.

    Args:
        event_dict: The event; texts at any depth are masked, what stands under a key named like a secret is
            masked whole.

    Returns:
        A new event.
    """
    return _mask_mapping(event_dict, _environment(), 0)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether a key's name says that its value is a secret, as ``api_key`` does and ``max_tokens`` does not."""
    return _KEY_NAME.search(name) is not None


class _Environment(NamedTuple):
    """What the environment held at one moment.

    Attributes:
        variables: A copy of it.
        secrets: The secrets in it, in every way in which they are written.
        mask: Masks a short text, and remembers it.
    """

    variables: dict[bytes, bytes]
    secrets: tuple[str, ...]
    mask: Callable[[str], str]


def _mask(text: str, known: _Environment) -> str:
    return known.mask(text) if len(text) <= _SHORT else _mask_any(text, known.secrets)


def _mask_any(text: str, known: tuple[str, ...]) -> str:
    # A mask can join what a quote or space had parted, so what was masked is looked at again.
    for _ in range(_MAX_ROUNDS):
        masked = _mask_once(text, known)
        if masked == text:
            break
        text = masked
    return text


def _mask_once(text: str, known: tuple[str, ...]) -> str:
    for value in known:
        text = text.replace(value, MASK)
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    if "@" in text or "%40" in text:
        text = _URL.sub(lambda run: _mask_urls(run[0], _URL_START, _AUTHORITY_END), text)
        text = _TOKEN_AS_USER.sub(rf"\1{MASK}@", text)
        text = _ENCODED_URL.sub(lambda run: _mask_urls(run[0], _ENCODED_URL_START, _ENCODED_AUTHORITY_END), text)
    if "=" in text or ":" in text or "%" in text or "," in text:  # else none of these matches
        text = _SHARED_ACCESS_SIGNATURE.sub(rf"\1{MASK}", text)
        text = _HEADER.sub(rf"\1{MASK}", text)
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
    if " " in text or "\t" in text:
        text = _BEARER.sub(rf"\1\2{MASK}", text)
    return _TOKEN.sub(MASK, text) if _may_hold_token(text) else text


def _may_hold_token(text: str) -> bool:
    """Whether one of the beginnings of ``_TOKEN`` stands in a text, which takes a tenth of the time of a search."""
    if "_" in text and ("gh" in text or "github_pat_" in text or "hf_" in text):
        return True
    return "glpat-" in text or "dapi" in text or "AIza" in text or "eyJ" in text


def _mask_urls(run: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    """Mask the passwords of URLs: by RFC 3986 where it fits, else by what people write instead of it."""
    last_at = _last_at(run)
    pieces: list[str] = []
    done = 0
    for slashes in start.finditer(run):
        begin = slashes.end()
        if begin < done:
            continue
        stop = found.start() if (found := end.search(run, begin)) else len(run)
        authority = run[begin:stop]
        at = begin + _last_at(authority) if _last_at(authority) >= 0 else -1
        if at < 0 and _is_cut_short(authority):
            at = last_at
        if colon := _COLON.search(run, begin, max(at, begin)):
            pieces += run[done : colon.end()], MASK
            done = at
    return "".join(pieces) + run[done:]


def _last_at(text: str) -> int:
    return text.rfind("@") if "@" in text else text.rfind("%40")


def _is_cut_short(authority: str) -> bool:
    """Tell host and port from a user and the beginning of a password with a bare slash, question mark or hash."""
    _, *rest = _COLON.split(authority)
    return "[" not in authority and (len(rest) > 1 or (len(rest) == 1 and rest[0].strip("0123456789") != ""))


def _mask_mapping(mapping: Mapping[str, Any], known: _Environment, depth: int) -> dict[str, Any]:
    return {
        _mask(key, known) if isinstance(key, str) else key: MASK
        if isinstance(key, str) and is_secret_name(key) and not (value is None or isinstance(value, bool))
        else _mask_value(value, known, depth + 1)
        for key, value in mapping.items()
    }


def _mask_value(value: Any, known: _Environment, depth: int) -> Any:
    if isinstance(value, str):
        return _mask(value, known)
    if isinstance(value, _AS_THEY_ARE):
        return value
    if isinstance(value, bytes):
        return os.fsencode(_mask(os.fsdecode(value), known))
    if depth > _MAX_DEPTH and isinstance(value, Mapping | list | tuple | set | frozenset):
        return MASK
    if isinstance(value, Mapping):
        return _mask_mapping(value, known, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [_mask_value(item, known, depth + 1) for item in value]
    return value


def _environment() -> _Environment:
    """What the environment holds now: MLflow's users set credentials at run time."""
    # The mapping behind os.environ, compared in C: to read it by its interface takes twenty times as long.
    variables: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)
    now = _last[0]
    if variables != now.variables:
        held = dict(variables)
        secrets = _spellings(value for name, value in held.items() if value and _is_secret_variable(name))
        _last[0] = now = _Environment(held, secrets, lru_cache(maxsize=1024)(partial(_mask_any, known=secrets)))
    return now


def _is_secret_variable(name: bytes) -> bool:
    text = os.fsdecode(name).upper()
    return _ENV_NAME.search(text) is not None and _ENV_PLACE.search(text) is None


def _spellings(values: Iterable[bytes]) -> tuple[str, ...]:
    """Give each value as it may stand in a text: plain, percent-encoded, escaped. Longest first."""
    found: set[str] = set()
    for raw in values:
        value = os.fsdecode(raw)
        if len(value) >= _MIN_VALUE and value.strip("*"):
            found |= {value, quote(raw, safe=""), quote(raw), quote_plus(raw)}
            found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    return tuple(sorted(found, key=lambda spelling: (-len(spelling), spelling)))


_last = [_Environment({}, (), lru_cache(maxsize=1024)(partial(_mask_any, known=())))]
"""As it was at the last look at it."""
