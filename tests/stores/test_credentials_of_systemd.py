"""The drop-ins of docs/stores-objects.md, as systemd reads them, and what they hand over, as the stores take it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from artifactd.tracking import server
from stores import seaweed as keys
from stores.gcloud import Google
from stores.objects import ObjectStore
from stores.servers import ADMIN, AuthServer
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
UNIT = ROOT / "systemd" / "artifactd.service"
PAGE = (ROOT / "docs" / "stores-objects.md").read_text()
DROP_INS = dict(re.findall(r"```ini\n# /etc/systemd/system/artifactd\.service\.d/(\w+)\.conf\n(.*?)```", PAGE, re.S))


def verified(folder: Path, unit: str, drop_ins: Mapping[str, str]) -> str:
    """What systemd finds wrong with the unit, its program aside, with these drop-ins."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd): nothing was verified")
    place = folder / UNIT.name
    place.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))
    (folder / f"{UNIT.name}.d").mkdir()
    for name, text in drop_ins.items():
        (folder / f"{UNIT.name}.d" / f"{name}.conf").write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ["s3", "gcs", "azure", "mlflow"])
def test_systemd_finds_nothing_wrong_with_a_drop_in(name: str, tmp_path: Path) -> None:
    assert verified(tmp_path, UNIT.read_text(), {name: DROP_INS[name]}) == ""


def test_systemd_looks_at_drop_ins(tmp_path: Path) -> None:
    broken = DROP_INS["s3"].replace("LoadCredential=", "LoadCredentials=")
    assert "LoadCredentials" in verified(tmp_path, UNIT.read_text(), {"s3": broken})


def handed_over(user: User, name: str, content: str) -> None:
    """What the service sees: a folder of copies that nobody can write to, and the drop-in's variables."""
    folder = user.home / "credentials"
    folder.mkdir()
    (credential,) = re.findall(r"(?m)^LoadCredential=([\w.]+):", DROP_INS[name])
    (folder / credential).write_text(content)
    (folder / credential).chmod(0o400)
    folder.chmod(0o500)
    user.set(CREDENTIALS_DIRECTORY=str(folder))
    for variable, value in re.findall(r"(?m)^Environment=(\w+)=(.+)$", DROP_INS[name]):
        user.set(**{variable: value.replace("%d", str(folder))})


def test_what_is_handed_over_for_s3(seaweed: ObjectStore, user: User) -> None:
    key, secret = keys.ADMIN
    handed_over(user, "s3", f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    user.set(MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint)
    user.upload(seaweed.artifact_location)


def test_what_is_handed_over_for_google(google: Google, user: User) -> None:
    handed_over(user, "gcs", google.key_file("1"))
    user.upload(google.store.artifact_location)


def test_what_is_handed_over_for_mlflow(auth_server: AuthServer, user: User) -> None:
    """At the place that the drop-in binds it to, which test_drop_ins.py has systemd do."""
    name, password = ADMIN
    text = f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n"
    handed_over(user, "mlflow", text)
    ((credential, place),) = re.findall(r"(?m)^BindReadOnlyPaths=%d/(\w+):%S/artifactd/(.+)$", DROP_INS["mlflow"])
    (user.home / place).parent.mkdir()
    (user.home / place).symlink_to(Path(os.environ["CREDENTIALS_DIRECTORY"]) / credential)
    assert server.connect(auth_server.uri, embedded_artifacts=None).search_experiments()


def test_a_second_service_beside_the_first(tmp_path: Path) -> None:
    """The commands of the page make a unit that systemd takes, and that shares nothing but the program."""
    (command,) = re.findall(r"(?s)\nsed (.*?) \\\n\s+/etc/systemd/system/artifactd\.service >", PAGE)
    done = subprocess.run(["sed", *shlex.split(command), UNIT], capture_output=True, text=True, check=True)
    assert verified(tmp_path, done.stdout, {}) == ""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [line for line in lines if re.search(r"artifactd(?!-b)", line)] == [
        "ExecStart=/opt/artifactd/bin/artifactd run --config /etc/artifactd-b/config.toml"
    ]
    assert "User=artifactd-b" in lines
