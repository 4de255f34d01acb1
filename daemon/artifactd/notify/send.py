"""How a message goes out: to a command's input, or to a webhook. Blocks, so never in the service's loop.

What speaks HTTP is imported when there is something to say: a service that has nothing to tell does not carry it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay, wait_random_exponential

from artifactd import __version__
from artifactd.config.notify import shown_webhook
from artifactd.config.uris import is_loopback
from artifactd.errors import ArtifactdError
from artifactd.text import printable

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector

SIGNATURE = "X-Artifactd-Signature"
"""The header with the body's HMAC-SHA256, as ``sha256=HEX``."""

_KEPT = 1000
"""Bytes of a command's output, or of a refusal's body, that are kept for the log."""

_BLOCK = 65536
_LOOK_EVERY = 0.1
"""Seconds between two looks whether a command has ended: what it started may hold its output open."""

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that time may change."""

_WHOLE_KEY = 64 * 1024
"""Bytes of a key that is no mistake in the path."""


class NotSentError(ArtifactdError):
    """A message did not go out; it is told anew, as all then stands, with the next period."""


class _AgainError(NotSentError):
    """One that may go out in a moment."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one message may take.

    Attributes:
        answer: Seconds for a connection, and for each silence of a webhook's server.
        tries: Requests, at most.
        budget: Seconds within which the last of them begins.
        first: Seconds of the first pause, at most; it doubles.
        command: Seconds after which a command is ended.
    """

    answer: float = 10.0
    tries: int = 5
    budget: float = 60.0
    first: float = 1.0
    command: float = 30.0


USUAL = Patience()


def run(command: Sequence[str], body: bytes, patience: Patience = USUAL) -> str:
    """Start a command, without a shell, with the message as its input, and wait for its end.

    Args:
        command: Program and arguments.
        body: What it reads.
        patience: Its time is `command`; then it and what it started are ended.

    Returns:
        The beginning of what it said, safe to print.

    Raises:
        NotSentError: It cannot be started, ended with another code than 0, or took too long.
    """
    name = printable(os.fsencode(command[0]))
    try:
        process = _start(command, body)
    except OSError as exc:
        raise NotSentError(
            f"the command {name} cannot be started: {exc.strerror}",
            "Check notify.command, that the program is there and that artifactd's user may run it",
        ) from exc
    said = _until_its_end(process, time.monotonic() + patience.command)
    words = printable(said.strip().replace(b"\n", b"; "))
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process that hangs in the kernel
            process.wait(_LOOK_EVERY)
        raise NotSentError(
            _with(f"the command {name} was ended after {patience.command:g} s", words),
            "Let it do what takes long in the background",
        )
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise NotSentError(_with(f"the command {name} ended with {how}", words), "Try it by hand, as artifactd's user")
    return words


def _start(command: Sequence[str], body: bytes) -> subprocess.Popen[bytes]:
    # A file in memory: a pipe would want somebody who fills it.
    with open(os.memfd_create("artifactd-notify", os.MFD_CLOEXEC), "w+b", buffering=0) as stdin:
        stdin.write(body)
        stdin.seek(0)
        return subprocess.Popen(
            list(command), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            start_new_session=True,
        )  # fmt: skip


def _until_its_end(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """The first bytes of the output, all of which is read; returns at the end of the process, or at the deadline."""
    assert process.stdout is not None  # noqa: S101 (asked for)
    said = bytearray()
    with process.stdout as stream:
        poller = select.poll()
        poller.register(stream, select.POLLIN)
        os.set_blocking(stream.fileno(), False)
        is_open = True
        while process.poll() is None and time.monotonic() < deadline:
            if is_open and poller.poll(_LOOK_EVERY * 1000):
                is_open = _read(stream.fileno(), said)
            elif not is_open:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        if is_open:
            _read(stream.fileno(), said)  # its last words
    return bytes(said)


def _read(fd: int, said: bytearray) -> bool:
    """Take what there is; whether more may come."""
    try:
        data = os.read(fd, _BLOCK)
    except BlockingIOError:
        return True
    said += data[: _KEPT - len(said)]
    return bool(data)


def post(
    url: str,
    body: bytes,
    key_file: Path | None = None,
    patience: Patience = USUAL,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send the message to a webhook; several times, where the server does not answer or says that it is busy.

    Args:
        url: ``https://…``, or ``http://`` on this machine; with a user and a password if it wants them.
        body: JSON.
        key_file: Holds the key of the signature; read now, so that it may be rotated. None: it is not signed.
        patience: How long it may take.
        sleep: Waits for so many seconds.

    Raises:
        NotSentError: No answer, one that is not 2xx (a redirect is not followed: whom it is told to is the
            configuration's to say), or a key that cannot be read.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"artifactd/{__version__}"}
    if key_file is not None:
        headers[SIGNATURE] = signature(_key(key_file), body)
    again = Retrying(
        stop=stop_after_attempt(patience.tries) | stop_before_delay(patience.budget),
        wait=wait_random_exponential(multiplier=patience.first, max=patience.budget / 4),
        retry=retry_if_exception_type(_AgainError),
        sleep=sleep,
        reraise=True,
    )
    again(_Sender(url, body, headers, patience.answer).send)


def signature(key: bytes, body: bytes) -> str:
    """The value of the header that signs a body."""
    return f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"


def _key(path: Path) -> bytes:
    where = printable(os.fsencode(path))
    try:
        with open(path, "rb") as file:
            key = file.read(_WHOLE_KEY + 1).strip()
    except OSError as exc:
        raise NotSentError(
            f"the key {where} cannot be read: {exc.strerror}",
            "Give artifactd's user read access, or mend notify.secret_file",
        ) from exc
    if not 0 < len(key) <= _WHOLE_KEY:
        raise NotSentError(f"{where} holds no key", "Write one into it, as `openssl rand -hex 32` makes it")
    return key


class _Sender:
    """One message for one webhook: each `send` is a request of its own."""

    def __init__(self, url: str, body: bytes, headers: dict[str, str], timeout: float) -> None:
        parts = urlsplit(url)
        account, at, host = parts.netloc.rpartition("@")
        if at:
            user, _, password = account.partition(":")
            plain = f"{unquote(user)}:{unquote(password)}".encode()
            headers = {**headers, "Authorization": f"Basic {base64.b64encode(plain).decode()}"}
        self._shown = shown_webhook(url)
        self._secrets = [text for text in (url, parts.path, parts.query) if text.strip("/")]
        self._url = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        self._body, self._headers, self._timeout = body, headers, timeout
        self._proxies = not is_loopback(parts.hostname or "")

    def send(self) -> None:
        from http.client import HTTPException  # noqa: PLC0415 (with the others)
        from urllib.error import HTTPError, URLError  # noqa: PLC0415 (with the others)
        from urllib.request import Request  # noqa: PLC0415 (when there is something to say)

        # A new one each time: a proxy is written into it. The configuration allows http and https alone.
        request = Request(self._url, self._body, self._headers, method="POST")  # noqa: S310
        try:
            with _opener(proxies=self._proxies).open(request, timeout=self._timeout):
                return  # 2xx: what it says besides is of no interest
        except HTTPError as exc:
            with exc:
                self._refused(exc.code, _words_of(exc))
        except (OSError, HTTPException, ValueError) as exc:
            reason = exc.reason if isinstance(exc, URLError) else exc
            raise _AgainError(
                f"the webhook {self._shown} cannot be reached: {self._without_secrets(_reason(reason))}",
                "Check notify.webhook and that this host may reach it; a proxy is taken from HTTPS_PROXY, certificates"
                " from SSL_CERT_FILE",
            ) from exc

    def _refused(self, code: int, words: str) -> None:
        said = _with(f"the webhook {self._shown} answered {code}", self._without_secrets(words))
        if code in _AGAIN:
            raise _AgainError(said, "See the log of the webhook's server")
        if 300 <= code < 400:
            raise NotSentError(said, "Write the address that it leads to as notify.webhook: redirects are not followed")
        raise NotSentError(said, "Check notify.webhook, and the key if it wants a signature")

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _opener(*, proxies: bool) -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener  # noqa: PLC0415 (as above)

    class Stays(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    return build_opener(Stays, *([] if proxies else [ProxyHandler({})]))


def _words_of(answer: HTTPError) -> str:
    """The beginning of a refusal's body, if it comes."""
    from http.client import HTTPException  # noqa: PLC0415 (as above)

    body: HTTPResponse | None = getattr(answer, "fp", None)
    try:
        data = b"" if body is None else body.read1(_KEPT)
    except (OSError, ValueError, HTTPException):
        return ""
    return printable(data.strip().replace(b"\n", b" "))


def _reason(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable(str(text).encode("utf-8", "surrogateescape"))


def _with(what: str, words: str) -> str:
    return f"{what}: {words}" if words else what
