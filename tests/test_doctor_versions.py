from __future__ import annotations

from importlib.metadata import version

import pytest

from artifactd import __version__, installation
from artifactd.doctor import versions
from artifactd.doctor.finding import Level


def test_what_is_here() -> None:
    (found,) = versions.here()
    assert found.level is Level.OK
    assert found.detail.startswith(f"artifactd {__version__}, MLflow {version('mlflow-skinny')}")
    told = versions.versions()
    assert told["mlflow-skinny"] == version("mlflow-skinny")
    assert told["artifactd"] == __version__


def test_sdks_of_the_stores_at_hand() -> None:
    found = list(versions.sdks(["s3", "wasbs", "gs", "sftp", "file", "s3"]))
    assert [(f.what, f.level) for f in found] == [
        (f"client for {scheme}:", Level.OK) for scheme in ("gs", "s3", "sftp", "wasbs")
    ]
    assert found[1].detail == f"boto3 {version('boto3')}"


def test_one_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions._SDKS, "s3", ("s3", ("a-package-that-nobody-has",)))
    (found,) = versions.sdks(["s3"])
    assert found.level is Level.WRONG
    assert found.cure == str(installation.here().with_extra("s3"))


def test_a_store_of_a_plugin_is_not_judged() -> None:
    (found,) = versions.sdks(["hdfs"])
    assert (found.level, found.cure) == (Level.NOTICE, "artifactd check")
