"""``artifactd doctor``: the table, the data, the exit code, and the support file with secrets planted all around."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactd import __version__
from artifactd.ledger.schema import VERSION
from cli_support import Book, call, own_environment
from conftest import MlflowServer
from support import free_port


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def config(base: Path, more: str = "") -> Path:
    (base / "drop").mkdir(exist_ok=True)
    path = base / "config.toml"
    path.write_text(f'state_dir = "{base}/state"\n{more}\n[[watch]]\npath = "{base}/drop"\n')
    path.chmod(0o600)
    return path


def contents(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name.rpartition("/")[2]] = json.loads(stream.read())
        return found


@pytest.mark.live
def test_a_host_and_a_server_that_are_in_order(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    file = config(tmp_path, f'[mlflow]\ntracking_uri = "{mlflow_server.uri}"')
    done = call("doctor", "--config", file, "--json")
    assert done.exit_code == 0, done.stdout
    data = json.loads(done.stdout)
    assert data["in_order"] is True
    found = {finding["what"]: finding for finding in data["findings"]}
    assert set(found["versions"]) == {"what", "level", "detail", "cure"}
    for name in ("tracking server", "versions of MLflow", "clock", "gateway", "multipart", "credentials", "ledger"):
        assert found[name]["level"] == "ok", found[name]
    assert found[next(name for name in found if name.startswith("way to mlflow-artifacts:"))]["level"] == "ok"
    assert not (tmp_path / "state").exists(), "nothing is made"


def test_what_is_wrong_is_told_with_its_cure_and_exit_1(tmp_path: Path) -> None:
    file = config(tmp_path, f'[mlflow]\ntracking_uri = "http://me:hunter22@127.0.0.1:{free_port()}"')
    (tmp_path / "drop").rmdir()
    done = call("doctor", "--config", file)
    assert done.exit_code == 1
    assert "hunter22" not in done.stdout + done.stderr
    assert done.stdout.count("WRONG") == 2
    assert "it is not there" in done.stdout
    assert f"mkdir -p {tmp_path}/drop" in done.stdout
    assert "cannot be reached" in done.stdout
    assert done.stderr.startswith("2 wrong")
    assert "artifactd check" in done.stderr


def test_nothing_wrong_is_exit_0(tmp_path: Path) -> None:
    done = call("doctor", "--config", config(tmp_path))
    assert (done.exit_code, "WRONG" in done.stdout) == (0, False), done.stdout
    assert done.stderr.startswith("Nothing is wrong")


def test_a_configuration_that_cannot_be_used_is_a_finding(tmp_path: Path) -> None:
    file = config(tmp_path, 'staet_dir = "x"')
    done = call("doctor", "--config", file, "--bundle", tmp_path / "support.tar.gz")
    assert done.exit_code == 1
    assert "staet_dir" in done.stdout
    assert "staet_dir" in contents(tmp_path / "support.tar.gz")["configuration.json"]["error"]


class TestBundle:
    def test_it_holds_what_helps(self, tmp_path: Path) -> None:
        book = Book(tmp_path)
        book.write("e/r/a")
        book.look()
        book.deliver()
        book.write("e/r/b")
        book.look()
        book.fail()
        path = tmp_path / "support.tar.gz"
        done = call("doctor", "--config", config(tmp_path), "--bundle", path)
        book.close()
        assert done.exit_code == 1, "a file failed"
        assert str(path) in done.stderr
        found = contents(path)
        assert set(found) == {"about.json", "findings.json", "configuration.json", "ledger.json", "status.json"}
        assert found["about.json"]["versions"]["artifactd"] == __version__
        assert found["configuration.json"]["config"]["watch"][0]["path"] == str(book.drop)
        assert found["ledger.json"] == {"schema": VERSION, "known_here": VERSION}
        assert (found["status.json"]["stored"], found["status.json"]["failed"]) == (1, 1)
        assert found["findings.json"]["in_order"] is False
        assert path.stat().st_mode & 0o777 == 0o600

    def test_without_a_ledger(self, tmp_path: Path) -> None:
        path = tmp_path / "support.tar.gz"
        assert call("doctor", "--config", config(tmp_path), "--bundle", path).exit_code == 0
        found = contents(path)
        assert found["ledger.json"] == {"schema": None, "known_here": VERSION}
        assert "no ledger" in found["status.json"]["error"]

    def test_no_secret_is_in_any_member(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        variables = {
            "AWS_SECRET_ACCESS_KEY": "planted-aws-secret", "AWS_SESSION_TOKEN": "planted-session",
            "MLFLOW_TRACKING_TOKEN": "planted-token", "MLFLOW_TRACKING_PASSWORD": "planted-password",
            "AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=planted-key==",
            "ARTIFACTD_MLFLOW__ARTIFACT_LOCATION": "sftp://me:planted-sftp@h/x",
            "ARTIFACTD_NOTIFY__WEBHOOK": "https://chat.example.com/hooks/planted-hook",
        }  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/credentials").write_text("[default]\naws_secret_access_key = planted-file\n")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login planted-login password planted-netrc\n")
        book = Book(tmp_path)
        book.write("e/r/a")
        book.look()
        book.fail("planted-uri was refused; http://x:planted-other@h said Bearer planted-bearer-1")
        book.hold("http://mlflow.test: password=planted-held")
        server = f'[mlflow]\ntracking_uri = "http://me:planted-uri@127.0.0.1:{free_port()}"'
        path = tmp_path / "support.tar.gz"
        done = call("doctor", "--config", config(tmp_path, server), "--bundle", path)
        book.close()
        assert "planted" not in done.stdout + done.stderr
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                stream = archive.extractfile(member)
                assert stream is not None
                assert b"planted" not in stream.read(), member.name

    def test_it_is_refused_before_anything_is_looked_at(self, tmp_path: Path) -> None:
        file = config(tmp_path)
        (tmp_path / "there").touch()
        for path in (tmp_path / "there", tmp_path / "drop" / "support.tar.gz"):
            done = call("doctor", "--config", file, "--bundle", path)
            assert (done.exit_code, done.stdout) == (2, "")
            assert str(path) in done.stderr
