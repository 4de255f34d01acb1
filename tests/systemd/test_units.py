"""The other units: instances, a user's own service; and what systemd itself says of all three."""

from __future__ import annotations

import re

from artifactd.unit import unit_text
from support import wait_for
from systemd.box import SOURCES, Box
from systemd.host import Host, embed, install_template

TEMPLATE = "artifactd@.service"


def test_systemd_finds_nothing_wrong(booted: Box) -> None:
    install_template(booted)
    for unit in ("artifactd.service", TEMPLATE):
        path = f"/etc/systemd/system/{unit}"
        # An unknown value is only told on stderr, and the exit code is 0.
        assert booted.run("systemd-analyze", "verify", "--man=no", path) == ""
        booted.run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", path)


def test_the_check_of_the_page_asks_as_the_service_will(host: Host) -> None:
    page = (SOURCES / "docs" / "install.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"(?m)^systemd-run .* artifactd check$", page)
    host.box.run("ln", "-s", "/opt/artifactd/bin/artifactd", "/usr/local/bin/artifactd")
    with (host.box.etc / "environment").open("a") as environment:
        environment.write("MLFLOW_TRACKING_URI=http://127.0.0.1:9\n")
    said = host.box.run(*command.split(), check=False)
    assert re.search(r"FAILED +tracking server +http://127\.0\.0\.1:9", said), said
    assert re.search(r"ok +watched folder +/data/drop", said), said


def test_two_instances_at_once(booted: Box) -> None:
    install_template(booted)
    host = Host(booted)
    names = ("a", "b")
    booted.run(
        "useradd", "--system", "--home-dir", "/var/lib/artifactd-b", "--shell", "/usr/sbin/nologin", "artifactd-b"
    )
    host.drop_in("[Service]\nUser=artifactd-b\n", unit="artifactd@b.service")
    for name in names:
        (booted.etc / f"{name}.toml").write_text(f'[[watch]]\npath = "/data/drop/{name}"\nsettle = "0.3s"\n')
        (booted.etc / f"{name}.environment").write_text("MLFLOW_DISABLE_TELEMETRY=true\n")
        embed(booted, f"/var/lib/artifactd-{name}")
        host.write(f"{name}/e/r/{name}.txt", name.encode())
    host.systemctl("start", *(f"artifactd@{name}" for name in names))
    for name in names:
        host.wait_stored({f"{name}.txt": name.encode()}, state=f"/var/lib/artifactd-{name}")
    first, second = (host.show("MainPID", "ActiveState", unit=f"artifactd@{name}") for name in names)
    assert first["ActiveState"] == second["ActiveState"] == "active"
    assert first["MainPID"] != second["MainPID"]
    view = ("nsenter", "-t", first["MainPID"], "-m", "--")
    assert "Read-only" in booted.run(*view, "touch", "/var/lib/artifactd-b/new", check=False), "the other one's state"
    as_second = ("setpriv", "--reuid", "artifactd-b", "--clear-groups", "--")
    assert "Permission denied" in booted.run(*as_second, "ls", "/var/lib/artifactd-a", check=False)
    host.systemctl("stop", "artifactd@a")
    host.write("b/e/r/more.txt", b"more")
    host.wait_stored({"b.txt": b"b", "more.txt": b"more"}, state="/var/lib/artifactd-b")
    assert booted.journal("-u", "artifactd@b.service", "ARTIFACTD_EVENT=stored")


def test_a_service_of_a_user(booted: Box) -> None:
    booted.run("useradd", "--create-home", "trainer")
    number = booted.run("id", "-u", "trainer").strip()
    home = booted.path("/home/trainer")
    for folder in (".local/bin", ".config/artifactd", ".config/systemd/user", "drop/e/r"):
        (home / folder).mkdir(parents=True)
    (home / ".local/bin/artifactd").symlink_to("/opt/artifactd/bin/artifactd")
    (home / ".config/artifactd/config.toml").write_text('[[watch]]\npath = "/home/trainer/drop"\nsettle = "0.3s"\n')
    (home / ".config/artifactd/environment").write_text("MLFLOW_DISABLE_TELEMETRY=true\n")
    text = unit_text(user=True, program="/home/trainer/.local/bin/artifactd")
    (home / ".config/systemd/user/artifactd.service").write_text(text)
    (home / "drop/e/r/a.txt").write_bytes(b"a")
    (home / "drop/e/r/a.txt").chmod(0o600)
    embed(booted, "/home/trainer/.local/state/artifactd")
    booted.run("chown", "-R", "trainer:", "/home/trainer")

    def as_trainer(*command: str, check: bool = True) -> str:
        run = ("setpriv", "--reuid", number, "--regid", number, "--init-groups", "--")
        runtime = f"/run/user/{number}"
        return booted.run(*run, *command, check=check, HOME="/home/trainer", XDG_RUNTIME_DIR=runtime)

    booted.run("loginctl", "enable-linger", "trainer")
    wait_for(lambda: booted.path(f"/run/user/{number}/systemd/private").is_socket(), "the user's own systemd")
    unit = "/home/trainer/.config/systemd/user/artifactd.service"
    assert as_trainer("systemd-analyze", "--user", "verify", "--man=no", unit) == ""
    as_trainer("systemctl", "--user", "daemon-reload")
    as_trainer("systemctl", "--user", "enable", "--now", "artifactd")
    Host(booted).wait_stored({"a.txt": b"a"}, state="/home/trainer/.local/state/artifactd")
    wait_for(lambda: "all stored" in as_trainer("systemctl", "--user", "status", "artifactd"), "its status")
    assert "1 stored" in as_trainer("artifactd", "status"), "a user's commands find the state by themselves"
