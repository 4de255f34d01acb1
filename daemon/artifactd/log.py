"""The log: one event, rendered for whoever reads it (a terminal, a log collector, the journal), secrets masked.

An event is a short sentence with its values in keys: ``log.info("Delivered", run="r1", bytes=12)``. The standard
library's logging and warnings take the same way. Messages go to stderr; stdout belongs to the commands' data.
"""

from __future__ import annotations

import array
import errno
import fcntl
import io
import json
import logging
import math
import os
import re
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from artifactd.causes import coded
from artifactd.secrets import mask_event

Format = Literal["auto", "console", "json", "journald"]

JOURNAL_SOCKET = "/run/systemd/journal/socket"
"""Where journald takes datagrams of its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

_JOURNAL_TIMEOUT = 2.0
"""Seconds to wait for a journald that has stopped reading: a log must not stop the work for long."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)

_HEAD = ("timestamp", "level", "event")
_NOT_VALUES = (*_HEAD, "exception")
_MAX_DEPTH = 8
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NEEDS_QUOTES = re.compile(r"[\s\"'=]|\A\Z")
_NOT_FIELD = re.compile(r"[^A-Z0-9]+")
_PLAIN = frozenset({str, int, bool, type(None)})
"""Types of values that are what JSON knows as they stand."""
_encode_json = json.JSONEncoder(ensure_ascii=False).encode  # ``json.dumps`` makes a new one for each line


def configure(
    format: Format,  # noqa: A002 (the key's name in the config)
    level: str,
    *,
    stream: TextIO | None = None,
    journal_socket: str = JOURNAL_SOCKET,
) -> None:
    """Set up logging for the whole process; again at any time, for loggers already handed out too.

    Args:
        format: ``auto`` takes ``console`` on a terminal, ``journald`` where the stream is connected to the journal,
            else ``json``.
        level: The least level shown, as ``info``. Libraries are heard from ``warning`` up.
        stream: Where lines go; stderr by default.
        journal_socket: Path of journald's native socket. While it cannot be reached, lines with ``<N>`` priority
            prefixes (sd-daemon(3)) go to the stream instead.
    """
    # Read when MLflow is imported: it would hand its loggers an unmasked way to stderr of their own.
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
    stream = stream if stream is not None else sys.stderr
    lines = _Lines(stream)
    sink: _Sink = lines
    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    match _format_for(stream) if format == "auto" else format:
        case "journald":
            sink = _Journal(journal_socket, lines)
            render: Any = _pass_on
        case "json":
            render = _render_json
        case _:
            time = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
            render = _Console(colors=_wants_colors(stream))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _plain_event,
            mask_event,
            _with_code,
            time,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.addHandler(_Bridge(logging.WARNING))
    root.setLevel(logging.WARNING)
    warnings.showwarning = _show_warning


def get() -> FilteringBoundLogger:
    """Give a logger that looks up the configuration at each event, so a module may keep one from its import on."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _printable(text: str) -> str:
    r"""Make a text safe for a terminal and one line: what is not printable is escaped (``\x1b``, ``\n``, ``\xff``).

    Args:
        text: Any text, file names with surrogates for bytes that are not UTF-8 included.

    Returns:
        Printable text that every Unicode stream can encode. Not reversible: a backslash stays as it is.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"  # the byte behind the surrogate (PEP 383)
    return char.encode("unicode_escape").decode("ascii")


# --- from any event to plain data --------------------------------------------------------------------------------


def _plain_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Turn every value into what JSON knows, so that nothing reaches a renderer unseen by the mask."""
    return {
        key if type(key) is str else str(key): value if type(value) in _PLAIN else _plain(value, 0)
        for key, value in event.items()
    }


def _with_code(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Say behind an error which page is its; of a reason, the event's own words may say it."""
    error, reason = event.get("error"), event.get("reason")
    if type(error) is str:
        event["error"] = coded(error)
    if type(reason) is str:
        before = f"{event.get('event')}: "
        event["reason"] = coded(before + reason).removeprefix(before)
    return event


def _plain(value: object, depth: int) -> Any:
    match value:
        case str():  # first, since most values are one, and the abstract classes below are slow to ask
            return _text(value)
        case None | bool():
            return value
        case float() if not math.isfinite(value):
            return str(value)
        case int() | float():
            return value
        case bytes() | os.PathLike():
            return os.fsdecode(value)
        case Mapping() if depth < _MAX_DEPTH:
            return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            return [_plain(item, depth + 1) for item in value]
        case BaseException():
            return f"{type(value).__name__}: {_text(value)}"
        case _:
            return _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 (foreign code; a log line must not raise)
        return f"<{type(value).__name__} without text: {type(exc).__name__}>"


# --- renderers ---------------------------------------------------------------------------------------------------


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    ordered = {**dict.fromkeys(_HEAD, ""), **event}
    line = _encode_json(ordered)
    # Pure ASCII suits any stream; lone surrogates, which JSON parsers refuse, become the escape that people see.
    return line if line.isascii() else _NOT_ASCII.sub(_escape_json, line)


def _escape_json(match: re.Match[str]) -> str:
    char = match[0]
    return "\\" + _escape(char) if "\ud800" <= char <= "\udfff" else json.dumps(char)[1:-1]


class _Console:
    """One line per event; a traceback follows it, indented."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _logger: object, _method: str, event: EventDict) -> str:
        level = event["level"]
        padded = f"{level:<8}"
        if self._colors:
            padded = f"\x1b[{_COLORS.get(level, '0')}m{padded}\x1b[0m"
        return f"{event['timestamp']} {padded} {_message(event)}"


def _message(event: EventDict) -> str:
    values = [f"{_printable(key)}={_quoted(value)}" for key, value in event.items() if key not in _NOT_VALUES]
    trace = [f"  {_printable(line)}" for line in str(event.get("exception", "")).split("\n") if line]
    return "\n".join((" ".join((_printable(_shown(event.get("event", ""))), *values)), *trace))


def _quoted(value: object) -> str:
    text = _printable(_shown(value))
    if isinstance(value, str) and _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pass_on(_logger: object, _method: str, event: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    return (event,), {}


# --- sinks -------------------------------------------------------------------------------------------------------


class _Sink:
    """What structlog calls by the level's name with the rendered event."""

    def write(self, rendered: Any) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return self.write


class _Lines(_Sink):
    """Writes lines to a text stream, whole even when several threads log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.Lock()

    def write(self, rendered: str) -> None:
        if not rendered.isascii():
            rendered = rendered.encode(self._encoding, "backslashreplace").decode(self._encoding)
        try:
            with self._lock:
                self._stream.write(rendered + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            pass  # a reader that went away, a closed stream, a full disk: no reason to stop delivering


class _Journal(_Sink):
    """Speaks journald's native protocol."""

    def __init__(self, path: str, fallback: _Lines) -> None:
        self._path = path
        self._fallback = fallback

    def write(self, rendered: EventDict) -> None:
        priority = _PRIORITIES.get(rendered["level"], _PRIORITIES["info"])
        message = _message(rendered)
        fields = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "artifactd"}
        fields |= {_field(key): _shown(value) for key, value in rendered.items() if key not in _NOT_VALUES}
        fields["ARTIFACTD_EVENT"] = _shown(rendered["event"])
        try:
            self._send(b"".join(_assignment(name, value) for name, value in fields.items()))
        except OSError:
            self._fallback.write("\n".join(f"<{priority}>{line}" for line in message.split("\n")))

    def _send(self, entry: bytes) -> None:
        # By address each time, as libsystemd does: journald may be restarted, and then it is another socket.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(_JOURNAL_TIMEOUT)
            try:
                line.sendto(entry, self._path)
            except OSError as exc:
                if exc.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_memfd(line, entry)

    def _send_memfd(self, line: socket.socket, entry: bytes) -> None:
        """Pass an entry that no datagram holds in a sealed memory file."""
        fd = os.memfd_create("artifactd-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            line.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(fd)


def _field(key: str) -> str:
    """Name a field as journald allows: capitals, digits and underscores, 64 at most."""
    return ("ARTIFACTD_" + _NOT_FIELD.sub("_", key.upper()))[:64]


def _assignment(name: str, value: str) -> bytes:
    try:
        raw = value.encode("utf-8", "surrogateescape")  # a path's own bytes
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "backslashreplace")
    if b"\n" in raw:
        return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
    return name.encode() + b"=" + raw + b"\n"


# --- what others say ---------------------------------------------------------------------------------------------


class _Bridge(logging.Handler):
    """Takes the standard library's records into structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (foreign code; logging's own answer would print the arguments unmasked)
            message = _text(record.msg)
        level = next((known for known in _LEVELS if known <= record.levelno), logging.DEBUG)
        get().log(level, message, logger=record.name, exc_info=record.exc_info)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    get().warning(_text(message), category=category.__name__, where=f"{filename}:{lineno}")


# --- the stream --------------------------------------------------------------------------------------------------


def _format_for(stream: TextIO) -> Literal["console", "journald", "json"]:
    if stream.isatty():
        return "console"
    return "journald" if _is_journal(stream) else "json"


def _is_journal(stream: TextIO) -> bool:
    """Compare with $JOURNAL_STREAM (systemd.exec(5)), which may be inherited while stderr leads elsewhere."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def _wants_colors(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
