"""Where an ``sftp://`` URL leads: the URL itself, and what OpenSSH's configuration makes of its host.

The same files are read as by ``ssh`` (``~/.ssh/config``, ``/etc/ssh/ssh_config``), so what works there works here. What
is not supported is refused in words, never passed over where it decides about the way to the server.
"""

from __future__ import annotations

import contextlib
import getpass
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import known_hosts

USER_CONFIG = "~/.ssh/config"
SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_USER_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_SYSTEM_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"

CONNECT_SECONDS = 10.0
"""For the TCP connection, where ``ConnectTimeout`` says nothing."""

_FORM = "Write it as sftp://user@host:22/absolute/path, with % # ? / : @ in user and password percent-encoded"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_INCLUDE = re.compile(r"\s*include(?:\s*=\s*|\s+)(.+)", re.IGNORECASE)
_BLOCK = re.compile(r"\s*(?:host|match)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, taken apart.

    Attributes:
        host: A name, an address, or a ``Host`` of the configuration; as it is written.
        port: None where the URL names none, as with `user` and `password`.
        path: Absolute, as the server sees it, without a closing slash (but for the root).
    """

    host: str
    port: int | None
    user: str | None
    path: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, and how to reach it and be let in.

    Attributes:
        host: As it is connected to.
        identities: Private keys that the configuration names.
        defaults: Private keys to be tried besides.
        only_identities: ``IdentitiesOnly``: of an agent's keys, those of `identities` alone.
        names: Under which the server's key may be known.
        user_hosts: The user's known-hosts files, the first of which a new key goes into; `system_hosts` besides.
        connect_seconds: For the TCP connection.
        stamps: What the files above looked like: a change of one makes another endpoint.
    """

    host: str
    port: int
    user: str
    identities: tuple[str, ...]
    defaults: tuple[str, ...]
    only_identities: bool
    names: tuple[str, ...]
    user_hosts: tuple[str, ...]
    system_hosts: tuple[str, ...]
    connect_seconds: float
    stamps: tuple[tuple[str, int, int, int], ...]
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sftp://{self.user}@{host}:{self.port}"


def parse(uri: str) -> Place:
    """Take an ``sftp://`` URL apart. Its path is taken as it stands, as MLflow does.

    Raises:
        DeliveryError: It is none.
    """
    scheme, slashes, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host_port = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    match = _HOST.fullmatch(host_port)
    port = int(match[2]) if match and match[2] else None
    if scheme.lower() != "sftp" or not slashes or not match or (port is not None and not 0 < port < 65536):
        raise _refused(f"{mask(uri)} is no URL of an SFTP server", _FORM)
    if (at and not user) or any(c in authority + path for c in "?#\n"):
        raise _refused(f"{mask(uri)} cannot be taken apart as a URL of an SFTP server", _FORM)
    return Place(
        host=match[1].strip("[]"),
        port=port,
        user=unquote(user) if at else None,
        path=(slash + path).rstrip("/") or "/",
        password=unquote(password) if colon else None,
    )


def resolve(place: Place) -> Endpoint:
    """What this URL means on this host, for this user, now.

    Raises:
        DeliveryError: OpenSSH's configuration cannot be read, or asks for what is not supported.
    """
    options = _options(place.host)
    way = options.get("proxyjump") or options.get("proxycommand")
    if isinstance(way, str) and way.lower() != "none":
        kind = "ProxyJump" if options.get("proxyjump") else "ProxyCommand"
        raise _paused(
            f"{USER_CONFIG} reaches {place.host} by {kind} ({mask(way)}), which is not supported",
            "Let this host reach the server directly, or keep a tunnel open (ssh -N -L 2222:server:22 jump, as a "
            "service) and use sftp://user@localhost:2222/… with HostKeyAlias",
        )
    named = options.get("identityfile")
    identities = tuple(map(_home, named)) if isinstance(named, list) else ()
    defaults = () if identities else tuple(map(_home, _KEYS))
    user_hosts = _files(options, "userknownhostsfile", _USER_HOSTS)
    system_hosts = _files(options, "globalknownhostsfile", _SYSTEM_HOSTS)
    host = str(options.get("hostname") or place.host)
    port = place.port or _number(options, "port", 22)
    alias = options.get("hostkeyalias")
    keys = (*identities, *defaults)
    return Endpoint(
        host=host,
        port=port,
        user=place.user or str(options.get("user") or _local_user()),
        identities=tuple(i for i in identities if os.path.basename(i) != "none"),
        defaults=defaults,
        only_identities=str(options.get("identitiesonly")).lower() == "yes",
        names=known_hosts.names(host, port, str(alias) if alias else None),
        user_hosts=user_hosts,
        system_hosts=system_hosts,
        connect_seconds=float(_number(options, "connecttimeout", 0)) or CONNECT_SECONDS,
        stamps=tuple(_stamps((_home(USER_CONFIG), SYSTEM_CONFIG, *keys, *user_hosts, *system_hosts))),
        password=place.password,
    )


def _options(host: str) -> Mapping[str, str | list[str] | None]:
    import paramiko  # noqa: PLC0415  (an extra)

    config = paramiko.SSHConfig()
    try:
        for file in (_home(USER_CONFIG), SYSTEM_CONFIG):
            config.parse(_Lines(_lines(file, os.path.dirname(file))))
        with _a_name():
            return config.lookup(host)
    except DeliveryError:
        raise
    except Exception as exc:  # what is wrong in the file comes as many kinds of exception
        raise _paused(f"{USER_CONFIG} cannot be used for {host}: {mask(str(exc))}", f"See: ssh -G {host}") from exc


@contextlib.contextmanager
def _a_name() -> Iterator[None]:
    """Let paramiko, which always asks for our user's name, have one where a container's user id has none."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
        try:
            yield
        finally:
            del os.environ["LOGNAME"]
    else:
        yield


class _Lines:
    """What paramiko asks of an open file: to be iterated over."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        return self._lines


def _lines(file: str, base: str, depth: int = 0) -> Iterator[str]:
    """The lines of a configuration file, with what it includes in its place; paramiko passes over ``Include``."""
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return
    in_block = False
    for line in lines:
        in_block = in_block or _BLOCK.match(line) is not None
        included = _INCLUDE.fullmatch(line)
        if included is None:
            yield line
            continue
        if in_block or depth > 8:
            raise _paused(
                f"{file} has an Include within a Host or Match block, which is not supported", "Move it to the top"
            )
        for pattern in included[1].split():
            for path in sorted(glob.glob(os.path.join(base, _home(pattern.strip('"'))))):
                yield from _lines(path, base, depth + 1)
        yield "Host *"


def _files(options: Mapping[str, str | list[str] | None], key: str, default: str) -> tuple[str, ...]:
    named = str(options.get(key) or default).split()
    return tuple(_home(name.replace("%d", "~")) for name in named if name.lower() != "none")


def _number(options: Mapping[str, str | list[str] | None], key: str, default: int) -> int:
    try:
        return int(str(options.get(key, default)))
    except ValueError as exc:
        raise _paused(f"{USER_CONFIG}: {key} is no number: {options[key]}", "Correct it") from exc


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:  # a user id without a name, as containers have
        raise _refused("the URL names no user, and the service's own has no name", _FORM) from exc


def _stamps(files: tuple[str, ...]) -> Iterator[tuple[str, int, int, int]]:
    for file in files:
        try:
            st = os.stat(file)
        except OSError:
            continue
        yield file, st.st_ino, st.st_size, st.st_mtime_ns


def _home(path: str) -> str:
    return os.path.expanduser(path)


def _refused(error: str, cure: str) -> DeliveryError:
    return DeliveryError(Failure(Kind.PERMANENT, Scope.RUN, error, cure))


def _paused(error: str, cure: str) -> DeliveryError:
    return DeliveryError(Failure(Kind.PAUSED, Scope.RUN, error, cure))
