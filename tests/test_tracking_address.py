"""A tracking URI that is nearly right: what is recognised without a server, and what is never guessed."""

from __future__ import annotations

import pytest

from artifactd.tracking import address
from support import free_port


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.17.2", "3.17.2"),
        (" 2.0.1\n", "2.0.1"),
        ("3.0.0rc1", "3.0.0rc1"),
        ("1.30.0.dev0+local", "1.30.0.dev0+local"),
        ("3", None),
        ("", None),
        ("<!doctype html><p>3.17.2", None),
        ("3.17.2 is what we run", None),
        ("1." + "0" * 100, None),
    ],
)
def test_only_a_version_is_one(text: str, version: str | None) -> None:
    assert address.version_in(text) == version


@pytest.mark.parametrize(
    ("uri", "said", "other"),
    [
        ("https://h:5000/m", "[SSL: WRONG_VERSION_NUMBER] wrong version number", "http://h:5000/m"),
        ("https://h:5000", "[SSL] record layer failure", "http://h:5000"),
        ("https://h", "[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", None),
        ("https://h", "Connection refused", None),
        ("http://h:1/m", "400: The plain HTTP request was sent to HTTPS port", "https://h:1/m"),
        ("http://h:1", "Read timed out", None),
    ],
)
def test_the_other_scheme_is_named_where_it_is_what_is_wrong(uri: str, said: str, other: str | None) -> None:
    assert address.other_scheme(uri, said) == other


def test_a_connection_that_is_cut_off_is_no_tls_unless_tls_is_spoken_there() -> None:
    said = "Remote end closed connection without response"
    assert address.other_scheme(f"http://127.0.0.1:{free_port()}", said) is None


@pytest.mark.parametrize(
    ("uri", "candidates"),
    [
        ("http://h:1", ["http://h:1/mlflow"]),
        ("http://h:1/", ["http://h:1/mlflow"]),
        ("https://h/mlflow/", ["https://h"]),
        ("https://u:p@h/other", ["https://u:p@h", "https://u:p@h/mlflow"]),
    ],
)
def test_prefixes_are_looked_for_on_the_same_host_alone(uri: str, candidates: list[str]) -> None:
    assert list(address._candidates(uri)) == candidates
