"""Addresses of parts that Azure could not join."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from mlflow.exceptions import _UnsupportedMultipartUploadException

from artifactd.tracking.blocks import refuse_uneven


def made(urls: Iterable[str]) -> Any:
    """What a repository makes of a server's answer, after we had a look."""
    answer = SimpleNamespace(credentials=[SimpleNamespace(url=url) for url in urls])
    repo = SimpleNamespace(create_multipart_upload=lambda _file, _parts: answer)
    refuse_uneven(repo)
    assert repo.create_multipart_upload("f", 2) is answer


def block(ident: str) -> str:
    encoded = quote(base64.b64encode(ident.encode()).decode(), safe="")
    return f"https://account.blob.core.windows.net/c/f?comp=block&blockid={encoded}&sig=abc%3D"


def test_ids_of_one_length_pass() -> None:
    made(block(f"mlflow_block_{n}") for n in range(1, 10))
    made(block(f"mlflow_block_{n:05}") for n in range(1, 600))


@pytest.mark.parametrize("last", [10, 100])
def test_ids_of_several_lengths_do_not(last: int) -> None:
    with pytest.raises(_UnsupportedMultipartUploadException):
        made(block(f"mlflow_block_{n}") for n in range(last - 1, last + 1))


def test_what_is_no_block_passes() -> None:
    made(f"https://bucket.s3.amazonaws.com/f?partNumber={n}&uploadId=abc" for n in (1, 10, 100))
    made([block("x")[:-20] + "%%%", block("x")[:-20] + "%%%"])
