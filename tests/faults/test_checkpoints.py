"""A checkpoint's marker over kills: wherever the program dies, a store that has the marker has the rest as well."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from presets.replay import MARKER, SET
from support import Program

KILLED = -signal.SIGKILL
FIRST, SECOND, THIRD = (b'{"log_history": [], "global_step": %d}' % step for step in (1, 2, 3))


@pytest.mark.timeout(240)
def test_a_kill_never_leaves_a_marker_alone(tmp_path: Path) -> None:
    program = Program(tmp_path, watch='preset = "huggingface"\n', more="[upload]\nworkers = 1\n")
    folder = program.drop / "e" / "r" / "checkpoint-5"
    folder.mkdir(parents=True)

    def save(content: bytes, *names: str) -> None:
        for name in names:
            (folder / name).write_bytes(content)

    def held() -> dict[str, bytes]:
        found = (program.state / "artifacts").glob("*/artifacts/checkpoint-5/*")
        return {path.name: path.read_bytes() for path in found}

    def sync(step: str = "") -> int:
        return program.call("sync", _ARTIFACTD_FAILPOINT=step).returncode

    save(FIRST, MARKER, *SET)
    assert sync("upload.after:4") == KILLED
    assert 1 < len(held()) < len(SET)
    assert MARKER not in held()
    assert sync() == 0
    assert held() == dict.fromkeys((MARKER, *SET), FIRST)

    save(SECOND, SET[1], MARKER)
    assert sync("upload.after:1") == KILLED
    assert (held()[SET[1]], held()[MARKER]) == (SECOND, FIRST)
    assert sync("upload.after:1") == KILLED, "the model is there; it is the marker that is sent, and no receipt of it"
    save(THIRD, SET[1])
    assert sync() == 0
    assert (held()[SET[1]], held()[MARKER]) == (THIRD, SECOND)
