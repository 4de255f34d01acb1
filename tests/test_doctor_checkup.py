"""All checks together: every one is made, whatever is wrong with the host, and nothing of the host is changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.config import Config, ConfigError, load_config
from artifactd.doctor import Finding, Level, Surroundings, examine, examine_without
from artifactd.doctor.checkup import report_of
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from cli_support import Book, own_environment
from support import free_port


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def config(base: Path, more: str = "") -> Config:
    (base / "drop").mkdir(exist_ok=True)
    file = base / "config.toml"
    file.write_text(f'state_dir = "{base}/state"\n{more}\n[[watch]]\npath = "{base}/drop"\n')
    return load_config(file)


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in found}


def test_a_new_host_with_the_embedded_store_is_in_order(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    settings = config(tmp_path)
    found = list(examine(settings, Surroundings()))
    assert [finding for finding in found if finding.level is Level.WRONG] == []
    names = by_name(found)
    for name in ("versions", "service", "space for the ledger", "ledger", "duplicate watches", "tracking store"):
        assert names[name].level is Level.OK, names[name]
    assert f"watched folder {tmp_path}/drop" in names
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "config.toml", tmp_path / "drop"])


def test_a_server_that_is_away_keeps_no_other_check_from_being_made(tmp_path: Path) -> None:
    server = f'[mlflow]\ntracking_uri = "http://me:hunter22@127.0.0.1:{free_port()}"\nartifact_location = "s3://b/x"'
    found = list(examine(config(tmp_path, server), Surroundings()))
    names = by_name(found)
    assert names["tracking server"].level is Level.WRONG
    assert "cannot be reached" in names["tracking server"].detail
    assert "the credentials of 'me' in the tracking URI" in names["credentials"].detail
    assert names["client for s3:"].level is Level.OK
    assert names["credentials for S3"].level is Level.NOTICE
    assert "hunter22" not in f"{found}"


def test_a_file_that_mlflow_cannot_read_is_told_before_mlflow_quotes_it(tmp_path: Path) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text("mlflow_tracking_password hunter22\n")
    server = f'[mlflow]\ntracking_uri = "http://127.0.0.1:{free_port()}"'
    found = list(examine(config(tmp_path, server), Surroundings()))
    names = by_name(found)
    assert names["credentials"].level is Level.WRONG
    assert "tracking server" not in names
    assert "hunter22" not in f"{found}"


def test_folders_that_only_the_ledger_knows_are_looked_at(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.write("e/r/a")
    book.look()
    book.fail()
    settings = Config.model_validate({"state_dir": book.state})
    names = by_name(list(examine(settings, Surroundings())))
    book.close()
    assert f"watched folder {book.drop}" in names
    assert names["deliveries"].level is Level.WRONG
    assert "1 file is known" in names["space for the ledger"].detail


def test_where_nothing_is_watched_that_is_said(tmp_path: Path) -> None:
    found = by_name(list(examine(Config.model_validate({"state_dir": tmp_path / "state"}), Surroundings())))
    assert found["watched folders"].level is Level.NOTICE


def test_a_ledger_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.state_dir.mkdir()
    with sqlite3.connect(settings.state_dir / FILE_NAME) as con:
        con.execute(f"PRAGMA user_version = {VERSION - 1}")
    con.close()
    assert by_name(list(examine(settings, Surroundings())))["ledger"].level is Level.NOTICE
    assert written_version(settings.state_dir / FILE_NAME) == VERSION - 1
    assert report_of(settings.state_dir) is None


def test_a_damaged_ledger_is_one_finding_among_others(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.state_dir.mkdir()
    (settings.state_dir / FILE_NAME).write_bytes(os.urandom(4096))
    names = by_name(list(examine(settings, Surroundings())))
    assert names["ledger"].level is Level.WRONG
    assert names["tracking store"].level is Level.OK


def test_a_host_without_proc_is_no_reason_to_stop(tmp_path: Path) -> None:
    found = by_name(list(examine(config(tmp_path), Surroundings(proc=str(tmp_path / "none")))))
    assert found["inotify"].level is Level.NOTICE
    assert "tracking store" in found


def test_without_a_configuration_its_mistakes_are_the_findings(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[[watch]]\npath = "{tmp_path}"\nsetle = "1s"\n[[watch]]\npath = "{tmp_path}/x"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    found = list(examine_without(caught.value))
    assert [finding.what for finding in found][-1] == "versions"
    mistakes = [finding for finding in found if finding.what == "configuration"]
    assert {finding.level for finding in mistakes} == {Level.WRONG}
    assert any("watch[0].setle" in finding.detail for finding in mistakes)
    assert any("it lies inside watch[0]" in finding.detail for finding in mistakes)
    assert all(finding.cure for finding in mistakes)
