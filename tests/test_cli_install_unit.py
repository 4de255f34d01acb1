from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.cli import install_unit
from artifactd.unit import sealed, unit_text
from cli_support import call, own_environment

PROGRAM = "/srv/pipx/bin/artifactd"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / ".config" / "systemd" / "user" / "artifactd.service"


def test_a_users_unit_is_written_and_the_next_commands_are_said(place: Path, tmp_path: Path) -> None:
    done = call("install-unit", "--user", "--program", PROGRAM)
    assert done.exit_code == 0
    assert place.read_text() == sealed(unit_text(program=PROGRAM, user=True))
    assert place.stat().st_mode & 0o777 == 0o644
    assert list(place.parent.iterdir()) == [place]
    for said in (
        f"Written: {place}",
        f"put the configuration into {tmp_path}/.config/artifactd/config.toml",
        "systemctl --user daemon-reload",
        "artifactd check --as artifactd\n",
        "systemctl --user enable --now artifactd\n",
        "loginctl enable-linger ",
        f"loginctl enable-linger {os.getuid()} ",
    ):
        assert said in done.stderr
    assert "useradd" not in done.stderr


def test_a_second_time_changes_nothing_and_a_newer_version_renews_it(place: Path) -> None:
    call("install-unit", "--user", "--program", PROGRAM)
    before = place.stat()
    again = call("install-unit", "--user", "--program", PROGRAM)
    assert (again.exit_code, place.stat()) == (0, before)
    assert "As it should be already" in again.stderr
    place.write_text(sealed("[Service]\nExecStart=/old/artifactd run\n"))
    assert call("install-unit", "--user", "--program", PROGRAM).exit_code == 0
    assert place.read_text() == sealed(unit_text(program=PROGRAM, user=True))


def test_one_that_was_changed_stays_unless_forced(place: Path) -> None:
    call("install-unit", "--user", "--program", PROGRAM)
    mine = place.read_text().replace("Nice=10", "Nice=19")
    place.write_text(mine)
    refused = call("install-unit", "--user", "--program", PROGRAM)
    assert (refused.exit_code, place.read_text()) == (1, mine)
    assert "--force" in refused.stderr
    assert call("install-unit", "--user", "--program", PROGRAM, "--force").exit_code == 0
    assert "Nice=10" in place.read_text()


def test_one_that_is_masked_stays_masked(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to("/dev/null")
    assert call("install-unit", "--user", "--program", PROGRAM).exit_code == 1
    assert place.is_symlink()


def test_the_template_is_a_file_of_its_own(place: Path) -> None:
    done = call("install-unit", "--user", "--template", "--program", PROGRAM)
    assert done.exit_code == 0
    assert "%i.toml" in place.with_name("artifactd@.service").read_text()
    assert not place.exists()
    assert "enable --now artifactd@NAME" in done.stderr
    assert "/NAME.toml" in done.stderr


def test_a_print_writes_nothing(place: Path) -> None:
    done = call("install-unit", "--print")
    assert done.exit_code == 0
    assert "ExecStart=" in done.stdout
    assert not place.parent.exists()


def test_the_systems_unit_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_unit, "_SYSTEM", tmp_path / "system")
    monkeypatch.setattr(install_unit, "_is_known", lambda _name: False)
    done = call("install-unit", "--program", PROGRAM)
    assert done.exit_code == 0
    assert (tmp_path / "system" / "artifactd.service").read_text() == sealed(unit_text(program=PROGRAM))
    assert "useradd --system" in done.stderr
    assert "  systemctl enable --now artifactd\n" in done.stderr
    assert "linger" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_root_the_other_way_is_named() -> None:
    done = call("install-unit", "--program", PROGRAM)
    assert done.exit_code == 1
    assert "--user" in done.stderr


def test_this_program_is_the_link_that_stays_and_not_where_it_points_to_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "venvs" / "1" / "artifactd"
    real.parent.mkdir(parents=True)
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    link = tmp_path / "artifactd"
    link.symlink_to(real)
    monkeypatch.setattr(sys, "argv", [str(link)])
    assert install_unit.this_program() == link
    monkeypatch.setattr(sys, "argv", ["/nowhere/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(real.with_name("python")))
    assert install_unit.this_program() == real
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(install_unit.InstallError, match="path is not known"):
        install_unit.this_program()
