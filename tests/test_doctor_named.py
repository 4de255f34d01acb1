"""Keys and programs that the configuration names: real files, and each cure is one that mends it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from artifactd.config import Config
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.named import named
from artifactd.doctor.surroundings import Surroundings

NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for another user")


def config(base: Path, **tables: Any) -> Config:
    return Config.model_validate({"state_dir": base / "state", "watch": [{"path": base / "drop"}], **tables})


def found(config: Config, around: Surroundings | None = None) -> list[Finding]:
    return list(named(config, around or Surroundings()))


def signed(base: Path, key: Path) -> Config:
    return config(base, notify={"webhook": "https://h/hooks/s3cret", "secret_file": key})


@pytest.fixture
def of_nobody(for_all: Path) -> Path:
    """A folder for all to enter, and in it a state folder that is another user's."""
    (for_all / "state").mkdir()
    os.chown(for_all / "state", NOBODY, NOBODY)
    return for_all


def mend(finding: Finding) -> None:
    subprocess.run(["sh", "-ec", finding.cure], check=True, stdin=subprocess.DEVNULL)


def test_nothing_that_is_named_is_no_news(tmp_path: Path) -> None:
    assert found(config(tmp_path)) == []
    unused = {"token_file": tmp_path / "none"}
    assert found(config(tmp_path, metrics=unused)) == [], "nobody is asked for it"


class TestKeys:
    def test_one_that_is_not_there_is_made_by_the_cure(self, tmp_path: Path) -> None:
        key = tmp_path / "webhook.key"
        (finding,) = found(signed(tmp_path, key))
        assert finding.level is Level.WRONG
        assert f"{key} is not there" in finding.detail
        mend(finding)
        assert key.stat().st_mode & 0o777 == 0o600
        (finding,) = found(signed(tmp_path, key))
        assert finding.level is Level.OK
        assert key.read_text().strip() not in f"{finding}"

    def test_an_empty_one_and_a_folder(self, tmp_path: Path) -> None:
        key = tmp_path / "webhook.key"
        key.write_text("\n")
        (finding,) = found(signed(tmp_path, key))
        assert (finding.level, "holds nothing" in finding.detail) == (Level.WRONG, True)
        mend(finding)
        assert [finding.level for finding in found(signed(tmp_path, key))] == [Level.OK]
        (finding,) = found(signed(tmp_path, tmp_path))
        assert (finding.level, "is no file" in finding.detail) == (Level.WRONG, True)

    def test_the_token_for_metrics(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        settings = config(tmp_path, metrics={"listen": "127.0.0.1:1", "token_file": token})
        (finding,) = found(settings)
        assert (finding.what, finding.level) == ("the token for metrics", Level.WRONG)
        mend(finding)
        assert [finding.level for finding in found(settings)] == [Level.OK]

    @as_root
    def test_one_of_root_s_cannot_be_read_by_the_service_until_it_is_its_group_s(self, of_nobody: Path) -> None:
        key = of_nobody / "webhook.key"
        key.write_text("s3cret")
        key.chmod(0o600)
        (finding,) = found(signed(of_nobody, key))
        assert finding.level is Level.WRONG
        assert f"nobody may not read {key}" in finding.detail
        mend(finding)
        assert (key.stat().st_gid, key.stat().st_mode & 0o777) == (NOBODY, 0o640)
        (finding,) = found(signed(of_nobody, key))
        assert (finding.level, finding.detail) == (Level.OK, f"nobody can read {key}")

    @as_root
    def test_one_that_is_not_there_is_made_for_the_service(self, of_nobody: Path) -> None:
        key = of_nobody / "webhook.key"
        (finding,) = found(signed(of_nobody, key))
        mend(finding)
        assert (key.stat().st_uid, key.stat().st_gid, key.stat().st_mode & 0o777) == (0, NOBODY, 0o640)
        assert [finding.level for finding in found(signed(of_nobody, key))] == [Level.OK]

    @as_root
    def test_a_folder_above_may_be_the_reason(self, of_nobody: Path) -> None:
        (of_nobody / "closed").mkdir(mode=0o700)
        key = of_nobody / "closed" / "webhook.key"
        key.write_text("s3cret")
        (finding,) = found(signed(of_nobody, key))
        assert finding.cure.partition("  # ")[0] == f"setfacl -m u:nobody:x {of_nobody / 'closed'}"

    def test_who_is_not_root_says_that_it_cannot_be_told(self, tmp_path: Path) -> None:
        (tmp_path / "state").mkdir()
        key = tmp_path / "webhook.key"
        key.write_text("s3cret")
        (finding,) = found(signed(tmp_path, key), Surroundings(uid=os.getuid() + 54_321))
        assert (finding.level, "cannot be told" in finding.detail) == (Level.NOTICE, True)


class TestCommand:
    def told(self, base: Path, *command: str | Path, **environ: str) -> Finding:
        (finding,) = found(config(base, notify={"command": list(map(str, command))}), Surroundings(environ=environ))
        return finding

    def test_one_that_is_not_there_or_is_no_program(self, tmp_path: Path) -> None:
        page = tmp_path / "page"
        assert f"{page} is not there" in self.told(tmp_path, page, "ops").detail
        assert "is no file" in self.told(tmp_path, tmp_path).detail
        page.write_text("#!/bin/sh\n")
        finding = self.told(tmp_path, page, "s3cret")
        assert (finding.level, "may not run" in finding.detail) == (Level.WRONG, True)
        assert "s3cret" not in f"{finding}"
        mend(finding)
        assert self.told(tmp_path, page).level is Level.OK

    def test_a_name_is_looked_for_in_path(self, tmp_path: Path) -> None:
        assert self.told(tmp_path, "page", PATH=str(tmp_path)).level is Level.WRONG
        (tmp_path / "page").touch(mode=0o755)
        assert self.told(tmp_path, "page", PATH=str(tmp_path)).level is Level.OK

    @as_root
    def test_the_service_s_user_may_not_run_it(self, of_nobody: Path) -> None:
        page = of_nobody / "page"
        page.touch()
        page.chmod(0o700)
        finding = self.told(of_nobody, page)
        assert (finding.level, finding.detail.startswith("nobody may not run")) == (Level.WRONG, True)
        mend(finding)
        assert self.told(of_nobody, page).level is Level.OK
