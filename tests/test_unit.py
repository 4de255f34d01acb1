"""The forms of the unit: what each says, that nothing is lost on the way, and what systemd finds of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from artifactd.unit import PROGRAM, is_untouched, sealed, unit_name, unit_text

UNIT = Path(__file__).parent.parent / "systemd" / "artifactd.service"
FORMS = [(user, template) for user in (False, True) for template in (False, True)]
NAMES = ["system", "system-template", "user", "user-template"]


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)=(.*)$", text):
        found.setdefault(key, []).append(value)
    return found


def test_the_systems_own_form_is_the_text_itself() -> None:
    assert unit_text() == UNIT.read_text(encoding="utf-8")
    assert unit_name(template=False) == UNIT.name


def test_an_instance_has_a_configuration_and_a_state_of_its_own() -> None:
    plain, template = directives(unit_text()), directives(unit_text(template=True))
    assert template.pop("ExecStart") == [f"{PROGRAM} run --config /etc/artifactd/%i.toml"]
    assert template.pop("StateDirectory") == ["artifactd-%i"]
    assert template.pop("WorkingDirectory") == ["%S/artifactd-%i"]
    assert template.pop("EnvironmentFile") == ["-/etc/artifactd/environment", "-/etc/artifactd/%i.environment"]
    assert template.pop("Description") == ["artifactd, MLflow's drop folder: %i"]
    assert template == {key: value for key, value in plain.items() if key in template}


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("user", [False, True])
def test_a_configuration_and_a_state_elsewhere_are_named_to_it(user: bool, template: bool) -> None:
    text = unit_text(user=user, template=template, config="/my/own config.toml", state_dir="/srv/state")
    started = f'{PROGRAM} run --config "/my/own config.toml" --state-dir /srv/state'
    assert directives(text)["ExecStart"] == [started]
    assert directives(text).get("ReadWritePaths") == (None if user else ["/srv/state"])


@pytest.mark.parametrize("template", [False, True])
def test_a_users_form_needs_no_root_and_keeps_the_rest(template: bool) -> None:
    text = unit_text(user=True, template=template)
    unit, system = directives(text), directives(unit_text(template=template))
    assert unit["WantedBy"] == ["default.target"]
    assert "/etc/" not in text
    # What takes privileges, or looks for the state elsewhere than the commands do.
    for gone in ("User", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "StateDirectory", "ReadOnlyPaths"):
        assert gone not in unit
    for kept in ("Type", "WatchdogSec", "Restart", "KillMode", "Nice", "NoNewPrivileges", "SystemCallFilter"):
        assert unit[kept] == system[kept]
    (command,) = unit["ExecStart"]
    assert command.startswith(f"{PROGRAM} run --config %E/artifactd/{'%i' if template else 'config'}.toml")
    assert ("--state-dir %h/.local/state/artifactd-%i" in command) is template


@pytest.mark.parametrize(("user", "template"), FORMS, ids=NAMES)
def test_no_comment_is_left_without_what_it_speaks_of(user: bool, template: bool) -> None:
    body = unit_text(user=user, template=template).partition("\n\n")[2]
    assert re.findall(r"(?m)^# (?!---).*\n(?:\n|\Z)", body) == []
    assert re.findall(r"(?m)^# --- .*\n\n(?:# ---|\[)", body) == []


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/home/ann/.local/bin/artifactd", "/home/ann/.local/bin/artifactd"),
        ("/srv/100%/artifactd", "/srv/100%%/artifactd"),
        ('/srv/a "b"\\c/artifactd', '"/srv/a \\"b\\"\\\\c/artifactd"'),
    ],
)
def test_a_path_is_one_word_whatever_is_in_it(path: str, word: str) -> None:
    assert f"\nExecStart={word} run --config" in unit_text(program=path)


def test_a_file_that_somebody_changed_is_told_from_one_that_an_older_version_wrote() -> None:
    older = sealed("[Service]\nExecStart=/old\n")
    assert is_untouched(older)
    assert not is_untouched(older.replace("/old", "/new"))
    assert not is_untouched(older + "Nice=5\n")
    assert not is_untouched(unit_text())
    assert not is_untouched("")


@pytest.mark.parametrize(("user", "template"), FORMS, ids=NAMES)
def test_systemd_finds_nothing_wrong_with_any_form(user: bool, template: bool, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd): the units were not verified")
    file = tmp_path / unit_name(template=template)
    file.write_text(sealed(unit_text(program="/bin/true", user=user, template=template)))
    manager = ["--user"] if user else []
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    named = str(file).replace("@.", "@one.")
    done = subprocess.run(
        [analyze, *manager, "verify", "--man=no", named], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
