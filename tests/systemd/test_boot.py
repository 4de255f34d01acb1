"""The order at boot: the network, mounts that the unit waits for, and those that come when they come."""

from __future__ import annotations

from pathlib import Path

from support import wait_for
from systemd.box import Box, box
from systemd.host import UNIT, Host

# Of a disk also without DefaultDependencies=: it would come after local-fs.target, and the mount comes before that.
SLOW = "[Unit]\nBefore={before}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 1\n"


def mount(where: str, more: str = "") -> str:
    return f"[Unit]\n{more}\n[Mount]\nWhat=/data/drop/{where}\nWhere=/data/{where}\nType=none\nOptions=bind\n"


def prepare(box: Box) -> None:
    """As an administrator leaves a machine: enabled, with mounts and a network that take a while."""
    host = Host(box)
    host.set_up()
    host.configure('[[watch]]\npath = "/data/later"\nsettle = "0.3s"\n', path="/data/late")
    for name in ("late", "later"):
        run = box.drop / name / "e" / "r"
        run.mkdir(parents=True)
        (run / f"{name}.txt").write_text(name)
    (box.units / "slow-disk.service").write_text(
        "[Unit]\nDefaultDependencies=no\n" + SLOW.format(before="data-late.mount")
    )
    (box.units / "slow-network.service").write_text(SLOW.format(before="network-online.target"))
    (box.units / "data-late.mount").write_text(mount("late", "Requires=slow-disk.service\n"))
    (box.units / "data-later.mount").write_text(mount("later"))
    drop_ins = box.units / f"{UNIT}.d"
    drop_ins.mkdir()
    (drop_ins / "order.conf").write_text(
        "[Unit]\nRequiresMountsFor=/data/late\nWants=network-online.target\nAfter=network-online.target\n"
    )
    for target, unit in (("multi-user", UNIT), ("network-online", "slow-network.service")):
        wants = box.units / f"{target}.target.wants"
        wants.mkdir()
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")


def test_it_waits_at_boot_for_what_it_is_told_to_wait_for_and_needs_neither(tmp_path: Path) -> None:
    with box(tmp_path, "boot", [UNIT], prepare) as booted:
        begun = {
            unit: int(booted.show(unit, name)[name])
            for unit, name in (
                ("data-late.mount", "ActiveEnterTimestampMonotonic"),
                ("network-online.target", "ActiveEnterTimestampMonotonic"),
                (UNIT, "ExecMainStartTimestampMonotonic"),
            )
        }
        assert 0 < begun["data-late.mount"] < begun[UNIT]
        assert 0 < begun["network-online.target"] < begun[UNIT]
        host = Host(booted)
        host.wait_stored({"late.txt": b"late"})
        assert host.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
        pid = host.pid
        # One that comes after the service: into its own view of the files, too.
        host.systemctl("start", "data-later.mount")
        host.wait_stored({"late.txt": b"late", "later.txt": b"later"})
        assert host.pid == pid
        # What is required is also required to stay.
        host.systemctl("stop", "data-late.mount")
        wait_for(lambda: host.show("ActiveState")["ActiveState"] == "inactive", "it goes with its mount")
