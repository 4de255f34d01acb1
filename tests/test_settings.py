"""How a command finds its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.config import ConfigError, load
from artifactd.errors import UsageError
from artifactd.settings import duration, reader_config, service_config
from cli_support import own_environment


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_environment(tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "drop").mkdir()
        yield


def config(base: Path, more: str = "") -> Path:
    path = base / "config.toml"
    path.write_text(f'state_dir = "{base}/from-file"\n[[watch]]\npath = "{base}/drop"\nsettle = "9s"\n{more}')
    return path


def test_who_only_looks_needs_no_file(tmp_path: Path) -> None:
    found = reader_config(None, None)
    assert (found.watch, found.state_dir) == ((), tmp_path / ".local" / "state" / "artifactd")
    assert reader_config(None, Path("here")).state_dir == tmp_path / "here"


def test_who_only_looks_reads_the_file_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path)
    assert reader_config(file, None).state_dir == tmp_path / "from-file"
    assert reader_config(file, Path("flag")).state_dir == tmp_path / "flag"
    monkeypatch.setenv("ARTIFACTD_CONFIG", str(file))
    assert reader_config(None, None).watch[0].path == tmp_path / "drop"


def test_who_only_looks_goes_by_a_file_that_nobody_filled_in_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the Debian package brings it: beside it, a user has a folder delivered by `artifactd sync DIR`."""
    file = tmp_path / "system.toml"
    monkeypatch.setattr(load, "SYSTEM_FILE", file)
    file.write_text(f'state_dir = "{tmp_path}/of-service"\n')
    found = reader_config(None, None)
    assert (found.watch, found.state_dir) == ((), tmp_path / "of-service")
    monkeypatch.setenv("ARTIFACTD_STATE_DIR", str(tmp_path / "own"))
    assert reader_config(None, None).state_dir == tmp_path / "own"
    for named, strict in ((None, True), (file, False)):
        with pytest.raises(ConfigError, match="no folder is watched"):
            reader_config(named, None, strict=strict)
    file.write_text("stat_dir = 1\n")
    with pytest.raises(ConfigError, match="stat_dir"):
        reader_config(None, None)


def test_a_mistake_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError):
        reader_config(tmp_path / "missing.toml", None)
    with pytest.raises(ConfigError, match="stle"):
        reader_config(config(tmp_path, 'stle = "1s"\n'), None)
    monkeypatch.setenv("ARTIFACTD_UPLOAD__WORKERS", "many")
    with pytest.raises(ConfigError, match="ARTIFACTD_UPLOAD__WORKERS"):
        reader_config(None, None)


def test_who_delivers_needs_something_to_watch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        service_config(None, None)
    with pytest.raises(UsageError, match="nowhere does not exist"):
        service_config(None, None, directory=Path("nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        service_config(None, None, directory=Path("file"))


def test_flags_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_LOG__LEVEL", "error")
    plain = service_config(config(tmp_path), None)
    assert (plain.watch[0].settle, plain.log.level, plain.source) == (9.0, "error", str(tmp_path / "config.toml"))
    given = service_config(
        config(tmp_path), Path("state"), settle="200ms", log_level="debug", log_format="json", directory=Path("drop")
    )
    assert (given.watch[0].settle, given.log.level, given.log.format) == (0.2, "debug", "json")
    assert given.state_dir == tmp_path / "state"
    assert given.source == str(tmp_path / "config.toml")


def test_durations() -> None:
    assert duration(None, "--deadline") is None
    assert duration("1m30s", "--deadline") == 90
    with pytest.raises(UsageError, match='--deadline: "soon" is no duration'):
        duration("soon", "--deadline")
