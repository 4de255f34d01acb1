"""The service and inotify's limits, over a /proc of the test's own where the kernel's cannot be varied."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.doctor import host
from artifactd.doctor.disk import Tree
from artifactd.doctor.finding import Level
from artifactd.doctor.surroundings import Surroundings, user
from artifactd.ledger import StateLock
from cures import mends
from support import environment

UID = os.getuid()
OTHERS = "and {} of other programs of this user"


class Proc:
    """A procfs with some limits and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limit("fs.inotify.max_user_watches", 100)
        self.limit("fs.inotify.max_user_instances", 10)
        self.limit("fs.inotify.max_queued_events", 16384)

    def limit(self, name: str, number: int) -> None:
        file = self.folder / "sys" / name.replace(".", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n")

    def process(self, pid: int, *instances: int) -> Path:
        """A process with so many watches in each of its instances, and a file that is open besides."""
        folder = self.folder / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "fd/0").symlink_to("/dev/null")
        for fd, watches in enumerate(instances, start=5):
            (folder / f"fd/{fd}").symlink_to("anon_inode:inotify")
            lines = "".join(f"inotify wd:{n} ino:1 sdev:2 mask:3 ignored_mask:0\n" for n in range(watches))
            (folder / f"fdinfo/{fd}").write_text(f"pos:\t0\nflags:\t02004000\nmnt_id:\t15\n{lines}")
        return folder

    @property
    def around(self) -> Surroundings:
        return Surroundings(environ={}, proc=str(self.folder))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


def inotify(proc: Proc, *trees: Tree, but: int | None = None) -> dict[str, tuple[Level, str, str]]:
    found = host.inotify(trees, proc.around, uid=UID, but=but)
    return {finding.what: (finding.level, finding.detail, finding.cure) for finding in found}


def tree(folders: int, *, whole: bool = True, by_events: bool = True) -> Tree:
    return Tree(b"/data", by_events, folders, whole)


class TestInotify:
    def test_enough_is_told_with_the_numbers(self, proc: Proc) -> None:
        proc.process(11, 5, 3)
        found = inotify(proc, tree(20), tree(30))
        assert found["inotify watches"] == (
            Level.OK,
            f"50 for the watched folders {OTHERS.format(8)}, of 100 (fs.inotify.max_user_watches)",
            "",
        )
        assert found["inotify instances"][:2] == (
            Level.OK,
            f"2 for the watched folders {OTHERS.format(2)}, of 10 (fs.inotify.max_user_instances)",
        )

    def test_too_few_are_told_with_the_command_that_raises_what_holds(self, proc: Proc) -> None:
        proc.limit("user.max_inotify_watches", 40)
        level, detail, cure = inotify(proc, tree(41))["inotify watches"]
        assert level is Level.WRONG
        assert "of 40 (user.max_inotify_watches)" in detail
        assert cure == (
            "sysctl -w user.max_inotify_watches=524288 && "
            "echo 'user.max_inotify_watches = 524288' >> /etc/sysctl.d/60-artifactd.conf"
        )

    def test_what_others_use_counts(self, proc: Proc) -> None:
        proc.process(11, 60)
        assert inotify(proc, tree(41))["inotify watches"][0] is Level.WRONG
        assert inotify(proc, tree(30))["inotify watches"][0] is Level.NOTICE, "nearly all"

    def test_the_running_service_is_not_counted_twice(self, proc: Proc) -> None:
        proc.process(11, 60)
        assert inotify(proc, tree(60), but=11)["inotify watches"][0] is Level.OK

    def test_a_tree_that_was_not_counted_to_its_end(self, proc: Proc) -> None:
        level, detail, cure = inotify(proc, tree(50, whole=False), tree(1))["inotify watches"]
        assert level is Level.NOTICE
        mends(cure)
        assert cure.startswith("find /data -type d | wc -l; sysctl fs.inotify.max_user_watches  # ")
        assert detail.startswith("more than 51 for the watched folders")
        assert inotify(proc, tree(101, whole=False))["inotify watches"][0] is Level.WRONG

    def test_the_raised_limit_is_enough(self, proc: Proc) -> None:
        cure = inotify(proc, tree(3_000_000))["inotify watches"][2]
        assert int(cure.partition("=")[2].partition(" ")[0]) > 4_000_000

    def test_instances_run_out_too(self, proc: Proc) -> None:
        proc.process(11, *[0] * 10)
        level, _, cure = inotify(proc, tree(1))["inotify instances"]
        assert level is Level.WRONG
        assert "fs.inotify.max_user_instances=1024" in cure

    def test_a_short_queue_is_a_notice(self, proc: Proc) -> None:
        assert "inotify queue" not in inotify(proc, tree(1))
        proc.limit("fs.inotify.max_queued_events", 1000)
        level, detail, cure = inotify(proc, tree(1))["inotify queue"]
        assert (level, "1,000 events" in detail) == (Level.NOTICE, True)
        assert "fs.inotify.max_queued_events=16384" in cure

    def test_what_is_scanned_needs_none(self, proc: Proc) -> None:
        assert list(inotify(proc, tree(10**9, by_events=False))) == ["inotify"]
        assert list(inotify(proc)) == ["inotify"]

    def test_a_kernel_that_does_not_say(self, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        found = list(host.inotify([tree(1)], Surroundings(environ={}, proc=str(tmp_path / "none")), uid=UID, but=None))
        assert [finding.level for finding in found] == [Level.NOTICE, Level.NOTICE]


def test_watches_in_use_are_those_of_the_user_alone(proc: Proc) -> None:
    proc.process(11, 5)
    proc.process(12, 7)
    (proc.folder / "self").symlink_to("11")
    assert host.in_use(str(proc.folder), UID) == (12, 2)
    assert host.in_use(str(proc.folder), UID, but=12) == (5, 1)
    assert host.in_use(str(proc.folder), UID + 1) == (0, 0)


_WATCH = """
import sys
from artifactd.watching.events import EventWatch
from artifactd.watching.hints import Hints
watch = EventWatch(sys.argv[1], Hints(lambda: None))
watch.start()
print(1, flush=True)
input()
watch.stop()
"""


def test_the_kernel_s_own_account_is_understood(tmp_path: Path) -> None:
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
    watching = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert watching.stdout is not None
    assert watching.stdout.readline() == b"1\n"
    watches, instances = host.in_use("/proc", UID)
    less, fewer = host.in_use("/proc", UID, but=watching.pid)
    watching.communicate(b"\n")
    assert watches - less >= 4
    assert instances - fewer >= 1


class TestService:
    @pytest.fixture
    def held(self, tmp_path: Path) -> Iterator[Path]:
        lock = StateLock(tmp_path)
        lock.acquire("artifactd run")
        yield tmp_path
        lock.release()

    def test_none(self, tmp_path: Path, proc: Proc) -> None:
        (found,) = host.service(tmp_path, proc.around)
        assert found.level is Level.OK
        assert found.detail.startswith("none works with this state folder now; rights are looked at as ")

    def test_one_of_this_user_with_this_environment(self, held: Path, proc: Proc) -> None:
        (proc.process(os.getpid()) / "environ").write_bytes(b"HOME=/root\0MLFLOW_DISABLE_TELEMETRY=true\0")
        (found,) = host.service(held, proc.around)
        assert (found.level, found.detail) == (Level.OK, f"artifactd run (pid {os.getpid()}) works")

    def test_one_of_another_user_is_another_matter(self, held: Path, proc: Proc) -> None:
        proc.process(os.getpid())
        around = Surroundings(environ={}, proc=str(proc.folder), uid=UID + 54_321)
        found = next(iter(host.service(held, around, "/etc/my own.toml")))
        assert found.level is Level.NOTICE
        assert f"as {UID + 54_321}" in found.detail
        name = user(UID)
        options = f"--config '/etc/my own.toml' --state-dir {held}"
        assert found.cure == f"runuser -u {name} -- artifactd doctor {options}  # as root"

    @pytest.mark.parametrize(
        ("cgroup", "asker", "cure"),
        [
            ("0::/artifactd.service", 0, "artifactd doctor --as artifactd"),
            ("0::/system.slice/artifactd@a.service", 54_321, "artifactd doctor --as artifactd@a  # as root"),
            ("12:cpu:/\n1:name=systemd:/artifactd.service", 0, "artifactd doctor --as artifactd"),
            ("0::/user.slice/user-7.slice/user@7.service/app.slice/artifactd.service", 54_321, "runuser -u "),
            ("0::/system.slice/slurmd.service", 54_321, "runuser -u "),
        ],
    )
    def test_one_of_systemds_is_asked_as_by_its_unit(
        self, held: Path, proc: Proc, cgroup: str, asker: int, cure: str
    ) -> None:
        folder = proc.process(os.getpid())
        (folder / "cgroup").write_text(f"{cgroup}\n")
        os.chown(folder, UID or 1_234, -1)
        around = Surroundings(environ={}, proc=str(proc.folder), uid=asker)
        found = next(iter(host.service(held, around)))
        assert found.level is Level.NOTICE
        assert found.cure.startswith(cure)

    def test_a_service_of_ones_own_with_other_variables_is_asked_as_by_its_unit(self, held: Path, proc: Proc) -> None:
        folder = proc.process(os.getpid())
        (folder / "environ").write_bytes(b"AWS_PROFILE=a\0")
        (folder / "cgroup").write_text("0::/user.slice/user-7.slice/user@7.service/app.slice/artifactd.service\n")
        _, found = host.service(held, proc.around)
        assert found.cure == "artifactd doctor --as artifactd"

    def test_credentials_that_systemd_copied_for_each_are_the_same(self, held: Path, proc: Proc) -> None:
        folder = proc.process(os.getpid())
        name = b"AWS_SHARED_CREDENTIALS_FILE="
        (folder / "environ").write_bytes(
            name + b"/run/credentials/artifactd.service/aws\0CREDENTIALS_DIRECTORY=/run/credentials/artifactd.service\0"
        )
        here = "/run/credentials/artifactd-doctor-7.service"
        environ = {"AWS_SHARED_CREDENTIALS_FILE": f"{here}/aws", "CREDENTIALS_DIRECTORY": here}
        (found,) = host.service(held, Surroundings(environ=environ, proc=str(proc.folder)))
        assert found.level is Level.OK

    def test_variables_that_differ_are_named_and_not_shown(self, held: Path, proc: Proc) -> None:
        variables = b"MLFLOW_TRACKING_TOKEN=hunter22\0AWS_PROFILE=a\0PATH=/bin\0AWS_REGION=x\0"
        (proc.process(os.getpid()) / "environ").write_bytes(variables)
        around = Surroundings(
            environ={"AWS_PROFILE": "b", "GOOGLE_X": "hunter23", "AWS_REGION": "x"}, proc=str(proc.folder)
        )
        _, found = host.service(held, around)
        assert found.level is Level.NOTICE
        assert "other values of AWS_PROFILE, GOOGLE_X, MLFLOW_TRACKING_TOKEN:" in found.detail
        assert "hunter" not in f"{found}"
