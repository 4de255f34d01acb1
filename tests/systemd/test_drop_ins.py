"""What the unit's hardening lets the service do, and what the documented drop-ins change."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from artifactd.notify.send import signature
from notify_support import hook
from stores import seaweed as keys
from stores.running import NotThereError
from stores.servers import ADMIN, basic_auth
from support import Oracle, wait_for
from systemd.box import Box
from systemd.host import UNIT, Host
from systemd.roots import SOURCES

PAGE = "".join((SOURCES / "docs" / name).read_text() for name in ("stores-objects.md", "notify.md"))
DROP_INS = dict(re.findall(r"```ini\n# /etc/systemd/system/artifactd\.service\.d/(\w+)\.conf\n(.*?)```", PAGE, re.S))
"""As they are documented."""

TRY = re.findall(r"(?m)^(artifactd check --notify .*?) +# as root$", PAGE)[0]

ONLY_LOCALHOST = "[Service]\nIPAddressDeny=any\nIPAddressAllow=localhost\n"


def test_drop_folders_are_read_only_and_rights_come_by_drop_ins(host: Host) -> None:
    host.box.run("groupadd", "training")
    group = int(host.box.run("sh", "-c", "getent group training | cut -d: -f3"))
    shared, closed = host.write("e/r/shared.bin", b"s"), host.write("e/r/closed.bin", b"c")
    os.chown(shared, 0, group)
    shared.chmod(0o640)
    closed.chmod(0o600)
    host.write("e/r/open.bin", b"o")
    host.configure('[[watch]]\npath = "/tmp/drop"\nsettle = "0.3s"\n')
    host.write("e/tmp/tmp.bin", b"t", host.box.path("/tmp/drop"))
    host.drop_in("[Service]\nSupplementaryGroups=training\n", "group")
    host.start()
    host.wait_stored({"shared.bin": b"s", "open.bin": b"o"})
    (failure,) = wait_for(lambda: host.status()["failures"], "what may not be read is failed")
    assert (failure["path"], failure["kind"]) == ("/data/drop/e/r/closed.bin", "permanent")
    # In the service's own view of the files, also root could write nothing.
    view = ("nsenter", "-t", str(host.pid), "-m", "--")
    for path in ("/data/drop/e/r/new", "/etc/artifactd/new", "/opt/artifactd/new", "/usr/new"):
        assert "Read-only file system" in host.box.run(*view, "touch", path, check=False), path
    host.box.run(*view, "touch", "/var/lib/artifactd/new")
    # CPUWeight=idle is of systemd 252, too.
    host.drop_in(
        "[Service]\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\nAmbientCapabilities=CAP_DAC_READ_SEARCH\nCPUWeight=idle\n"
        "PrivateTmp=no\n",
        "all",
    )
    host.systemctl("restart", UNIT)
    assert host.show("CPUWeight") == {"CPUWeight": "idle"}
    assert "1 file" in host.box.run("artifactd", "retry", "--all", "--state-dir", "/var/lib/artifactd")
    host.wait_stored({"shared.bin": b"s", "open.bin": b"o", "closed.bin": b"c", "tmp.bin": b"t"})


def test_delivered_files_are_removed_only_with_the_drop_in(host: Host) -> None:
    path = host.write("e/r/a.txt", b"a")
    user = int(host.box.run("id", "-u", "artifactd"))
    for folder in (path.parent, path.parent.parent, host.box.drop):
        os.chown(folder, user, user)
    host.configure('after_upload = "delete"')
    host.start()
    host.wait_stored({"a.txt": b"a"})
    told = wait_for(lambda: host.box.journal("-u", UNIT, "-p", "warning"), "why it stays")
    assert "Read-only file system" in "".join(str(entry["MESSAGE"]) for entry in told)
    assert path.exists()
    host.drop_in("[Service]\nReadWritePaths=/data/drop\n")
    host.systemctl("restart", UNIT)
    wait_for(lambda: not path.exists(), f"it is removed\n{host.last_words()}")
    assert host.stored() == {"a.txt": b"a"}
    assert path.parent.is_dir()


def test_keys_for_s3_come_by_load_credential(booted: Box, tmp_path: Path) -> None:
    folder = tmp_path / "weed"
    folder.mkdir()
    try:
        with keys.seaweed(folder) as store:
            host = Host(booted)
            host.set_up()
            host.configure(more=f'[mlflow]\nartifact_location = "{store.artifact_location}"\n')
            (booted.etc / "environment").write_text(f"MLFLOW_S3_ENDPOINT_URL={store.endpoint}\n")
            (booted.etc / "aws").write_text(
                f"[default]\naws_access_key_id = {keys.ADMIN[0]}\naws_secret_access_key = {keys.ADMIN[1]}\n"
            )
            (booted.etc / "aws").chmod(0o600)
            host.drop_in(DROP_INS["s3"], "s3")
            host.drop_in(ONLY_LOCALHOST, "network")
            host.write("e/r/a.txt", b"over there")
            host.start()
            host.wait_idle()
            found = keys.client(store.endpoint).list_objects_v2(Bucket=keys.BUCKET, Prefix="mlflow/")["Contents"]
            assert [(item["Key"].rpartition("/")[2], item["Size"]) for item in found] == [("a.txt", 10)]
    except NotThereError as exc:
        pytest.skip(str(exc))


def test_a_servers_password_comes_by_load_credential(booted: Box, tmp_path: Path) -> None:
    with basic_auth(tmp_path / "server") as server:
        host = Host(booted)
        host.set_up(server.uri)
        (booted.etc / "mlflow").write_text(
            f"[mlflow]\nmlflow_tracking_username = {ADMIN[0]}\nmlflow_tracking_password = {ADMIN[1]}\n"
        )
        (booted.etc / "mlflow").chmod(0o600)
        host.drop_in(DROP_INS["mlflow"], "mlflow")
        host.drop_in(ONLY_LOCALHOST, "network")
        booted.run("artifactd", "check", "--as", "artifactd")
        host.write("e/r/a.txt", b"a")
        host.start()
        host.wait_idle()
        # Beside the service, whose own copy stays.
        booted.run("artifactd", "check", "--as", "artifactd")
        said = json.loads(booted.run("artifactd", "doctor", "--as", "artifactd", "--json"))
        assert [(one["what"], one["detail"]) for one in said["findings"] if one["level"] != "ok"] == []
        host.write("e/r/b.txt", b"b")
        wait_for(lambda: host.status().get("stored") == 2, f"the second file\n{host.last_words()}")
        os.environ.update(MLFLOW_TRACKING_USERNAME=ADMIN[0], MLFLOW_TRACKING_PASSWORD=ADMIN[1])
        oracle = Oracle(server.uri)
        files = oracle.files(oracle.run("e", "r").info.run_id, tmp_path / "back")
        assert files == {b"a.txt": b"a", b"b.txt": b"b"}


def test_a_check_as_the_unit_has_what_only_root_may_read(booted: Box, tmp_path: Path) -> None:
    with basic_auth(tmp_path / "server") as server:
        host = Host(booted)
        host.set_up(server.uri)
        secret = booted.etc / "environment"
        secret.write_text(f"MLFLOW_TRACKING_USERNAME={ADMIN[0]}\nMLFLOW_TRACKING_PASSWORD={ADMIN[1]}\n")
        secret.chmod(0o600)
        host.box.run("groupadd", "training")
        booted.drop.chmod(0o750)
        os.chown(booted.drop, 0, int(booted.run("sh", "-c", "getent group training | cut -d: -f3")))
        host.drop_in("[Service]\nSupplementaryGroups=training\n", "group")
        host.drop_in(ONLY_LOCALHOST, "network")
        user = ("setpriv", "--reuid", "artifactd", "--regid", "artifactd", "--clear-groups", "--")
        alone = ("artifactd", "check", "--state-dir", "/var/lib/artifactd")
        assert "answered 401" in booted.run(*user, *alone, check=False, HOME="/var/lib/artifactd")
        said = json.loads(booted.run("artifactd", "check", "--as", "artifactd", "--json"))
        assert said["config"]["state_dir"] == "/var/lib/artifactd"
        assert {row["what"] for row in said["checks"]} == {
            "state folder", "watched folder", "tracking server", "artifacts",
        }  # fmt: skip
        assert said["in_order"]
        secret.write_text(f"MLFLOW_TRACKING_USERNAME={ADMIN[0]}\nMLFLOW_TRACKING_PASSWORD=wrong\n")
        booted.run("sh", "-c", "artifactd check --as artifactd; test $? = 1")
        assert booted.run("find", "/run/systemd/system", "-mindepth", "1") == ""
        assert "is not known to systemd" in booted.run("artifactd", "check", "--as", "nothing", check=False)
        assert "does not start `artifactd run`" in booted.run("artifactd", "check", "--as", "dbus", check=False)


def test_a_webhook_comes_by_the_environment_and_its_key_by_load_credential(host: Host) -> None:
    key = host.box.etc / "webhook.key"
    key.write_text("hunter22")
    key.chmod(0o600)

    def configured(more: str = "") -> None:
        host.configure(more=f'state_dir = "/var/lib/artifactd"\n[notify]\ndisk = "1000TiB"\n{more}')

    def about_the_key() -> dict[str, str]:
        found = json.loads(host.box.run("artifactd", "doctor", "--as", "artifactd", "--json", check=False))["findings"]
        (finding,) = [finding for finding in found if finding["what"] == "the webhook's key"]
        return dict(finding)

    with hook() as server:
        with (host.box.etc / "environment").open("a") as file:
            file.write(f"ARTIFACTD_NOTIFY__WEBHOOK={server.url}\n")
        configured('secret_file = "/etc/artifactd/webhook.key"\n')
        host.start()
        wait_for(lambda: "webhook.key cannot be read" in host.last_words(), "root's is nobody else's", 60)
        finding = about_the_key()
        assert (finding["level"], finding["cure"]) == (
            "wrong", "chgrp artifactd /etc/artifactd/webhook.key && chmod 640 /etc/artifactd/webhook.key",
        )  # fmt: skip
        host.drop_in(DROP_INS["webhook"], "webhook")
        configured()
        host.box.path("/var/lib/artifactd/notify.json").unlink()  # else it is told with the next period
        host.systemctl("restart", UNIT)
        told = wait_for(lambda: server.requests, "it is told", 60)
        assert [trouble["kind"] for trouble in told[0].data["troubles"]] == ["disk"]
        assert told[0].headers["X-Artifactd-Signature"] == signature(b"hunter22", told[0].body)
        assert about_the_key()["level"] == "ok"
        checks = json.loads(host.box.run(*TRY.split(), "--json", timeout=120))["checks"]
        assert [check["ok"] for check in checks if check["what"] == "message"] == [True]
        assert server.requests[-1].data["test"] is True
        assert server.requests[-1].headers["X-Artifactd-Signature"] == signature(b"hunter22", server.requests[-1].body)
