"""Tracking URIs and artifact locations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.config.problems import Mistake
from artifactd.config.uris import check_artifact_location, check_tracking_uri, local_folder, sqlite_file


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow:5000",
        "https://mlflow.example.com/prefix/",
        "HTTP://mlflow",
        "http://user:secret@mlflow:5000",
        "http://[::1]:5000",
        "sqlite:////srv/mlflow.db",
        "sqlite:///mlflow.db",
        "sqlite+pysqlite:////srv/mlflow.db",
        "postgresql://mlflow@db/mlflow",
        "postgresql+psycopg2://mlflow:secret@db:5432/mlflow",
        "mysql+pymysql://db/mlflow",
        "mssql+pyodbc://db/mlflow",
        "databricks",
        "databricks://profile",
    ],
)
def test_what_can_track_is_accepted_as_it_is(uri: str) -> None:
    assert check_tracking_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/path",
        "S3://bucket",
        "gs://b/p",
        "wasbs://c@a.blob.core.windows.net/p",
        "abfss://c@a/p",
        "sftp://u@h/p",
    ]
    + ["hdfs://n/p", "dbfs:/p", "r2://b@a.r2.cloudflarestorage.com/p", "ftp://h/p", "b2://b", "mlflow-artifacts:/p"],
)
def test_a_store_is_answered_with_artifact_location(uri: str) -> None:
    with pytest.raises(Mistake) as caught:
        check_tracking_uri(uri)
    assert f'write artifact_location = "{uri}" in [mlflow]' in caught.value.instead
    assert check_artifact_location(uri) == uri  # the answer works


@pytest.mark.parametrize(
    "uri", ["file:./mlruns", "file:///srv/mlruns", "/srv/mlruns", "./mlruns", "mlruns", "~/mlruns"]
)
def test_the_retired_file_store_is_answered_with_the_embedded_store_or_a_server(uri: str) -> None:
    with pytest.raises(Mistake, match="MLflow 3 has retired") as caught:
        check_tracking_uri(uri)
    assert "leave tracking_uri out for the embedded store" in caught.value.instead
    assert "http://mlflow:5000" in caught.value.instead


@pytest.mark.parametrize(
    ("uri", "instead"),
    [
        ("", "leave tracking_uri out"),
        ("  ", "leave tracking_uri out"),
        ("mlflow:5000", 'write "http://mlflow:5000"'),
        ("10.0.0.7:5000/mlflow", 'write "http://10.0.0.7:5000/mlflow"'),
        ("postgres://db/mlflow", "postgresql://"),
        ("uc", 'write "databricks"'),
        ("uc://host", 'write "databricks"'),
        ("databricks-uc", 'write "databricks"'),
        ("databricks-uc://p", 'write "databricks"'),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///:memory:", "three slashes"),
        ("sqlite:mlflow.db", "three slashes"),
        ("postgresql:db", "postgresql://user@host/database"),
        ("postgresql://", "postgresql://user@host/database"),
        ("http://", "host and port"),
        ("http:mlflow", "host and port"),
        ("http://mlflow:port", "host and port"),
        ("http://mlflow:70000", "host and port"),
        ("http://[::1", "host and port"),
        ("http://ml flow", "host and port"),
        ("gopher://mlflow", "write a server"),
        ("runs:/abc", "write a server"),
    ],
)
def test_other_mistakes_are_answered_with_what_was_meant(uri: str, instead: str) -> None:
    with pytest.raises(Mistake) as caught:
        check_tracking_uri(uri)
    assert instead in caught.value.instead


@given(st.text() | st.from_regex(r"\A[a-z0-9+]{0,10}:/{0,4}[^/]{0,5}[@:/?#\[\]]{0,3}.{0,5}\Z"))
def test_no_text_breaks_the_checks(text: str) -> None:
    for check in (check_tracking_uri, check_artifact_location):
        try:
            assert check(text) == text
        except Mistake as mistake:
            assert mistake.wrong.isprintable() and mistake.instead  # noqa: PT017, PT018 - most texts are wrong


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket/path",
        "/srv/artifacts",
        "file:///srv/artifacts",
        "file://localhost/srv",
        "dbfs:/",
        "mlflow-artifacts:/",
    ]
    + ["mlflow-artifacts:/sub", "https://store/x", "hdfs:///path", "custom://x"],
)
def test_a_url_or_an_absolute_path_is_an_artifact_location(location: str) -> None:
    assert check_artifact_location(location) == location


@pytest.mark.parametrize(
    "location",
    ["", "artifacts", "./artifacts", "~/artifacts", "s3:", "s3://", "s3:bucket", "bucket/path", "file://server/share"]
    + ["runs:/abc/x", "models:/m/1"],
)
def test_anything_else_is_no_artifact_location(location: str) -> None:
    with pytest.raises(Mistake):
        check_artifact_location(location)


@pytest.mark.parametrize("location", ["sqlite:////srv/mlflow.db", "postgresql+psycopg2://db/mlflow"])
def test_a_database_as_artifact_location_is_answered_with_tracking_uri(location: str) -> None:
    with pytest.raises(Mistake) as caught:
        check_artifact_location(location)
    assert f'write tracking_uri = "{location}"' in caught.value.instead


def test_passwords_do_not_stand_in_the_answers() -> None:
    for check, uri in (
        (check_tracking_uri, "sftp://u:s3cret@host/p"),
        (check_artifact_location, "mysql://u:s3cret@db/x"),
    ):
        with pytest.raises(Mistake) as caught:
            check(uri)
        assert "s3cret" not in str(caught.value)
        assert "***" in str(caught.value)


def test_local_places_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert sqlite_file("sqlite:////srv/mlflow.db?timeout=5") == "/srv/mlflow.db"
    assert sqlite_file("sqlite+pysqlite:///mlflow.db") == "/mlflow.db"
    assert sqlite_file("http://mlflow:5000") is None
    assert local_folder("/srv/artifacts") == "/srv/artifacts"
    assert local_folder("file:///srv/my%20artifacts") == "/srv/my artifacts"
    assert local_folder("s3://bucket/srv") is None
