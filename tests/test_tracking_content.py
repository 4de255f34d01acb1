"""Content types: by the name alone, the same on every host (what stores keep of them: stores/test_object_types.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.names import encode_component
from artifactd.tracking.content import UNKNOWN, content_type


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        ("a.csv", "text/csv"),
        ("A.CSV", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.tgz", "application/gzip"),
        ("a.html", "text/html"),
        ("a.json", "application/json"),
        ("a.pdf", "application/pdf"),
        ("a.mp4", "video/mp4"),
        ("MLmodel", "application/yaml"),
        ("a.mlmodel", UNKNOWN),
        (".csv", UNKNOWN),
        ("a", UNKNOWN),
        ("", UNKNOWN),
        ("epoch:3.png", "image/png"),
        ("data:text,1.png", "image/png"),
        ("a_x23_1.png", "image/png"),
        ("a.png_x20_", UNKNOWN),
        ("events.out.tfevents.1795676028.host", UNKNOWN),
        ("model_v2.json", "application/json"),
    ],
)
def test_the_name_says_it(leaf: str, kind: str) -> None:
    assert content_type(leaf) == kind


@given(st.binary(min_size=1, max_size=300).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_has_one_that_a_header_can_carry(name: bytes) -> None:
    kind = content_type(encode_component(name).rpartition("/")[2])
    assert kind.isascii()
    assert kind.count("/") == 1
    assert kind.isprintable()


def test_no_name_that_is_written_otherwise_loses_its_suffix() -> None:
    """What is escaped stands before it, and a long name is cut before it too."""
    for name in (
        b"loss#1.png",
        b"50%.png",
        b"back\\slash.png",
        b" lead.png",
        b"n" * 300 + b"#.png",
        b"#" * 240 + b".png",
    ):
        leaf = encode_component(name).rpartition("/")[2]
        assert leaf.endswith(".png")
        assert content_type(leaf) == "image/png"


def test_the_hosts_tables_change_nothing(tmp_path: Path) -> None:
    tables = tmp_path / "mime.types"
    tables.write_text("text/evil csv png parquet jsonl unheard\n")
    code = (
        "import mimetypes, sys; mimetypes.knownfiles[:] = [sys.argv[1]]; mimetypes.init()\n"
        "from artifactd.tracking.content import content_type\n"
        "assert mimetypes.guess_type('a.csv')[0] == 'text/evil'\n"
        "print([content_type('a.' + s) for s in ('csv', 'png', 'parquet', 'jsonl', 'unheard')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tables)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert said.stdout.strip() == str(
        ["text/csv", "image/png", "application/vnd.apache.parquet", "application/x-ndjson", UNKNOWN]
    )
