"""``artifactd install-unit`` in a real systemd: the lines that it prints are followed, and the service does its job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from made_store import copy_store
from support import wait_for
from systemd.box import Box, box
from systemd.host import Host, embed

_CONFIGURE = re.compile(r"put the configuration into (\S+): a \[\[watch\]\] with a path")
_TRAINER = "trainer"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Box]:
    """A systemd that has never heard of artifactd: no unit, and no user for it."""
    with box(tmp_path, "bare", []) as made:
        made.run("userdel", "artifactd")
        yield made


def as_root(box: Box, line: str) -> str:
    return box.run("sh", "-c", line)


def as_trainer(box: Box, line: str) -> str:
    """In a session of a login: with it comes the user's own systemd."""
    login = ("systemd-run", "--quiet", "--pipe", "--wait", "-p", "PAMName=login", "-p", f"User={_TRAINER}")
    return box.run(*login, "-p", "WorkingDirectory=~", "bash", "-l", "-c", line)


def follow(box: Box, said: str, type_: Callable[[Box, str], str], config: str) -> list[str]:
    """Do what the command says, as whoever called it, for the instance 'a'. Returns the lines, as they stand."""
    _, _, steps = said.partition("Next:\n")
    lines = [line.removeprefix("  ") for line in steps.splitlines()]
    for line in lines:
        if place := _CONFIGURE.fullmatch(line):
            folder, _, name = place[1].replace("NAME", "a").rpartition("/")
            type_(box, f"mkdir -p {folder} && printf '%s' '{config}' > {folder}/{name}")
        elif "# as root, where you are denied that" in line:
            as_root(box, line)
        elif line.startswith("loginctl "):
            assert "Access denied" in type_(box, f"{line}\ntrue"), "there is no polkit, as on a plain Debian"
        else:
            type_(box, line.replace("NAME", "a"))
    return lines


@pytest.mark.parametrize("instance", ["", "a"])
def test_root_follows_its_lines(bare: Box, instance: str) -> None:
    host = Host(bare)
    if instance:
        embed(bare, "/var/lib/artifactd-a")
    else:
        copy_store(bare.state / "mlflow.db", "file:///var/lib/artifactd/artifacts")
    host.write("e/r/a.txt", b"a")
    said = as_root(bare, f"artifactd install-unit{' --template' * bool(instance)}")
    name = "artifactd@" if instance else "artifactd"
    assert said.startswith(f"Written: /etc/systemd/system/{name}.service\n")
    lines = follow(bare, said, as_root, '[[watch]]\npath = "/data/drop"\nsettle = "0.3s"\n')
    assert [line.split()[0] for line in lines] == ["useradd", "put", "systemctl", "artifactd", "systemctl"]
    unit = f"{name}{instance}"
    host.wait_stored({"a.txt": b"a"}, state=f"/var/lib/artifactd{'-a' * bool(instance)}")
    assert host.systemctl("is-enabled", unit).strip() == "enabled"
    assert host.show("ActiveState", "NRestarts", unit=unit) == {"ActiveState": "active", "NRestarts": "0"}
    started = host.show("ExecStart", unit=unit)["ExecStart"]
    assert "path=/opt/artifactd/bin/artifactd " in started, "the command that wrote it, by the name it was called by"


def logins(box: Box) -> list[str]:
    """The classes of the sessions that are no user's manager, which is shown as a session, too, by 256 and newer."""
    said = box.run("loginctl", "--no-legend").splitlines()
    sessions = [line.split()[0] for line in said if not line.startswith("No sessions")]
    classes = [box.run("loginctl", "show-session", one, "--property=Class", check=False) for one in sessions]
    return [found for found in classes if "Class=" in found and "Class=manager" not in found]


@pytest.mark.parametrize("instance", ["", "a"])
def test_a_user_follows_its_lines(bare: Box, instance: str) -> None:
    bare.run("useradd", "--create-home", "--shell", "/bin/bash", _TRAINER)
    home = bare.path(f"/home/{_TRAINER}")
    for folder in (".local/bin", "drop/e/r"):
        (home / folder).mkdir(parents=True)
    (home / ".local/bin/artifactd").symlink_to("/opt/artifactd/bin/artifactd")  # as pipx and uv do
    (home / "drop/e/r/a.txt").write_bytes(b"a")
    state = f"/home/{_TRAINER}/.local/state/artifactd{'-a' * bool(instance)}"
    embed(bare, state)
    bare.run("chown", "-R", f"{_TRAINER}:", f"/home/{_TRAINER}")
    said = as_trainer(bare, f"artifactd install-unit --user{' --template' * bool(instance)}")
    name = "artifactd@" if instance else "artifactd"
    assert said.startswith(f"Written: /home/{_TRAINER}/.config/systemd/user/{name}.service\n")
    lines = follow(bare, said, as_trainer, f'[[watch]]\npath = "/home/{_TRAINER}/drop"\nsettle = "0.3s"\n')
    assert [line.split()[0] for line in lines] == ["put", "systemctl", "artifactd", "systemctl", "loginctl", "loginctl"]
    Host(bare).wait_stored({"a.txt": b"a"}, state=state)
    # Nobody is logged in any more.
    wait_for(lambda: not logins(bare), "the last session has ended")
    assert bare.run("loginctl", "show-user", _TRAINER, "--property=Linger").strip() == "Linger=yes"
    (pid,) = bare.run("pgrep", "-u", _TRAINER, "-o", "artifactd").split()
    assert f"/home/{_TRAINER}/.local/bin/artifactd" in bare.run("ps", "-o", "args=", "-p", pid)
    assert as_trainer(bare, f"systemctl --user is-enabled {name}{instance}").strip() == "enabled"
