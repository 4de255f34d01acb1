"""[notify]: who is told, and which of their addresses can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from artifactd.config import Config, ConfigError, NotifyConfig, load_config, masked
from artifactd.config.notify import shown_webhook
from artifactd.config.uris import is_loopback


def wrong(**keys: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        NotifyConfig(**keys)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def test_nobody_is_told_by_default() -> None:
    config = NotifyConfig()
    assert not config.wanted
    assert (config.command, config.webhook, config.secret_file) == ((), None, None)
    assert config.on == ("failure", "paused", "lag", "disk", "watch")
    assert (config.lag, config.disk, config.every) == (3600, 2**30, 900)
    assert NotifyConfig(command=("page",)).wanted
    assert NotifyConfig(webhook="https://h/").wanted


@pytest.mark.parametrize("command", [["/usr/local/bin/page", "ops", ""], ["mail", "-s", "artifactd", "ops"]])
def test_a_command_is_a_program_with_its_arguments(command: list[str]) -> None:
    assert NotifyConfig.model_validate({"command": command}).command == tuple(command)


@pytest.mark.parametrize("command", ["page ops", [""], [" "], ["./page"], ["bin/page"], ["page", "a\0b"], [1], 5])
def test_what_names_no_program_is_refused(command: Any) -> None:
    assert {key.partition(".")[0] for key in wrong(command=command)} == {"command"}


@pytest.mark.parametrize(
    "url",
    [
        "https://chat.example.com/hooks/abc", "https://chat.example.com:8443/x?y=z", "https://ann:pw@h/x",
        "http://localhost:8080/x", "http://127.0.0.1/x", "http://[::1]:80/x",
    ],
)  # fmt: skip
def test_a_webhook_is_https_or_on_this_machine(url: str) -> None:
    assert NotifyConfig(webhook=url).webhook == url


@pytest.mark.parametrize(
    "url",
    [
        "", "chat.example.com/x", "ftp://h/x", "https://", "https:///x", "https://h:0/x", "https://h:70000/x",
        "https://h/a b", "https://h/\n", "https://[::1", "http://chat.example.com/s3cret", "http://10.0.0.1/s3cret",
        "http://localhost.example.com/s3cret", "https://h/ä",
    ],
)  # fmt: skip
def test_any_other_address_is_refused_without_being_shown(url: str) -> None:
    found = wrong(webhook=url)
    assert found.keys() == {"webhook"}
    assert "s3cret" not in found["webhook"]


def test_a_key_signs_something() -> None:
    assert NotifyConfig(webhook="https://h/x", secret_file=Path("/k")).secret_file == Path("/k")
    assert wrong(secret_file="k", webhook="https://h/x").keys() == {"secret_file"}
    assert wrong(secret_file="/k", webhook="h").keys() == {"webhook"}, "one mistake is told once"


def test_a_key_beside_a_webhook_that_only_the_service_knows_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[[watch]]\npath = "/data/drop"\n[notify]\nsecret_file = "/k"\n')
    config = load_config(file)
    assert not config.notify.wanted
    (notice,) = config.notices()
    assert "notify.secret_file" in notice.what
    assert "ARTIFACTD_NOTIFY__WEBHOOK" in notice.cure
    monkeypatch.setenv("ARTIFACTD_NOTIFY__WEBHOOK", "https://chat.example.com/hooks/s3cret")
    config = load_config(file)
    assert (config.notify.webhook, config.notices()) == ("https://chat.example.com/hooks/s3cret", ())


def test_limits() -> None:
    config = NotifyConfig.model_validate({"lag": "30m", "disk": "5GiB", "every": "1h", "on": ["disk"]})
    assert (config.lag, config.disk, config.every, config.on) == (1800, 5 * 2**30, 3600, ("disk",))
    assert wrong(lag="0", every=0, disk="5%", on=["discs"]).keys() == {"lag", "every", "disk", "on.0"}
    assert wrong(on=[]).keys() == {"on"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('webhok = "https://h/x"', "webhook"),
        ("lag = 30", "30s"),
        ('webhook = "http://h/x"', "https://"),
        ('on = ["fail"]', "'failure'"),
        ('command = "page"', 'command = ["/usr/local/bin/page", "ops"]'),
    ],
)
def test_mistakes_say_what_to_write(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[[watch]]\npath = "/data/drop"\n[notify]\n{text}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    (problem,) = caught.value.problems
    assert problem.key.startswith("notify.")
    assert told in problem.instead


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://chat.example.com/hooks/s3cret", "https://chat.example.com/***"),
        ("https://chat.example.com:8443/?key=s3cret", "https://chat.example.com:8443/***"),
        ("https://ann:s3cret@chat.example.com/", "https://chat.example.com"),
        ("http://[::1]:80/s3cret", "http://[::1]:80/***"),
        ("https://chat.example.com", "https://chat.example.com"),
    ],
)
def test_a_webhook_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_webhook(url) == shown
    config = Config(notify=NotifyConfig(webhook=url))
    assert masked(config)["notify"]["webhook"] == shown
    assert "s3cret" not in json.dumps(masked(config))


def test_this_machine_is_known_by_its_name_or_number() -> None:
    assert [is_loopback(h) for h in ("localhost", "127.0.0.2", "::1", "h", "10.0.0.1", "")] == [True] * 3 + [False] * 3
