"""The Debian package under a running systemd, in a clean Debian: install, enable, upgrade, remove, purge.

For the packages in dist/, which `make deb` builds. What needs no systemd is tried by packaging/debian/test.sh.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from conftest import MlflowServer
from support import Oracle, wait_for
from systemd.box import Box, missing
from systemd.host import Host
from systemd.roots import SOURCES, clean_root

pytestmark = [pytest.mark.deb, pytest.mark.timeout(900)]

UNITS = ("artifactd.service", "artifactd@a.service", "artifactd@b.service")
MIB = 1 << 20


@pytest.fixture(scope="session")
def package() -> Path:
    found = sorted((SOURCES / "dist").glob("artifactd_*.deb"))
    assert len(found) == 1, f"dist/ has {len(found)} packages of artifactd: make deb"
    return found[0]


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a higher version."""
    base = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "-R", package, base / "tree"], check=True)
    control = base / "tree" / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    control.write_text("".join(f"{line}{'+upgrade' * line.startswith('Version: ')}\n" for line in lines))
    pack = ("dpkg-deb", "--root-owner-group", "--build", "-Zgzip", "-z1", base / "tree", base / "artifactd_newer.deb")
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(base / "tree")
    return base / "artifactd_newer.deb"


class Debian:
    """A clean Debian that runs from the folder `root`, and somebody who administers it."""

    def __init__(self, box: Box, root: Path, tracking_uri: str) -> None:
        self.box = box
        self._root = root
        self.host = Host(box)
        self._target = f'tracking_uri = "{tracking_uri}"\n'

    def apt(self, verb: str, what: Path | str) -> str:
        """`what` is a package by name, or a file of the host's."""
        name = str(what)
        if isinstance(what, Path):
            name = f"/srv/{what.name}"
            shutil.copy(what, self._root / "srv")
        return self.box.run("apt-get", verb, "-y", "-q", name, timeout=300, DEBIAN_FRONTEND="noninteractive")

    def configure(self) -> None:
        """The service, and the instances a and b, each with a folder of its own; the first one slowly."""
        with (self.box.etc / "config.toml").open("a") as config:
            config.write(f'[mlflow]\n{self._target}[upload]\nbandwidth_limit = "1MiB"\n{self._watch("one")}')
        for name in ("a", "b"):
            (self.box.etc / f"{name}.toml").write_text(f"[mlflow]\n{self._target}{self._watch(name)}")

    def _watch(self, name: str) -> str:
        (self.box.drop / name).mkdir()
        return f'[[watch]]\npath = "/data/drop/{name}"\nsettle = "0.3s"\n'

    def states(self) -> dict[str, str]:
        """Active or not, by unit; what has failed says that."""
        return {unit: self.host.show("ActiveState", unit=unit)["ActiveState"] for unit in UNITS}

    def pids(self) -> list[str]:
        return [self.host.show("MainPID", unit=unit)["MainPID"] for unit in UNITS]

    def is_enabled(self, unit: str) -> bool:
        return self.host.systemctl("is-enabled", unit, check=False).strip() == "enabled"

    def said(self, unit: str, event: str) -> int:
        return len(self.box.journal("-u", unit, f"ARTIFACTD_EVENT={event}"))


@pytest.fixture
def debian(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Debian]:
    if why := missing():
        pytest.fail(f"no systemd can be booted: {why}")
    root = tmp_path / "root"
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    subprocess.run(["cp", "-a", "--reflink=auto", clean_root(codename), root], check=True)
    with Box(tmp_path, "deb", root) as box:
        yield Debian(box, root, mlflow_server.uri)
    shutil.rmtree(root)


def stored(server: MlflowServer, experiment: str, to: Path) -> dict[str, bytes]:
    """What the server has in the experiment's only run, by MLflow's own client."""
    oracle = Oracle(server.uri)
    files = oracle.files(oracle.run(experiment, "r").info.run_id, to)
    return {os.fsdecode(name): content for name, content in files.items()}


def test_it_starts_nothing_and_delivers_once_it_is_enabled(
    debian: Debian, package: Path, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    debian.apt("install", package)
    assert set(debian.states().values()) == {"inactive"}
    assert not debian.is_enabled("artifactd")
    # Nothing is watched yet.
    assert "failed" in debian.host.systemctl("start", "artifactd", check=False)
    seen = debian.host.systemctl("status", "--no-pager", "artifactd", check=False)
    assert "status=2/INVALIDARGUMENT" in seen
    assert "no folder is watched" in seen
    debian.configure()
    debian.host.write("one/first/r/before.txt", b"before")
    debian.box.run("artifactd", "check", "--as", "artifactd")
    debian.host.systemctl("enable", "--now", "artifactd")
    debian.host.wait_idle()
    debian.host.write("one/first/r/after.txt", b"after")
    wait_for(lambda: debian.host.status()["stored"] == 2, debian.host.last_words())
    assert stored(mlflow_server, "first", tmp_path / "back") == {"before.txt": b"before", "after.txt": b"after"}
    assert debian.is_enabled("artifactd")
    assert "2 stored" in debian.box.run("artifactd", "status"), "root's commands find the state by the configuration"


def test_an_upgrade_restarts_what_runs_without_loss_and_sends_nothing_again(
    debian: Debian, package: Path, newer: Path, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    debian.apt("install", package)
    debian.configure()
    debian.host.systemctl("enable", "--now", "artifactd", "artifactd@a")
    debian.host.systemctl("enable", "artifactd@b")
    files = {f"{n}.txt": b"%d" % n for n in range(5)}
    for name, content in files.items():
        debian.host.write(f"one/upgrade/r/{name}", content)
        debian.host.write(f"a/upgrade-a/r/{name}", content)
    debian.host.wait_idle()
    before = debian.pids()
    # Slow enough that something is in hand whenever the restart comes; what is in hand is finished first.
    files["big.bin"] = b"b" * (10 * MIB)
    debian.host.write("one/upgrade/r/big.bin", files["big.bin"])
    wait_for(lambda: debian.host.status()["uploading"] == 1, "the upload has begun")
    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(debian.apt, "install", newer)
        while wait([upgrade], timeout=0.5).not_done:
            name = f"meanwhile-{len(files)}.txt"
            files[name] = name.encode() * 10_000
            debian.host.write(f"one/upgrade/r/{name}", files[name])
        upgrade.result()
    assert "+upgrade" in debian.box.run("dpkg-query", "-W", "artifactd")
    assert debian.states() == dict(zip(UNITS, ("active", "active", "inactive"), strict=True))
    after = debian.pids()
    assert "0" not in after[:2]
    assert not set(before[:2]) & set(after), "both are new"
    wait_for(lambda: debian.host.status().get("stored") == len(files), "all are stored", 120)
    status = debian.host.wait_idle()
    assert status["bytes_sent"] == status["bytes_unique"] == sum(map(len, files.values()))
    assert stored(mlflow_server, "upgrade", tmp_path / "back") == files
    assert debian.said("artifactd.service", "stored") == len(files)
    assert debian.said("artifactd.service", "ready") == debian.said("artifactd@a.service", "ready") == 2
    assert debian.said("artifactd@a.service", "stored") == 5
    assert debian.host.show("NRestarts", "Result") == {"NRestarts": "0", "Result": "success"}
    assert all(debian.is_enabled(unit) for unit in UNITS)


def test_what_does_not_run_is_left_alone_and_a_removal_stops_what_does(
    debian: Debian, package: Path, newer: Path, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    debian.apt("install", package)
    debian.apt("install", newer)
    assert set(debian.states().values()) == {"inactive"}
    debian.configure()
    debian.host.systemctl("enable", "--now", "artifactd", "artifactd@a")
    debian.host.write("one/removal/r/a.txt", b"a")
    debian.host.wait_idle()
    debian.apt("remove", "artifactd")
    assert set(debian.states().values()) == {"inactive"}
    assert debian.box.run("pgrep", "-u", "artifactd", check=False) == ""
    assert debian.said("artifactd.service", "stopped") == debian.said("artifactd@a.service", "stopped") == 1
    assert debian.box.run("systemctl", "list-units", "--failed", "--quiet", "artifactd*") == ""
    assert (debian.box.etc / "config.toml").exists()
    assert (debian.box.state / "ledger.db").exists()
    # It comes back as it was left, and is started by nobody but its administrator.
    debian.apt("install", newer)
    assert set(debian.states().values()) == {"inactive"}
    assert debian.is_enabled("artifactd")
    debian.host.write("one/removal/r/b.txt", b"b")
    debian.host.systemctl("start", "artifactd")
    wait_for(lambda: debian.host.status()["stored"] == 2, debian.host.last_words())
    assert debian.host.status()["bytes_sent"] == 2, "the first one is not sent again"
    assert stored(mlflow_server, "removal", tmp_path / "back") == {"a.txt": b"a", "b.txt": b"b"}
    # Purged while it runs.
    assert "Kept: /var/lib/artifactd." in debian.apt("purge", "artifactd")
    assert set(debian.states().values()) == {"inactive"}
    assert debian.host.systemctl("list-unit-files", "--quiet", "artifactd*", check=False) == ""
    assert not debian.box.etc.exists()
    assert list(debian.box.units.glob("**/artifactd*")) == []
    assert (debian.box.state / "ledger.db").exists()
    assert (debian.box.drop / "one/removal/r/a.txt").exists()
