"""A systemd of its own: Debian's, booted from a folder in namespaces and control groups of its own, beside the host.

Never over the host's own root: at boot, systemd-tmpfiles empties /tmp. The folder is made once and only read: what a
box writes lies in memory and ends with it. Folders of the host are bound into it where both sides are to see them.

A box may have a root of its own instead, which it keeps what it writes in: for what is installed in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from support import wait_for
from systemd.roots import SOURCES, made_root, packages

_MASKED = (
    "console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "systemd-timesyncd.service", "systemd-resolved.service",
)  # fmt: skip
"""What a machine does beside; it would only slow the boot."""

_UNIFIED = Path("/sys/fs/cgroup/unified")
_NAMED = Path("/sys/fs/cgroup/systemd")
_PROPAGATED, _EXPORTED = Path("/run/systemd/nspawn/propagate"), Path("/run/systemd/nspawn/unix-export")
"""Where nspawn leaves a folder for each box; from 256 on also one with a mount on it."""

_PREFIX = "artifactd-box"


def missing() -> str:
    """Why no box can be booted here, with the cure; "" where one can."""
    if os.geteuid() != 0:
        return "only root can boot a systemd in a root of its own: run it as root"
    programs = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux"}
    lacking = sorted(package for program, package in programs.items() if shutil.which(program) is None)
    if lacking:
        return f"as root: apt-get install {' '.join(lacking)}"
    if not os.access(_cgroups()[0] / "cgroup.procs", os.W_OK):
        return "the control groups of this machine are read-only"
    return ""


def _cgroups() -> list[Path]:
    """Where the host keeps control groups: version 2 first, and systemd's own hierarchy of version 1 beside it."""
    if not _UNIFIED.exists():
        return [_UNIFIED.parent]
    return [_UNIFIED, *([_NAMED] if _NAMED.exists() else [])]


class Box:
    """One booted systemd.

    Args:
        base: A folder of the host's; what both sides see lies below it, and the console's log.
        name: Another one for each box that is up at once.
        root: A root of its own, which is written to, and into which nothing is bound; None: the one that is made once.

    Attributes:
        etc, drop, state, units: /etc/artifactd, /data/drop, /var/lib/artifactd and /etc/systemd/system in the box.
    """

    def __init__(self, base: Path, name: str, root: Path | None = None) -> None:
        self.base = base
        self._root = root
        inside = ("/etc/artifactd", "/data/drop", "/var/lib/artifactd", "/etc/systemd/system")
        if root is None:
            outside = [base / n for n in ("etc", "drop", "state", "units")]
            self._binds = dict(zip(outside, inside, strict=True))
        else:
            outside = [root / path.lstrip("/") for path in inside]
            self._binds = {}
        self.etc, self.drop, self.state, self.units = outside
        for folder in self._binds or (self.drop,):
            folder.mkdir(parents=True, exist_ok=True)
        for unit in _MASKED:
            (self.units / unit).symlink_to("/dev/null")
        self._name = f"{_PREFIX}-{os.getpid()}-{name}"
        self._groups = [group / self._name for group in _cgroups()]
        self._log = base / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Box:
        try:
            self._boot()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _boot(self) -> None:
        _sweep()
        for group in self._groups:
            group.mkdir()
        read_only = {} if self._root is not None else {
            SOURCES / "daemon": "/opt/artifactd/sources", packages(): "/opt/artifactd/packages",
            SOURCES / "systemd": "/opt/artifactd/systemd",  # where a link in the sources leads
        }  # fmt: skip
        command = [
            "systemd-nspawn", "-q", "-D", str(self._root or made_root()),
            *(() if self._root is not None else ("--volatile=overlay",)),
            f"--machine={self._name}", f"--hostname={_PREFIX}", "--register=no", "--keep-unit", "--link-journal=no",
            "--resolv-conf=off", "--timezone=off", "--console=pipe",
            # Without these two, IPAddressDeny= and DevicePolicy= would be nothing in the box.
            "--capability=all", "--system-call-filter=bpf",
            *(f"--bind={here}:{there}" for here, there in self._binds.items()),
            *(f"--bind-ro={here}:{there}" for here, there in read_only.items()),
            "--boot",
        ]  # fmt: skip
        # The box ends also with a pytest that is killed, whose end of this pipe the kernel closes. (A parent's death
        # signal to nspawn is not enough: the systemd inside outlives it.)
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read -r _; echo 1 > {self._groups[0]}/cgroup.kill"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        enter = "".join(f"echo $$ > {group}/cgroup.procs && " for group in self._groups)
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", f'{enter} exec "$@"', "sh", *command],
                env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, f"systemd answers in the box; its console: {self._log}", 60)
        said = self.run("systemctl", "is-system-running", "--wait", check=False).strip()
        # Something of Debian's that this kernel does not let start ("degraded") is no matter of ours.
        assert said in {"running", "degraded"}, said + self.run("systemctl", "list-jobs", check=False)

    def _answers(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise RuntimeError(f"the box ended at once:\n{self._log.read_text(errors='replace')}")
        with contextlib.suppress(OSError, IndexError):
            first = (self._groups[0] / "payload" / "init.scope" / "cgroup.procs").read_text().split()[0]
            self._pid = int(first)
            return Path(f"/proc/{first}/root/run/systemd/private").is_socket()
        return False

    def end(self) -> None:
        """Kill all that is in the box, at once, and remove what it had on the host."""
        if self._guard is not None:
            self._guard.communicate(timeout=30)
        if self._nspawn is not None:
            self._nspawn.kill()
            self._nspawn.wait(30)
        wait_for(lambda: not self._alive(), f"all of {self._name} has ended")
        for group in self._groups:
            _remove_group(group)
        _forget(self._name)

    def _alive(self) -> bool:
        try:
            return "populated 1" in (self._groups[0] / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    # -- what tests do with it --

    def path(self, inside: str) -> Path:
        """A path in the box as the host reaches it. Absolute links in it are those of the host: do not follow any."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def group(self, unit: str) -> Path:
        """The control group of a unit that runs, as the host reaches it, with the host's numbers of processes."""
        return self._groups[0] / "payload" / self.show(unit, "ControlGroup")["ControlGroup"].lstrip("/")

    def run(self, *command: str, check: bool = True, timeout: float = 90, **env: str) -> str:
        """What a command of root's in the box says, on both streams.

        Raises:
            AssertionError: `check`, and it ended with another exit code than 0.
        """
        own = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/artifactd/bin", "HOME": "/root"}
        own |= {"LANG": "C.UTF-8", "TERM": "dumb", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", **env}
        # From a group of the box's: logind (256 and newer) refuses who calls from outside of what it sees.
        inside = ["sh", "-c", f'echo $$ > {self._groups[0]}/payload/init.scope/cgroup.procs && exec "$@"', "sh"]
        done = subprocess.Popen(
            [*inside, "nsenter", "-t", str(self._pid), "-a", "-r", "-w", "--", *command],
            env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said = done.communicate(timeout=timeout)[0].decode(errors="replace")
        except BaseException:
            done.kill()
            raise
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.returncode}\n{said}"
        return said

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        said = self.run("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, *which: str) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first, that journalctl's arguments choose."""
        said = self.run("journalctl", "--output=json", "--no-pager", *which)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def _sweep() -> None:
    """Remove what boxes left whose pytest is gone."""
    for parent in (*_cgroups(), _PROPAGATED, _EXPORTED):
        for folder in parent.glob(f"{_PREFIX}-*"):
            if not Path("/proc", folder.name.split("-")[2]).exists():
                _remove_group(folder)
                _forget(folder.name)


def _forget(name: str) -> None:
    """Remove what a killed nspawn leaves, and would not start another one of that name beside."""
    exported = _EXPORTED / name
    if exported.is_mount():
        subprocess.run(["umount", exported], check=True)
    for folder in (_PROPAGATED / name, exported):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_group(group: Path) -> None:
    for here, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(here)


@contextlib.contextmanager
def box(base: Path, name: str, units: Sequence[str], prepare: Callable[[Box], None] | None = None) -> Iterator[Box]:
    """A box with these of our `units` in it, not enabled; what it shall find at boot may be prepared."""
    made = Box(base, name)
    for unit in units:
        shutil.copy(SOURCES / "systemd" / unit, made.units / unit)
    if prepare is not None:
        prepare(made)
    with made:
        yield made


if __name__ == "__main__":
    if why := missing():
        print(f"No systemd will be booted: {why}", file=sys.stderr)  # noqa: T201 (a command of make's)
    else:
        made_root()
        packages()
