"""An SSH connection as OpenSSH would make it, by paramiko: reach the server, know it, be let in, start SFTP.

All of it has one deadline. What fails is raised as ``DeliveryError``: who was asked, what it said, what to do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import paramiko

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import known_hosts
from artifactd.tracking.known_hosts import Verdict, fingerprint
from artifactd.tracking.sftp_address import Endpoint
from artifactd.tracking.sftp_packets import ConnectionLostError
from artifactd.tracking.sftp_wire import SILENCE, Wire

GREETING_SECONDS = 13.0
"""For everything until SFTP is there."""

_STUCK_SECONDS = 20.0
"""In which the other end's kernel must take something of what is sent: paramiko itself waits for it without end."""

_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *_RSA)
_AES_GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""One pass where paramiko's first choice takes two: half the time per byte."""

# Its own words, with tracebacks, would go to stderr where nobody configured logging; all that matters is raised.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Connection:
    """A connection with an SFTP session on it.

    Args:
        endpoint: Where to, and as whom.

    Raises:
        DeliveryError: It cannot be had.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.used_at = self.checked_at = time.monotonic()
        begun = time.monotonic()
        sock = _connect(endpoint)
        left = max(1.0, GREETING_SECONDS - (time.monotonic() - begun))
        try:
            self._transport = paramiko.Transport(sock)
        except BaseException:
            sock.close()
            raise
        try:
            with _within(left, self._transport, endpoint):
                _know(self._transport, endpoint)
                _be_let_in(self._transport, endpoint)
                self.wire = _start(self._transport, sock, endpoint)
        except BaseException:
            self._transport.close()
            raise

    def lives(self, idle: float, patience: float) -> bool:
        """Whether it can be used; asked of the server itself after `idle` seconds without use, for `patience`."""
        if not self._transport.is_active():
            return False
        if time.monotonic() - self.used_at > idle:
            try:
                self.wire.ping(patience)
            except ConnectionLostError:
                return False
        return True

    def close(self) -> None:
        """End it."""
        self._transport.close()


class _Socket(socket.socket):
    """A socket on which a send fails once nothing has moved for long; paramiko gives each a tenth of a second.

    TCP_USER_TIMEOUT is not that: the kernel counts from the first probe of a window that is too small for what comes
    next, though each probe may bring something through, and so cut slow lines.
    """

    _moved = 0
    _since: float | None = None

    def send(self, data: Any, flags: int = 0) -> int:
        """As ``socket.send``.

        Raises:
            ConnectionAbortedError: After `_STUCK_SECONDS` of sends in which nothing went out and nothing came.
        """
        try:
            sent = super().send(data, flags)
        except TimeoutError:
            moved, now = _moved(self), time.monotonic()
            if self._since is None or moved != self._moved:
                self._moved, self._since = moved, now
            elif now - self._since > _STUCK_SECONDS:
                raise ConnectionAbortedError(f"nothing was taken for {_STUCK_SECONDS:.0f} s") from None
            raise
        self._since = None
        return sent


# -- reaching --------------------------------------------------------------------------------------------------------


def _connect(endpoint: Endpoint) -> socket.socket:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise _fails(
            Kind.TRANSIENT, f"the name {endpoint.host} of {endpoint} cannot be resolved ({exc.strerror})",
            "See the name in artifact_location and this host's DNS; it is tried again by itself",
        ) from exc  # fmt: skip
    trouble: OSError = OSError("it has no address")
    for family, kind, protocol, _, address in found:
        sock = _Socket(family, kind, protocol)
        try:
            sock.settimeout(endpoint.connect_seconds / len(found))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            trouble = exc
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if isinstance(trouble, ConnectionRefusedError):
        what, cure = "refuses the connection", "See that sshd runs there and listens on that port"
    elif isinstance(trouble, TimeoutError):
        what = f"does not answer within {endpoint.connect_seconds:.0f} s"
        cure = "See that the server is up, and that no firewall on the way swallows the connection"
    else:
        what, cure = f"cannot be reached: {trouble.strerror or trouble}", "See the network of this host and the server"
    raise _fails(Kind.TRANSIENT, f"{endpoint} {what}", f"{cure}; it is tried again by itself") from trouble


@contextlib.contextmanager
def _within(seconds: float, transport: paramiko.Transport, endpoint: Endpoint) -> Iterator[None]:
    """Have the greeting end in time: of paramiko's own waits, some have no end."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        transport.close()

    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 2 * GREETING_SECONDS
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (paramiko.SSHException, ConnectionLostError, EOFError, OSError) as exc:
        if ended.is_set():
            raise _fails(
                Kind.TRANSIENT, f"{endpoint} took the connection, but did not let us in within {seconds:.0f} s",
                "See that the server does not hang (load, disk, the DNS that it asks); it is tried again by itself",
            ) from exc  # fmt: skip
        raise _broken(endpoint, exc) from exc
    finally:
        timer.cancel()


def _broken(endpoint: Endpoint, exc: BaseException) -> DeliveryError:
    said = mask(" ".join(str(exc).split()))[:200]
    if isinstance(exc, paramiko.ssh_exception.IncompatiblePeer):
        return _fails(
            Kind.PAUSED, f"{endpoint} and we have no common way to encrypt ({said})", "Bring its SSH server up to date"
        )
    if "banner" in said:
        return _fails(
            Kind.TRANSIENT, f"{endpoint} ends the connection without a greeting, or is no SSH server",
            "See the port, and whether the server is overloaded (MaxStartups) or bans this host",
        )  # fmt: skip
    return _fails(
        Kind.TRANSIENT,
        f"{endpoint} ended the connection before it let us in ({said or type(exc).__name__})",
        "See the server's log; it is tried again by itself",
    )


# -- knowing the server ----------------------------------------------------------------------------------------------


def _know(transport: paramiko.Transport, endpoint: Endpoint) -> None:
    lines = known_hosts.read((*endpoint.user_hosts, *endpoint.system_hosts))
    known = known_hosts.types(lines, endpoint.names)
    ours = [a for a in _HOST_KEYS if (a if a not in _RSA else "ssh-rsa") in known]
    options = transport.get_security_options()
    options.key_types = (*ours, *(a for a in _HOST_KEYS if a not in ours))
    options.ciphers = (*_AES_GCM, *(c for c in options.ciphers if c not in _AES_GCM))
    transport.start_client()
    key = transport.get_remote_server_key()
    blob, kind = key.asbytes(), key.get_name()
    verdict, line = known_hosts.judge(lines, endpoint.names, blob)
    if verdict is Verdict.KNOWN:
        return
    offered = f"{kind} {fingerprint(blob)}"
    name, file = endpoint.names[0], endpoint.user_hosts[0] if endpoint.user_hosts else "~/.ssh/known_hosts"
    scan = f"ssh-keyscan -t {kind} -p {endpoint.port} {shlex.quote(endpoint.host)}"
    if name not in (endpoint.host.lower(), f"[{endpoint.host.lower()}]:{endpoint.port}"):
        scan += f" | sed 's/^[^ ]*/{name}/'"  # HostKeyAlias: the scan knows nothing of it
    add = f"{scan} >> {shlex.quote(file)}"
    there = f"ssh-keygen -lf /etc/ssh/ssh_host_{kind.removeprefix('ssh-').partition('-')[0]}_key.pub"
    if line is None:
        only_ca = any(e.marker == "@cert-authority" and known_hosts.matches(e.patterns, name) for e in lines)
        raise _fails(
            Kind.PAUSED,
            f"{endpoint} is not known: it shows the host key {offered}, and no known-hosts file has one for {name}"
            + (" (its @cert-authority is not used)" if only_ca else ""),
            f"Compare that with the server's own (on it: {there}); if they are the same: {add}",
        )
    where = f"{line.file} line {line.number}"
    if verdict is Verdict.REVOKED:
        raise _fails(
            Kind.PAUSED, f"{endpoint} shows the host key {offered}, which {where} revokes",
            "Ask who runs the server, or whether this is it",
        )  # fmt: skip
    raise _fails(
        Kind.PAUSED,
        f"{endpoint} has another host key than before, or is another server: it shows {offered}, and {where} has "
        f"{line.type} {fingerprint(line.blob)}",
        f"Ask who runs it, and compare (on it: {there}). If the key was renewed: "
        f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(line.file)} && {add}",
    )


# -- being let in ----------------------------------------------------------------------------------------------------


class _Asked:
    """What was tried, for the words of a refusal."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.notes: list[str] = []
        self.taken: list[str] = []


def _be_let_in(transport: paramiko.Transport, endpoint: Endpoint) -> None:
    asked = _Asked()
    with contextlib.closing(paramiko.Agent()) as agent:
        for what, attempt in _ways(transport, endpoint, agent, asked):
            asked.tried.append(what)
            try:
                more = attempt()
            except paramiko.BadAuthenticationType as exc:
                asked.taken = list(exc.allowed_types)
            except paramiko.AuthenticationException as exc:
                if not transport.is_active():
                    asked.notes.append("then it ended the connection")
                    break
                if "timeout" in str(exc):
                    raise
            else:
                if not more:
                    return
                asked.notes.append(f"it asks for more than one way ({', '.join(more)}), which is not supported")
    raise _not_let_in(endpoint, asked)


def _ways(
    transport: paramiko.Transport, endpoint: Endpoint, agent: paramiko.Agent, asked: _Asked
) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Each way to be let in, the most explicit first: servers end the connection after some tries."""
    user, password = endpoint.user, endpoint.password

    def by_key(key: paramiko.PKey) -> Callable[[], list[str]]:
        return lambda: transport.auth_publickey(user, key)

    named = [found for file in endpoint.identities if (found := _key(file, asked, named=True)) is not None]
    for path, key in named:
        yield f"the key {path} ({fingerprint(key.asbytes())})", by_key(key)
    if password is not None:
        yield "the URL's password", lambda: transport.auth_password(user, password)
    held = list(agent.get_keys())
    wanted = {blob for file in endpoint.identities if (blob := _public(file)) is not None}
    held.sort(key=lambda key: key.asbytes() not in wanted)
    for agent_key in held:
        if not endpoint.only_identities or agent_key.asbytes() in wanted:
            yield f"the agent's key {fingerprint(agent_key.asbytes())}", by_key(agent_key)
    for file in endpoint.defaults:
        if (own := _key(file, asked, named=False)) is not None:
            yield f"the key {file} ({fingerprint(own[1].asbytes())})", by_key(own[1])


def _key(file: str, asked: _Asked, *, named: bool) -> tuple[str, paramiko.PKey] | None:
    try:
        return file, paramiko.PKey.from_path(file)
    except FileNotFoundError:
        if named:
            asked.notes.append(f"{file} is not there")
    except OSError as exc:
        asked.notes.append(f"{file} cannot be read ({exc.strerror})")
    except (TypeError, paramiko.PasswordRequiredException):  # TypeError: what cryptography says
        asked.notes.append(f"{file} has a passphrase")
    except Exception as exc:  # noqa: BLE001 (each library below has its own for a key that it cannot take)
        if _public(file) is None or file.endswith(".pub"):
            asked.notes.append(f"{file} is no key that can be used ({type(exc).__name__})")
    return None


def _public(file: str) -> bytes | None:
    """The public half of a key file, which says which of the agent's keys is meant."""
    path = file if file.endswith(".pub") else f"{file}.pub"
    try:
        with open(path, encoding="utf-8") as stream:
            return paramiko.pkey.PublicBlob.from_string(stream.read()).key_blob
    except (OSError, ValueError):
        return None


def _not_let_in(endpoint: Endpoint, asked: _Asked) -> DeliveryError:
    notes = f" ({'; '.join(asked.notes)})" if asked.notes else ""
    port = "" if endpoint.port == 22 else f"-P {endpoint.port} "
    see = f"sftp {port}{endpoint.user}@{endpoint.host}"
    home = os.path.expanduser("~/.ssh")
    if any("passphrase" in note for note in asked.notes):
        cure = (
            "The service has no terminal to ask for a passphrase: make it a key of its own without one (ssh-keygen -t "
            f"ed25519 -N '' -f {home}/artifactd, named as IdentityFile in {home}/config), or give it an agent "
            "(SSH_AUTH_SOCK)"
        )
    elif not asked.tried:
        cure = (
            f"Make a key as the service's user (ssh-keygen -t ed25519 -N '' -f {home}/id_ed25519) and put its public "
            f"half into ~{endpoint.user}/.ssh/authorized_keys on the server (ssh-copy-id)"
        )
    else:
        cure = (
            f"Put the public half of the key into ~{endpoint.user}/.ssh/authorized_keys on the server (ssh-copy-id), "
            f"see that the user is right, and try as the service's user: {see}"
        )
    if not asked.tried:
        return _fails(Kind.PAUSED, f"there is no key to show to {endpoint}: none in {home}, no agent{notes}", cure)
    taken = f"; it takes {', '.join(asked.taken)}" if asked.taken else ""
    return _fails(Kind.PAUSED, f"{endpoint} refuses {' and '.join(asked.tried)}{taken}{notes}", f"{cure}")


# -- SFTP ------------------------------------------------------------------------------------------------------------


def _start(transport: paramiko.Transport, sock: socket.socket, endpoint: Endpoint) -> Wire:
    try:
        channel = transport.open_session(timeout=SILENCE)
        channel.invoke_subsystem("sftp")
        return Wire(channel, lambda: _moved(sock))
    except (paramiko.SSHException, ConnectionLostError) as exc:
        if not transport.is_active():
            raise
        raise _fails(
            Kind.PAUSED, f"{endpoint} lets us in, but offers no SFTP ({mask(str(exc)) or 'refused'})",
            "See that its sshd_config has 'Subsystem sftp internal-sftp', and that no login script prints anything",
        ) from exc  # fmt: skip


_TCP_INFO_BYTES = struct.Struct("QQ")
_TCP_INFO_AT = 120
"""Where bytes_acked and bytes_received are in Linux' struct tcp_info, from 4.1 on."""


def _moved(sock: socket.socket) -> int:
    """Bytes that the other end's kernel has taken, and given."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return sum(_TCP_INFO_BYTES.unpack_from(info, _TCP_INFO_AT))
    except (OSError, struct.error):
        return 0  # then what is answered alone counts as moving


def _fails(kind: Kind, error: str, cure: str) -> DeliveryError:
    return DeliveryError(Failure(kind, Scope.RUN, error, cure))
