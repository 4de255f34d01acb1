"""The way that files take, in words."""

from __future__ import annotations

import pytest

from artifactd.tracking import way
from support import free_port


@pytest.mark.parametrize(
    ("location", "tracking_uri", "says", "warnings"),
    [
        ("s3://b/x", "sqlite:///m.db", "no server between", 0),
        ("file:///a", "sqlite:///m.db", "no server between", 0),
        ("s3://b/x", "http://h", "past the server, since it gives s3:", 0),
        ("sftp://h/x", "https://h", "past the server, since it gives sftp:", 0),
        ("file:///a", "http://h", "past the server, since it gives a folder", 1),
        ("/a/b", "http://h", "past the server, since it gives a folder", 1),
    ],
)
def test_direct_ways_ask_nobody(location: str, tracking_uri: str, says: str, warnings: int) -> None:
    line, minding = way.way_to(location, tracking_uri)
    assert says in line
    assert len(minding) == warnings


def test_a_folder_past_the_server_is_warned_of() -> None:
    _, (caution,) = way.way_to("file:///a", "http://h")
    assert "sees the same folder" in caution.what
    assert "--serve-artifacts" in caution.cure


@pytest.mark.parametrize("scheme", ["mlflow-artifacts", "http", "https"])
def test_through_a_server_that_says_nothing_there_is_nothing_to_mind(scheme: str) -> None:
    line, minding = way.way_to(f"{scheme}:/0/r/artifacts", f"http://127.0.0.1:{free_port()}")
    assert line == f"through the server, since it gives {scheme}: as the location"
    assert minding == []


@pytest.mark.parametrize(
    ("uri", "variables", "says"),
    [
        ("https://h", {"MLFLOW_TRACKING_INSECURE_TLS": "true"}, ["certificate is not looked at"]),
        ("https://h", {"MLFLOW_TRACKING_INSECURE_TLS": "false"}, []),
        ("http://h", {"MLFLOW_TRACKING_PASSWORD": "hunter2"}, ["unencrypted"]),
        ("http://h", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, ["unencrypted"]),
        ("http://u:hunter2@h", {}, ["unencrypted"]),
        ("https://u:hunter2@h", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, []),
        ("http://127.0.0.1:5000", {"MLFLOW_TRACKING_PASSWORD": "hunter2"}, []),
        ("http://h", {}, []),
    ],
)
def test_what_to_mind_of_the_connection(
    uri: str, variables: dict[str, str], says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = [str(caution) for caution in way.warnings_of(uri)]
    assert len(found) == len(says)
    assert all(word in text for word, text in zip(says, found, strict=True))
    assert "hunter2" not in "".join(found)
