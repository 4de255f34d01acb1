"""An sshd of one's own: own port, host key, users' keys and log in a temporary folder; ended with its sessions."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from stores.running import NotThereError, answers, running
from support import free_port

_PROGRAM = "/usr/sbin/sshd"
_CONFIG = """\
{first}
ListenAddress 127.0.0.1
Port {port}
HostKey {host_key}
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
LogLevel VERBOSE
Subsystem sftp internal-sftp {sftp}
{more}
"""


@dataclass(slots=True)
class Sshd:
    """A running server, and a home folder whose user may use it.

    Attributes:
        home: HOME for whoever shall get in: keys, known hosts, configuration.
        folder: The server's own files.
        data: An empty folder for artifacts.
        process: The listener; its sessions are its children.
    """

    home: Path
    folder: Path
    data: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        """URL of the empty folder."""
        return f"sftp://127.0.0.1:{self.port}{self.data}"

    @property
    def log(self) -> str:
        """What the server said."""
        return (self.folder / "log").read_text(errors="replace")

    def sessions(self) -> list[psutil.Process]:
        """The processes of the connections that it serves."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int, *, listener: bool = False) -> None:
        """Send a signal to all sessions, and to the listener too if wanted."""
        for process in [*self.sessions(), *([psutil.Process(self.process.pid)] if listener else [])]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextlib.contextmanager
def sshd(
    base: Path, *, sftp: str = "", first: str = "", more: str = "", shadow: Path | None = None, port: int = 0
) -> Iterator[Sshd]:
    """Run a server while the block lasts.

    Args:
        base: A folder for all of it, made if need be.
        sftp: Options of its internal-sftp: ``-R`` is read-only, ``-P posix-rename`` leaves that out.
        first: Lines that go before its configuration: of two, sshd takes the first.
        more: Lines that go after it.
        shadow: Stands in for /etc/shadow while this server runs, and for it alone. Only root can do that.
        port: To listen on; 0 for a free one.

    Raises:
        NotThereError: There is no sshd.
    """
    if not os.path.exists(_PROGRAM):
        raise NotThereError("no sshd: apt-get install -y --no-install-recommends openssh-server")
    folder, data = base / "sshd", base / "data"
    for each in (folder, data):
        each.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    host_key = folder / "host_key"
    if not host_key.exists():
        key(host_key)
    port = port or free_port()
    home = base / "home"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    if not (home / ".ssh/id_ed25519").exists():
        key(home / ".ssh/id_ed25519")
    shutil.copy(home / ".ssh/id_ed25519.pub", folder / "authorized_keys")
    know(home, port, host_key)
    config = folder / "config"
    config.write_text(_CONFIG.format(port=port, host_key=host_key, folder=folder, sftp=sftp, first=first, more=more))
    command = [_PROGRAM, "-D", "-f", str(config), "-E", str(folder / "log")]
    if shadow is not None:
        bound = f"mount --bind {shlex.quote(str(shadow))} /etc/shadow && exec {shlex.join(command)}"
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", bound]
    with running(command, folder / "output", lambda: answers(port)) as process:
        server = Sshd(home, folder, data, port, process)
        try:
            yield server
        finally:
            sessions = server.sessions() if process.poll() is None else []
            for number in (signal.SIGCONT, signal.SIGKILL):
                for session in sessions:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        session.send_signal(number)


def key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair: `path` and ``path.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


def know(home: Path, port: int, host_key: Path) -> None:
    """Have a home know a server's key, and nothing else."""
    public = host_key.with_name(host_key.name + ".pub").read_text()
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {public}")


def user() -> str:
    """Who we are, and log in as."""
    return getpass.getuser()
