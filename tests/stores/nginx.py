"""nginx of a test: Debian's program with a configuration and a prefix of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stores.running import NotThereError, answers, running
from stores.tls import Certificate
from support import free_port, wait_for

_MAIN = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/html html; }}
    default_type text/plain;
{servers}
}}
"""
_PROXY = """\
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_http_version 1.1;
            proxy_request_buffering off;
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx.

    Attributes:
        port: Of its first server, on 127.0.0.1.
        folder: Its prefix.
    """

    port: int
    folder: Path

    @property
    def uri(self) -> str:
        """Its first server, as one who does not speak TLS to it calls it."""
        return f"http://127.0.0.1:{self.port}"

    def configure(self, *servers: str) -> None:
        """Have it serve these blocks from now on; returns when its old worker takes no more."""
        _write(self.folder, servers)
        self.reload()

    def reload(self) -> None:
        """Have it read its file again."""
        before = wait_for(self._workers, "nginx has a worker")
        os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGHUP)
        wait_for(lambda: not before & self._workers(), "nginx works by its new configuration")

    def requests(self) -> list[str]:
        """Method and path of what it was asked, in order."""
        log = self.folder / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split('"')[1].rpartition(" ")[0] for line in lines]

    def _workers(self) -> set[str]:
        master = (self.folder / "nginx.pid").read_text().strip()
        return set(Path(f"/proc/{master}/task/{master}/children").read_text().split())


def passing(
    port: int,
    upstream: str,
    *,
    prefix: str = "/",
    tls: Certificate | None = None,
    more: str = "",
    location: str = "",
    host: str = "$http_host",
) -> str:
    """A server block that passes what comes below `prefix` to an MLflow server.

    Args:
        port: On 127.0.0.1.
        upstream: URI of the MLflow server.
        prefix: Begins and ends with a slash; is cut off.
        tls: Speak TLS.
        more: Further lines of the server block.
        location: Further lines of the location.
        host: The Host that the server is told.
    """
    secure = "" if tls is None else f"ssl_certificate {tls.chain}; ssl_certificate_key {tls.key};"
    return f"""
    server {{
        listen 127.0.0.1:{port}{" ssl" if tls else ""};
        client_max_body_size 0;
        {secure}
        location {prefix} {{
            proxy_pass http://{urlsplit(upstream).netloc}/;
            proxy_set_header Host {host};
{_PROXY}
            {location}
        }}
        {more}
    }}"""


def answering(port: int, directive: str) -> str:
    """A server block that answers everything by one directive, as ``return 301 https://…$request_uri``."""
    return f"""
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location / {{ {directive}; }}
    }}"""


@contextlib.contextmanager
def nginx(folder: Path, *servers: str, port: int | None = None) -> Iterator[Nginx]:
    """Run it with these server blocks.

    Args:
        folder: Its prefix, made if it is not there.
        servers: Blocks, of ``passing`` or ``answering``.
        port: That the first block listens on.

    Raises:
        NotThereError: It is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise NotThereError("nginx is not installed: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, servers)
    tried = subprocess.run(
        [program, "-t", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    port = port or free_port()
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running(command, folder / "said", lambda: answers(port)):
        yield Nginx(port, folder)


def _write(folder: Path, servers: tuple[str, ...]) -> None:
    # As root it would drop to a user who may not enter pytest's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(user=user, folder=folder, servers="\n".join(servers)))
