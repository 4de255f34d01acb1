"""The manifest: what is written is read back, looks as its schema says, and leads nowhere whoever wrote it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.manifest import (
    Checkpoint,
    File,
    Folder,
    Manifest,
    ManifestError,
    Version,
    is_manifest,
    leaf_of,
    read,
    write,
)
from schemas import hold

RUN_ID = "0123456789abcdef" * 2
names = (
    st.binary(min_size=1, max_size=20)
    .map(lambda n: re.sub(rb"[\0/]", b"x", n))
    .filter(lambda n: n not in (b".", b".."))
)
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
sizes = st.integers(0, 2**53)
digests = st.binary(min_size=32, max_size=32)
moments = st.integers(0, 4 * 10**15).map(lambda n: n / 10**6)
times = st.integers(-(10**18), 4 * 10**18)
modes = st.integers(0, 0o777)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
versions = st.builds(Version, st.integers(1, 9), texts, sizes, digests, moments)
files = st.builds(
    File, paths, texts, sizes, digests, times, st.none() | modes, moments, st.integers(1, 99), st.booleans(),
    st.dictionaries(st.integers(1, 9), versions, max_size=2).map(
        lambda kept: tuple(replace(kept[number], number=number) for number in sorted(kept))
    ),
)  # fmt: skip
folders = st.builds(Folder, paths | st.just(b""), modes, times)
checkpoints = st.dictionaries(paths | st.just(b""), st.booleans(), max_size=3).map(
    lambda found: tuple(Checkpoint(path, found[path]) for path in sorted(found))
)


def of(*files: File, folders: tuple[Folder, ...] = ()) -> Manifest:
    return Manifest("0.1", RUN_ID, "e", "r", "host", "ann", b"/drop", b"e/r", "a" * 40, files, folders)


def a_file(path: bytes = b"a", **more: Any) -> File:
    return replace(File(path, path.decode(), 3, b"d" * 32, 10**18 + 1, 0o644, 1_700_000_000.25, 1), **more)


@given(st.lists(files, max_size=4), st.lists(folders, max_size=3), names, checkpoints)
def test_what_is_written_is_read_back_and_looks_as_documented(
    files: list[File], folders: list[Folder], watch: bytes, checkpoints: tuple[Checkpoint, ...]
) -> None:
    made = replace(of(*files, folders=tuple(folders)), watch=watch, checkpoints=checkpoints)
    text = write(made)
    back = read(text)
    assert sorted(back.files, key=repr) == sorted(made.files, key=repr)
    assert sorted(back.folders, key=repr) == sorted(made.folders, key=repr)
    assert replace(back, files=(), folders=()) == replace(made, files=(), folders=())
    assert back.says(made)
    hold(json.loads(text), "manifest")


def test_it_is_the_same_text_in_whatever_order_and_a_line_a_file() -> None:
    one, two = a_file(b"a"), a_file(b"b")
    text = write(of(one, two))
    assert text == write(of(two, one))
    assert len([line for line in text.splitlines() if b'"sha256"' in line]) == 2


def test_a_name_that_is_no_text_has_its_bytes_too() -> None:
    (file,) = json.loads(write(of(replace(a_file(), path=b"\xff.txt"))))["files"]
    assert (file["path"], file["path_base64"]) == ("\ufffd.txt", "/y50eHQ=")


def test_when_it_was_stored_is_no_news_and_a_mode_is() -> None:
    old = of(a_file())
    assert of(a_file(stored_at=1.0, tries=7)).says(old)
    assert not of(a_file(mode=0o600)).says(old)
    assert not of(a_file(), a_file(b"b")).says(old)


def test_checkpoints_are_in_it_where_there_are_any() -> None:
    assert "checkpoints" not in json.loads(write(of(a_file())))
    torn, whole = (replace(of(a_file()), checkpoints=(Checkpoint(b"c-1", whole),)) for whole in (False, True))
    assert json.loads(write(torn))["checkpoints"] == [{"path": "c-1", "whole": False}]
    assert not whole.says(torn)
    assert read(write(of(a_file()))).checkpoints == (), "one of before"


def test_another_host_has_nothing_to_add_to_what_is_stored_already() -> None:
    both = of(a_file(), a_file(b"b", versions=(Version(1, "b_v0", 1, b"v" * 32, 1.0),)))
    assert both.covers(replace(of(a_file()), host="other"))
    assert not of(a_file()).covers(both)
    assert not both.covers(of(a_file(digest=b"x" * 32)))


@pytest.mark.parametrize("path", ["../up", "/abs", "a//b", "a/./b", "", "nul\0"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    data = json.loads(write(of(a_file())))
    data["files"][0]["path"] = path
    with pytest.raises(ManifestError, match="damaged"):
        read(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"), (b"[1]", "no manifest"), (b'{"artifactd_manifest": true}', "no manifest"),
        (b'{"artifactd_manifest": 2}', "newer artifactd"), (b'{"artifactd_manifest": 1}', "damaged"),
    ],
)  # fmt: skip
def test_what_is_none_says_why(text: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        read(text)


def test_no_program_gets_its_owners_rights_by_it() -> None:
    assert b'"mode": "0755"' in write(of(a_file(mode=0o4755)))
    text = write(of(a_file(mode=0o755))).replace(b'"0755"', b'"4755"')
    assert read(text).files[0].mode == 0o755


def test_its_names() -> None:
    assert is_manifest("artifactd/manifest.json")
    assert is_manifest(f"artifactd/{leaf_of('gpu-7.local')}")
    assert not is_manifest("artifactd/other.json")
    assert not is_manifest("plots/manifest.json")
    assert leaf_of("gpu-7") == "manifest.gpu-7.json"
