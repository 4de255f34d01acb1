"""Links lead to MLflow's pages, and nowhere else."""

from __future__ import annotations

import pytest

from artifactd.exposition.links import run_page


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("http://mlflow:5000", "http://mlflow:5000/#/runs/abc"),
        ("https://mlflow.example/base/", "https://mlflow.example/base/#/runs/abc"),
        ("http://[::1]:5000/", "http://[::1]:5000/#/runs/abc"),
        ("https://user:***@mlflow.example", "https://mlflow.example/#/runs/abc"),
        ("https://***@mlflow.example?token=***#x", "https://mlflow.example/#/runs/abc"),
        ("https://mlflow.example/***/base", None),
        ("sqlite:////var/lib/mlflow.db", None),
        ("javascript:alert(1)", None),
        ("javascript://host/%0aalert(1)", None),
        ("file:///etc", None),
        ("databricks", None),
        ("http://", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_only_a_web_address_has_a_page_and_without_its_secrets(target: str, page: str | None) -> None:
    assert run_page(target, "abc") == page


@pytest.mark.parametrize("run_id", [None, "", "a/b", "../x", "a b", "x" * 65])
def test_what_is_no_run_id_has_none(run_id: str | None) -> None:
    assert run_page("http://mlflow:5000", run_id) is None
