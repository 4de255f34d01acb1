from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifactd.watching.inside import open_root
from artifactd.watching.mounts import (
    Mount,
    count_folders,
    counting,
    distrust,
    inotify_limit,
    kernel_setting,
    leases_work,
    mount_of,
    watch_limit,
)

MOUNTINFO = rb"""27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /proc rw - proc proc rw
40 27 0:40 / /data rw shared:1 master:2 - nfs4 server:/export/a\040b rw,vers=4.2
41 40 0:41 / /data/fast rw shared:3 - xfs /dev/vdb rw
42 27 0:42 / /with\040space\011and\134more rw - fuse.sshfs me@host:/ rw
43 27 0:43 / /stack rw - ext4 /dev/vdc rw
44 43 0:44 / /stack rw - tmpfs tmpfs rw
50 27 0:50 / /hidden/deep rw - ext4 /dev/vdd rw
51 27 0:51 / /hidden rw - cifs //server/share rw
60 27 0:60 / /caf\303\251 rw - btrfs /dev/vde rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        (b"/home/me", Mount(b"/", "ext4", "/dev/vda")),
        (b"/", Mount(b"/", "ext4", "/dev/vda")),
        (b"/data", Mount(b"/data", "nfs4", "server:/export/a b")),
        (b"/data/fast/run", Mount(b"/data/fast", "xfs", "/dev/vdb")),
        (b"/data/fastest", Mount(b"/data", "nfs4", "server:/export/a b")),
        (b"/database", Mount(b"/", "ext4", "/dev/vda")),
        (b"/with space\tand\\more/x", Mount(b"/with space\tand\\more", "fuse.sshfs", "me@host:/")),
        (b"/stack/x", Mount(b"/stack", "tmpfs", "tmpfs")),
        (b"/hidden/deep/x", Mount(b"/hidden", "cifs", "//server/share")),
        ("/café".encode(), Mount("/café".encode(), "btrfs", "/dev/vde")),
        (b"/data/../stack", Mount(b"/stack", "tmpfs", "tmpfs")),
    ],
)
def test_the_mount_of_a_path_is_found(path: bytes, mount: Mount) -> None:
    assert mount_of(path, MOUNTINFO) == mount


def test_without_mountinfo_nothing_is_claimed() -> None:
    assert mount_of(b"/data", b"") == Mount(b"/", "", "")


def test_the_kernels_own_mountinfo_is_read(tmp_path: Path) -> None:
    assert mount_of(b"/proc/self") == Mount(b"/proc", "proc", "proc")
    (tmp_path / "link").symlink_to("/proc")
    assert mount_of(bytes(tmp_path / "link" / "self")).fstype == "proc"


@pytest.mark.parametrize(
    "fstype",
    ["nfs", "nfs4", "cifs", "smb3", "fuse", "fuse.sshfs", "fuse.s3fs", "9p", "virtiofs", "lustre", "ceph", "gpfs"]
    + ["beegfs", "afs"],
)
def test_events_are_not_trusted_where_others_write_too(fstype: str) -> None:
    reason = distrust(fstype)
    assert reason is not None
    assert reason.startswith(f"{fstype} is ")
    assert not leases_work(fstype)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "zfs", "", "never-heard-of"])
def test_events_are_trusted_elsewhere(fstype: str) -> None:
    assert distrust(fstype) is None


def test_leases_are_asked_for_only_where_they_are_known_to_work() -> None:
    assert all(map(leases_work, ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay"]))
    assert not any(map(leases_work, ["fuseblk", "zfs", "", "never-heard-of"]))


OVERLAY = """
import os, subprocess, sys
from artifactd.watching.inside import held_for_writing
from artifactd.watching.mounts import mount_of
base = sys.argv[1]
run = lambda *command: subprocess.run(command, check=True)
run("mount", "-t", "tmpfs", "none", base)
for name in ("lower", "upper", "work", "merged"): os.mkdir(f"{base}/{name}")
open(f"{base}/lower/f", "w").close()
options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
run("mount", "-t", "overlay", "none", "-o", options, f"{base}/merged")
assert mount_of(os.fsencode(f"{base}/merged/f")).fstype == "overlay"
def held():
    fd = os.open(f"{base}/merged/f", os.O_RDONLY)
    try: return held_for_writing(fd)
    finally: os.close(fd)
assert held() is False
with open(f"{base}/merged/f", "a"): assert held() is True  # copied up by this open
assert held() is False
with open(f"{base}/merged/f", "a"): assert held() is True
"""


@pytest.mark.root
def test_on_overlay_leases_see_an_open_writer(tmp_path: Path) -> None:
    subprocess.run(["unshare", "--mount", sys.executable, "-c", OVERLAY, str(tmp_path)], check=True)


def test_the_watch_limit_is_the_kernels() -> None:
    with open("/proc/sys/fs/inotify/max_user_watches") as stream:
        assert 0 < (watch_limit() or 0) <= int(stream.read())


def test_the_smaller_limit_holds_and_is_named(tmp_path: Path) -> None:
    assert inotify_limit("watches", str(tmp_path)) is None
    for name, number in (("fs/inotify/max_user_watches", 8192), ("user/max_inotify_watches", 100)):
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n")
    assert inotify_limit("watches", str(tmp_path)) == (100, "user.max_inotify_watches")
    assert inotify_limit("instances", str(tmp_path)) is None
    assert kernel_setting("fs.inotify.max_user_watches", str(tmp_path)) == 8192
    (tmp_path / "sys/user/max_inotify_watches").write_text("many\n")
    assert inotify_limit("watches", str(tmp_path)) == (8192, "fs.inotify.max_user_watches")


def test_folders_are_counted_as_far_as_asked(tmp_path: Path) -> None:
    for rel in ("a/b/c", "d", "e"):
        (tmp_path / rel).mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    root = open_root(bytes(tmp_path))
    assert count_folders(root, 100) == 6
    assert count_folders(root, 3) == 3
    os.close(root)


def test_links_count_folders_only_where_that_is_known(tmp_path: Path) -> None:
    fd = open_root(bytes(tmp_path))
    known = mount_of(bytes(tmp_path)).fstype in {"ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"}
    assert counting(fd) == (tmp_path.stat().st_dev if known else None)
    os.close(fd)
    fd = open_root(b"/proc/self")
    assert counting(fd) is None
    os.close(fd)
