"""The log in its three formats: what reaches a terminal, a collector and the journal, and what never does."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from artifactd import log

LEVEL = "info"
logger = log.get()  # as a module does it: at import, before anything is configured


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_CONFIGURE_LOGGING", "true")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    root = logging.getLogger()
    handlers, level, show = list(root.handlers), root.level, warnings.showwarning
    yield
    root.handlers, root.level, warnings.showwarning = handlers, level, show
    structlog.reset_defaults()


class Journal:
    """A journald that keeps what it is sent, on a real datagram socket."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/socket"
        self.open()

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(5)

    def read(self) -> dict[str, bytes]:
        """Take one entry off the socket, by the protocol's text: no payload means that a memory file carries it."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for fd in descriptors:
            assert not data
            with open(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        return parse(data)

    def close(self) -> None:
        self._socket.close()
        os.unlink(self.path)


def parse(data: bytes) -> dict[str, bytes]:
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode("ascii")] = value
        data = rest
    return fields


@pytest.fixture
def journal() -> Iterator[Journal]:
    with tempfile.TemporaryDirectory() as folder:  # a short path: 107 bytes at most (unix(7))
        journal = Journal(folder)
        yield journal
        journal.close()


def last_json(stream: io.StringIO) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return event


# --- formats -----------------------------------------------------------------------------------------------------


def test_json_gives_one_object_a_line() -> None:
    stream = io.StringIO()
    log.configure("json", LEVEL, stream=stream)
    logger.info("Delivered", run="r 1", path=b"a/b\n.png", bytes=12, seconds=0.5, tries=1, where=Path("/x"))
    logger.warning("Waiting", until=None, reasons={"a": [1, float("nan")]}, error=KeyError("x"))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    event = json.loads(lines[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "level": "info", "event": "Delivered", "run": "r 1", "path": "a/b\n.png", "bytes": 12, "seconds": 0.5,
        "tries": 1, "where": "/x",
    }  # fmt: skip
    assert list(json.loads(lines[1])) == ["timestamp", "level", "event", "until", "reasons", "error"]
    assert json.loads(lines[1])["reasons"] == {"a": [1, "nan"]}
    assert json.loads(lines[1])["error"] == "KeyError: 'x'"


def test_an_error_of_a_known_cause_ends_with_its_code() -> None:
    stream = io.StringIO()
    log.configure("json", LEVEL, stream=stream)
    logger.error("not delivered", path="/d/e/r/a", error="the service's user may not read it")
    assert last_json(stream)["error"] == "the service's user may not read it [AD301]"
    logger.error("metrics are not served", reason="metrics.listen = x cannot be had: it is taken")
    assert last_json(stream)["reason"] == "metrics.listen = x cannot be had: it is taken [AD706]"
    logger.error("the new configuration is wrong, the old one stays", reason="there is no layuot")
    assert last_json(stream)["reason"] == "there is no layuot [AD801]"
    logger.error("something else", reason="an unknown one")
    assert last_json(stream)["reason"] == "an unknown one"


def test_console_gives_one_readable_line() -> None:
    stream = io.StringIO()
    log.configure("console", LEVEL, stream=stream)
    logger.info("Delivered", run="r 1", path=b"a/b.png", bytes=12, note="", done=True)
    text = stream.getvalue()
    assert re.fullmatch(r'\d\d:\d\d:\d\d info     Delivered run="r 1" path=a/b\.png bytes=12 note="" done=true\n', text)


def test_console_puts_the_traceback_below() -> None:
    stream = io.StringIO()
    log.configure("console", LEVEL, stream=stream)
    try:
        raise ValueError("one\ntwo \x1b[31m")
    except ValueError:
        logger.exception("Failed", path="x")
    first, *trace = stream.getvalue().splitlines()
    assert first.endswith("error    Failed path=x")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-2:] == ["  ValueError: one", r"  two \x1b[31m"]


def test_journald_gets_fields(journal: Journal) -> None:
    stream = io.StringIO()
    log.configure("journald", LEVEL, stream=stream, journal_socket=journal.path)
    logger.info("Delivered", run="r 1", artifact_path="a/b.png", bytes=12, **{"odd key-ö": [1]})
    assert journal.read() == {
        "MESSAGE": 'Delivered run="r 1" artifact_path=a/b.png bytes=12 odd key-ö=[1]'.encode(),
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"artifactd",
        "ARTIFACTD_EVENT": b"Delivered",
        "ARTIFACTD_RUN": b"r 1",
        "ARTIFACTD_ARTIFACT_PATH": b"a/b.png",
        "ARTIFACTD_BYTES": b"12",
        "ARTIFACTD_ODD_KEY_": b"[1]",
    }
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", b"7"), ("info", b"6"), ("warning", b"4"), ("error", b"3"), ("critical", b"2")]
)
def test_journald_gets_the_level_as_priority(journal: Journal, level: str, priority: bytes) -> None:
    log.configure("journald", "debug", stream=io.StringIO(), journal_socket=journal.path)
    getattr(logger, level)("Said")
    assert journal.read()["PRIORITY"] == priority


def test_journald_gets_the_bytes_of_a_name_and_a_readable_message(journal: Journal) -> None:
    log.configure("journald", LEVEL, stream=io.StringIO(), journal_socket=journal.path)
    logger.info("Found", path=b"caf\xe9\n\x1b[2J", lone="\ud800")
    entry = journal.read()
    assert entry["ARTIFACTD_PATH"] == b"caf\xe9\n\x1b[2J"
    assert entry["ARTIFACTD_LONE"] == rb"\ud800"
    assert entry["MESSAGE"] == rb"Found path=caf\xe9\n\x1b[2J lone=\ud800"


def test_journald_gets_what_no_datagram_holds(journal: Journal) -> None:
    log.configure("journald", LEVEL, stream=io.StringIO(), journal_socket=journal.path)
    logger.info("Found", blob="x" * 3_000_000)
    assert journal.read()["ARTIFACTD_BLOB"] == b"x" * 3_000_000


def test_a_missing_journald_is_replaced_by_prefixed_lines_until_it_comes(journal: Journal) -> None:
    stream = io.StringIO()
    log.configure("journald", LEVEL, stream=stream, journal_socket=journal.path)
    journal.close()
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("Failed", run="r1")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "<3>Failed run=r1"
    assert lines[-1] == "<3>  lines"
    assert all(line.startswith("<3>") for line in lines)
    journal.open()
    logger.warning("Back")
    assert journal.read()["MESSAGE"] == b"Back"
    assert stream.getvalue().splitlines() == lines


def test_a_journald_that_hangs_does_not_hang_the_service(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_JOURNAL_TIMEOUT", 0.01)
    stream = io.StringIO()
    log.configure("journald", LEVEL, stream=stream, journal_socket=journal.path)
    for number in range(2_000):  # more than any queue of the kernel (net.unix.max_dgram_qlen) holds
        logger.info("Said", number=number)
        if stream.getvalue():
            break
    assert stream.getvalue() == f"<6>Said number={number}\n"


# --- auto --------------------------------------------------------------------------------------------------------


def through_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> bytes:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    controller, terminal = pty.openpty()
    try:
        with open(terminal, "w", encoding="utf-8", closefd=False) as stream:
            log.configure("auto", LEVEL, stream=stream)
            logger.error("Failed", path=b"\x1b]0;title\x07\xff\xe2\x80\xae.png")
            return os.read(controller, 10_000)
    finally:
        os.close(terminal)
        os.close(controller)


def test_auto_is_console_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = through_terminal(monkeypatch)
    assert b"\x1b[31merror   \x1b[0m Failed" in shown
    assert shown.rstrip().endswith(rb"path=\x1b]0;title\x07\xff\u202e.png")
    assert shown.count(b"\x1b") == 2


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_console_has_no_colors_where_they_are_not_wanted(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"\x1b" not in through_terminal(monkeypatch, **environment)


def test_auto_is_journald_where_stderr_is_the_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile("w+") as stream:
        stat = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        log.configure("auto", LEVEL, stream=stream, journal_socket=journal.path)
        logger.info("Said")
    assert journal.read()["MESSAGE"] == b"Said"


@pytest.mark.parametrize("journal_stream", ["", "1:2", "nonsense"])
def test_auto_is_json_elsewhere(journal_stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", journal_stream)
    with tempfile.TemporaryFile("w+") as stream:
        log.configure("auto", LEVEL, stream=stream)
        logger.info("Said")
        stream.seek(0)
        assert json.loads(stream.read())["event"] == "Said"


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("auto", LEVEL)
    logger.info("Said")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "Said"


# --- levels, and what others say ---------------------------------------------------------------------------------


def test_levels_hold_and_change_for_loggers_already_given() -> None:
    stream = io.StringIO()
    log.configure("json", "warning", stream=stream)
    logger.info("Unheard")
    logging.getLogger("urllib3").info("Unheard")
    assert stream.getvalue() == ""
    log.configure("json", "debug", stream=stream)
    logger.debug("Heard")
    assert last_json(stream)["event"] == "Heard"
    assert len([h for h in logging.getLogger().handlers if isinstance(h, log._Bridge)]) == 1


def test_the_standard_librarys_logging_is_heard_from_warning_up() -> None:
    stream = io.StringIO()
    log.configure("json", "debug", stream=stream)
    library = logging.getLogger("urllib3.connectionpool")
    library.info("Unheard")
    library.warning("Retrying %s of %d", "x", 3)
    event = last_json(stream)
    assert (event["event"], event["level"], event["logger"]) == ("Retrying x of 3", "warning", "urllib3.connectionpool")
    library.log(35, "Between the levels")
    assert last_json(stream)["level"] == "warning"
    library.error("Failed", exc_info=True)  # without an exception: (None, None, None)
    assert last_json(stream)["event"] == "Failed"
    library.error("Failed", exc_info=ValueError("why"))
    assert last_json(stream)["exception"] == "ValueError: why"
    assert len(stream.getvalue().splitlines()) == 4


def test_a_librarys_broken_call_is_still_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own raise for it
    stream = io.StringIO()
    log.configure("json", LEVEL, stream=stream)
    logging.getLogger("lib").error("Bad %d", "token=geheim")
    assert last_json(stream)["event"] == "Bad %d"
    assert "geheim" not in stream.getvalue()


def test_warnings_are_heard() -> None:
    stream = io.StringIO()
    log.configure("json", LEVEL, stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing, token=geheim", DeprecationWarning, stacklevel=1)
    event = last_json(stream)
    assert (event["event"], event["category"]) == ("old thing, token=***", "DeprecationWarning")
    assert event["where"].startswith(f"{__file__}:")


def test_mlflow_imported_later_is_heard_the_same_way() -> None:
    script = """
from artifactd import log
log.configure("json", "info")
import logging, mlflow
logging.getLogger("mlflow.store").warning("Cannot reach %s", "http://u:geheim@h")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[-1]["event"] == "Cannot reach http://u:***@h"
    assert done.stdout == ""


# --- attacks -----------------------------------------------------------------------------------------------------


class Stubborn:
    def __str__(self) -> str:
        raise RuntimeError("geheim")


class Talkative:
    def __str__(self) -> str:
        return "sftp://u:geheim@h"

    __repr__ = __str__


def say_secrets() -> int:
    """Log a secret in every way there is; give the number of events."""
    library = logging.getLogger("lib")
    logger.info("Reached http://u:geheim@h")
    logger.info("Key", uri="http://u:geheim@h/?sig=geheim", password="geheim", raw=b"?token=geheim", it=Talkative())
    logger.info(
        "Deep", options={"a": [{"secret": ["geheim"]}, ("http://u:geheim@h",)], "http://u:geheim@h": {Talkative()}}
    )
    logger.info("Odd", value=Stubborn(), path=Path("/x/token=geheim"), error=ValueError("password=geheim"))
    logger.bind(uri="http://u:geheim@h").info("Bound", **{"http://u:geheim@h": 1})
    library.warning("Retry %s %s", "http://u:geheim@h", {"secret": "geheim"})
    try:
        try:
            raise ValueError("cannot reach http://u:geheim@h")
        except ValueError as exc:
            raise RuntimeError("Authorization: Bearer geheim") from exc
    except RuntimeError as exc:
        exc.add_note("AccountKey=geheim;")
        logger.exception("Failed")
        logger.error("Failed", exc_info=exc)
        library.exception("Failed with %s", exc)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("api_key=geheim", stacklevel=1)
    return 10


@pytest.mark.parametrize("format_", ["console", "json"])
def test_no_secret_reaches_a_stream(format_: log.Format) -> None:
    stream = io.StringIO()
    log.configure(format_, LEVEL, stream=stream)
    count = say_secrets()
    text = stream.getvalue()
    assert "geheim" not in text
    assert len(re.findall(r"^(?:\d\d:|\{)", text, re.MULTILINE)) == count
    assert text.count("***") > 2 * count


def test_no_secret_reaches_the_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[dict[str, bytes]] = []
    stream = io.StringIO()
    log.configure("journald", LEVEL, stream=stream, journal_socket=journal.path)
    reader = threading.Thread(target=lambda: entries.extend(journal.read() for _ in range(10)))
    reader.start()
    count = say_secrets()
    reader.join(10)
    assert len(entries) == count
    assert stream.getvalue() == ""
    assert b"geheim" not in b"".join(value for entry in entries for value in entry.values())
    journal.close()
    say_secrets()
    assert stream.getvalue().count("***") > 2 * count
    assert "geheim" not in stream.getvalue()
    journal.open()


def test_the_environments_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    log.configure("console", LEVEL, stream=stream)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim\tund lang")
    logger.info("Said", text="it is geheim\tund lang", data=b"geheim\tund lang", shown=repr("geheim\tund lang"))
    assert "geheim" not in stream.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
@pytest.mark.parametrize("format_", ["console", "json"])
def test_any_name_on_any_stream(format_: log.Format, encoding: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
        log.configure(format_, LEVEL, stream=stream)
        logger.info("Found 🎉", path=b"\xff\xfe \xf0\x9f\x8e\x89 \xc3\xa9 \x1b[31m\x9b\r\n", lone="\ud800\U0010ffff")
        text = raw.getvalue().decode(encoding)
    assert text.endswith("\n")
    line = text[:-1]
    assert line.isprintable()
    if format_ == "json":
        event = json.loads(line)
        assert event["path"] == "\\xff\\xfe 🎉 é \x1b[31m\\x9b\r\n"
        assert event["lone"] == "\\ud800\U0010ffff"
    else:
        assert r"\xff\xfe" in line
        assert r"\x1b[31m\x9b\r\n" in line


def test_lines_of_many_threads_stay_whole() -> None:
    with tempfile.TemporaryFile("w+") as stream:
        log.configure("json", LEVEL, stream=stream)

        def say(number: int) -> None:
            for count in range(100):
                logger.info("Said", number=number, count=count, filler="x" * 500)

        threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stream.seek(0)
        seen = {(event["number"], event["count"]) for event in map(json.loads, stream)}
    assert len(seen) == 800


def test_a_reader_that_went_away_does_not_stop_the_service() -> None:
    reading, writing = os.pipe()
    stream = open(writing, "w")  # noqa: SIM115 (closed on purpose in the middle)
    log.configure("json", LEVEL, stream=stream)
    os.close(reading)
    logger.info("Said into a broken pipe")
    with pytest.raises(BrokenPipeError):
        stream.close()
    logger.info("Said into a closed stream")


def test_values_without_end_are_cut() -> None:
    stream = io.StringIO()
    log.configure("json", LEVEL, stream=stream)
    endless: list[Any] = [1]
    endless.append(endless)
    logger.info("Said", value=endless)
    assert last_json(stream)["value"][0] == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b é 🎉.png", "a b é 🎉.png"), ("\x00\x1b\x7f\x9b\n\t", r"\x00\x1b\x7f\x9b\n\t"), ("\udcff", r"\xff"),
     ("\ud800", r"\ud800"), ("\u202e\u2028", r"\u202e\u2028"), ("\U000e0001", r"\U000e0001")],
)  # fmt: skip
def test_printable(text: str, shown: str) -> None:
    assert log._printable(text) == shown
    assert shown.isprintable()
