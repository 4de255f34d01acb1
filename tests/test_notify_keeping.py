"""What outlives the process: whole, or as if there were none."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactd.notify import keeping
from artifactd.notify.keeping import FILE_NAME, Kept, load, save
from artifactd.notify.pace import Known, Memory

TIMES = st.floats(0, 4e9)
MEMORIES = st.builds(
    Memory,
    st.dictionaries(st.tuples(st.text(), st.text()), st.builds(Known, TIMES, st.integers(0, 10**9)), max_size=3),
    st.none() | TIMES,
)
KEPT = Kept({"command:1": Memory({("disk", "/s"): Known(5.0, 1)}, 7.5)}, {"/d": 3.0})


@settings(max_examples=25)
@given(
    kept=st.builds(
        Kept, st.dictionaries(st.text(), MEMORIES, max_size=2), st.dictionaries(st.text(), TIMES, max_size=2)
    )
)
def test_what_is_kept_is_what_comes_back(kept: Kept) -> None:
    assert keeping._kept(json.loads(json.dumps(keeping._data(kept)))) == kept


def test_it_is_one_small_file_of_the_owners_alone(tmp_path: Path) -> None:
    assert load(tmp_path) == Kept()
    save(tmp_path, Kept())
    save(tmp_path, KEPT)
    assert load(tmp_path) == KEPT
    assert os.listdir(tmp_path) == [FILE_NAME]
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"7", b'{"version": 2}', b'{"version": 1}', b"\xff",
        b'{"version":1,"waiting":[],"told":{}}',
        b'{"version":1,"waiting":{"/d":1e300},"told":{}}', b'{"version":1,"waiting":{"/d":NaN},"told":{}}',
        b'{"version":1,"waiting":{"/d":1' + b"0" * 400 + b'},"told":{}}', b"[" * 100_000,
        b'{"version":1,"waiting":{},"told":{"a":{"tried_at":1,"known":[["disk","/s",1,Infinity]]}}}',
        b'{"version":1,"waiting":{},"told":{"a":{"tried_at":"x","known":[]}}}',
        b'{"version":1,"waiting":{},"told":{"a":{"tried_at":1,"known":[["disk"]]}}}',
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_counts_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert load(tmp_path) == Kept()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, KEPT)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, Kept())
    assert load(tmp_path) == KEPT
    assert os.listdir(tmp_path) == [FILE_NAME]
