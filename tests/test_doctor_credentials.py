"""Credentials of the tracking server, by real files and the environment of who asks."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from artifactd.config import Config, load_config
from artifactd.doctor import credentials
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.surroundings import Surroundings
from artifactd.tracking.contact import Contact
from test_doctor_ends import NOW, jwt
from test_tracking_certificates import made

TOKEN = "the token from MLFLOW_TRACKING_TOKEN"


def around(home: Path, **environ: str) -> Surroundings:
    return Surroundings(environ={"HOME": str(home), **environ}, now=NOW)


def found(findings: Iterable[Finding]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.detail) for finding in findings]


class TestOfServer:
    @pytest.mark.parametrize(
        ("end", "level"), [(NOW - 60, Level.WRONG), (NOW + 3600, Level.NOTICE), (NOW + 864_000, Level.OK)]
    )
    def test_a_token_tells_its_own_end_and_not_itself(self, tmp_path: Path, end: float, level: Level) -> None:
        token = jwt({"exp": end})
        here = around(tmp_path, MLFLOW_TRACKING_TOKEN=token)
        (finding,) = credentials.of_server(Contact(client="3", who=TOKEN), here)
        assert finding.level is level
        assert token not in f"{finding}"
        if level is not Level.OK:
            assert "MLFLOW_TRACKING_TOKEN" in finding.cure

    def test_a_token_that_is_not_used_is_not_judged(self, tmp_path: Path) -> None:
        here = around(tmp_path, MLFLOW_TRACKING_TOKEN=jwt({"exp": NOW - 60}))
        who = "the credentials of 'me' from MLFLOW_TRACKING_USERNAME"
        assert found(credentials.of_server(Contact(client="3", who=who), here)) == [
            (Level.OK, f"{who}, which name no end")
        ]

    def test_none(self, tmp_path: Path) -> None:
        here = around(tmp_path)
        ((level, says),) = found(credentials.of_server(Contact(client="3"), here))
        assert (level, says) == (Level.OK, "none are set for the tracking server, and it wants none")
        ((_, says),) = found(credentials.of_server(Contact("it answers 401", client="3"), here))
        assert says == "none are set for the tracking server"
        assert found(credentials.of_server(Contact("it did not answer"), here)) == [], "nobody was there to say it"

    def test_ways_of_mlflow_s_plugins_are_named(self, tmp_path: Path) -> None:
        here = around(tmp_path, MLFLOW_TRACKING_AUTH="corporate")
        ((_, says),) = found(credentials.of_server(Contact(client="3"), here))
        assert "MLFLOW_TRACKING_AUTH" in says

    def test_the_server_s_certificate(self, tmp_path: Path) -> None:
        contact = Contact(client="3", certificate_end=NOW + 5 * 86_400)
        assert found(credentials.of_server(contact, around(tmp_path)))[-1] == (
            Level.NOTICE, "the server's certificate lasts for 5d (2026-02-05 16:30 UTC)",
        )  # fmt: skip


class TestOwnFile:
    def test_one_that_can_be_read_is_no_news(self, tmp_path: Path) -> None:
        assert list(credentials.own_file(around(tmp_path))) == []
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow/credentials").write_text("[mlflow]\nmlflow_tracking_password = hunter%%22\n")
        assert list(credentials.own_file(around(tmp_path))) == []

    @pytest.mark.parametrize(
        "text", ["mlflow_tracking_password hunter22\n", "[mlflow]\nmlflow_tracking_password = hunter%22\n"]
    )
    def test_one_that_cannot_be_is_told_without_what_stands_in_it(self, tmp_path: Path, text: str) -> None:
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow/credentials").write_text(text)
        (finding,) = credentials.own_file(around(tmp_path))
        assert finding.level is Level.WRONG
        assert "hunter" not in f"{finding}"


class TestNamedCertificates:
    def test_their_ends(self, tmp_path: Path) -> None:
        file = tmp_path / "client.pem"
        here = around(tmp_path, MLFLOW_TRACKING_CLIENT_CERT_PATH=str(file))
        end = datetime.datetime.fromtimestamp(NOW - 86_400, datetime.UTC)
        certificate, key = made(end)
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private = key.private_bytes(pem, form, serialization.NoEncryption())
        file.write_bytes(private + certificate.public_bytes(pem))
        (finding,) = credentials.named_certificates(here)
        assert finding.level is Level.WRONG
        assert finding.detail.startswith("the client certificate (MLFLOW_TRACKING_CLIENT_CERT_PATH) ended 1d ago")
        assert "PRIVATE" not in f"{finding}"

    def test_what_is_none_or_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "empty.pem").touch()
        here = around(
            tmp_path, MLFLOW_TRACKING_SERVER_CERT_PATH=f"{tmp_path}/none.pem",
            AZURE_CLIENT_CERTIFICATE_PATH=f"{tmp_path}/empty.pem",
        )  # fmt: skip
        levels = [level for level, _ in found(credentials.named_certificates(here))]
        assert levels == [Level.WRONG, Level.NOTICE]
        assert list(credentials.named_certificates(around(tmp_path))) == []


class TestReadableByOthers:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        (tmp_path / "drop").mkdir()
        file = tmp_path / "config.toml"
        file.write_text(
            f'state_dir = "{tmp_path}/state"\n[mlflow]\ntracking_uri = "http://u:hunter22@h"\n'
            f'[[watch]]\npath = "{tmp_path}/drop"\n'
        )
        return load_config(file)

    def test_files_that_others_can_read(self, tmp_path: Path, config: Config) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine h login u password hunter22\n")
        netrc.chmod(0o644)
        (tmp_path / "config.toml").chmod(0o644)
        findings = list(credentials.readable_by_others(config, around(tmp_path)))
        assert [finding.cure for finding in findings] == [f"chmod 600 {netrc}", f"chmod 600 {tmp_path}/config.toml"]
        assert "hunter22" not in f"{findings}"

    def test_private_ones_are_no_news(self, tmp_path: Path, config: Config) -> None:
        (tmp_path / ".netrc").touch(mode=0o600)
        (tmp_path / "config.toml").chmod(0o600)
        assert list(credentials.readable_by_others(config, around(tmp_path))) == []

    def test_secrets_of_urls_are_known(self, tmp_path: Path, config: Config) -> None:
        assert list(credentials.secrets_of(config)) == ["hunter22"]
        notify = {"webhook": "https://me:hunter23@chat/hooks/s3cret?key=x"}
        told = Config.model_validate({"watch": [{"path": tmp_path}], "notify": notify})
        assert list(credentials.secrets_of(told)) == ["hunter23", "/hooks/s3cret?key=x"]
        relay = {"notify": {"webhook": "http://localhost:9000/"}}
        assert list(credentials.secrets_of(Config.model_validate({"watch": [{"path": tmp_path}], **relay}))) == []

    def test_a_webhook_in_a_file_for_all_to_read(self, tmp_path: Path) -> None:
        (tmp_path / "drop").mkdir()
        file = tmp_path / "config.toml"
        plain = f'state_dir = "{tmp_path}/state"\n[[watch]]\npath = "{tmp_path}/drop"\n'
        file.write_text(f'{plain}[notify]\nwebhook = "https://chat.example.com/hooks/s3cret"\n')
        file.chmod(0o644)
        (finding,) = credentials.readable_by_others(load_config(file), around(tmp_path))
        assert finding.detail == f"{file} holds a webhook's secret, and other users can read it"
        assert finding.cure.startswith(f"chmod 600 {file}  # or move it")
        assert finding.cure.endswith("ARTIFACTD_NOTIFY__WEBHOOK=…")
        assert "s3cret" not in f"{finding}"
        file.chmod(0o600)
        assert list(credentials.readable_by_others(load_config(file), around(tmp_path))) == []

    def test_what_stands_in_a_variable_is_in_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "drop").mkdir()
        file = tmp_path / "config.toml"
        file.write_text(f'state_dir = "{tmp_path}/state"\n[[watch]]\npath = "{tmp_path}/drop"\n')
        file.chmod(0o644)
        monkeypatch.setenv("ARTIFACTD_NOTIFY__WEBHOOK", "https://chat.example.com/hooks/s3cret")
        monkeypatch.setenv("ARTIFACTD_MLFLOW__TRACKING_URI", "http://u:hunter22@h")
        config = load_config(file)
        assert config.notify.wanted
        assert list(credentials.readable_by_others(config, around(tmp_path))) == []

    def test_keys_that_the_configuration_names(self, tmp_path: Path) -> None:
        files = [tmp_path / "webhook.key", tmp_path / "token"]
        for file in files:
            file.touch()
            file.chmod(0o644)
        notify = {"webhook": "https://h/x", "secret_file": files[0]}
        config = Config.model_validate(
            {"state_dir": tmp_path, "watch": [{"path": "/d"}], "notify": notify, "metrics": {"token_file": files[1]}}
        )
        findings = list(credentials.readable_by_others(config, around(tmp_path)))
        assert [finding.cure for finding in findings] == [f"chmod 600 {file}" for file in files]
