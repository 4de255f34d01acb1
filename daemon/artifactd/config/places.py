"""Folders: how they are written, and which must not lie within one another (watched, written to by us or by MLflow)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifactd.config.problems import Loc, Mistake, dotted, shown
from artifactd.config.uris import embedded_uri, local_folder, sqlite_file


def absolute_path(value: object) -> Path:
    """Read an absolute path; ``~`` is the home folder, symbolic links stay as they are.

    Raises:
        Mistake: If it is none.
    """
    if not isinstance(value, str | os.PathLike):
        raise Mistake(f"{shown(value)} is no path", 'write it as text, as "/data/drop"')
    text = os.path.expanduser(os.fsdecode(value))
    if not text or "\0" in text:
        raise Mistake(f"{shown(text)} is no path", 'write the whole path, as "/data/drop"')
    if not text.startswith("/"):
        raise Mistake(f"{shown(text)} does not say from where", 'write the whole path from "/" on, as "/data/drop"')
    # POSIX lets two leading slashes mean something else; on Linux they do not.
    return Path(f"/{os.path.normpath(text).lstrip('/')}")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders that a configuration names, as far as they are known.

    Attributes:
        watches: Each watched folder with its key.
        state_dir: The state folder.
        tracking_uri: Where runs are tracked; None when that is wrong itself.
        artifact_location: Where new experiments keep their artifacts.
    """

    watches: Sequence[tuple[Loc, Path]]
    state_dir: Path | None
    tracking_uri: str | None
    artifact_location: str | None


def clashes(places: Places) -> Iterator[tuple[Loc, Mistake]]:
    """Find watched folders that overlap with one another, or with what must not be watched.

    Symbolic links are followed, as far as the folders exist.
    """
    real = [(loc, path, os.path.realpath(path)) for loc, path in places.watches]
    if places.state_dir is not None and "?" in str(places.state_dir):
        yield ("state_dir",), Mistake("a '?' ends the path in a SQLite URL", "take a folder without it")
    if mistake := _homeless(places):
        yield ("mlflow", "artifact_location"), mistake
    for index, (loc, path, folder) in enumerate(real):
        if os.path.exists(folder) and not os.path.isdir(folder):
            yield loc, Mistake(f"{shown(str(path))} is no folder", "write the folder that holds it")
        for other_loc, other_path, other in real[:index]:
            if is_inside(folder, other) or is_inside(other, folder):
                yield loc, _overlap(folder, other, f"{dotted(other_loc)} ({shown(str(other_path))})")
        yield from ((loc, mistake) for mistake in _held(path, folder, places))


def _homeless(places: Places) -> Mistake | None:
    """A database that a client opens by itself names no artifact store: MLflow would take ./mlruns of any folder."""
    uri = places.tracking_uri
    if uri is None or places.state_dir is None or places.artifact_location is not None:
        return None
    if uri.startswith(("http://", "https://", "databricks")) or uri == embedded_uri(places.state_dir):
        return None
    return Mistake(
        "with a database as tracking_uri nothing says where artifacts are kept",
        'write a folder or store, as artifact_location = "/srv/mlflow-artifacts" or "s3://bucket/path"',
    )


def is_inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it; both absolute and without symbolic links."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _overlap(folder: str, other: str, name: str) -> Mistake:
    if folder == other:
        return Mistake(f"it is the same folder as {name}", "keep one of the two")
    if is_inside(folder, other):
        return Mistake(f"it lies inside {name}", "keep one of the two, so that no file is delivered twice")
    return Mistake(f"it holds {name}", "keep one of the two, so that no file is delivered twice")


def _held(path: Path, folder: str, places: Places) -> Iterator[Mistake]:
    if places.state_dir is not None:
        state = os.path.realpath(places.state_dir)
        if is_inside(state, folder):
            yield Mistake(
                f"it holds the state folder {shown(str(places.state_dir))}, which would be delivered and grow by it",
                f"set state_dir (--state-dir) to a folder outside of {shown(str(path))}, or watch a folder beside it",
            )
            return
        if places.tracking_uri == embedded_uri(places.state_dir):
            artifacts = os.path.realpath(places.state_dir / "artifacts")
            if is_inside(artifacts, folder) or is_inside(folder, artifacts):
                yield Mistake(
                    f"it is where the embedded store keeps its files, {shown(artifacts)}",
                    "watch the folder that your jobs write to",
                )
    database = sqlite_file(places.tracking_uri or "")
    if database and is_inside(os.path.realpath(database), folder):
        yield Mistake(f"it holds the tracking database {shown(database)}", _outside(path))
    store = local_folder(places.artifact_location or "")
    if store and is_inside(os.path.realpath(store), folder):
        yield Mistake(
            f"it holds artifact_location {shown(store)}, so what is stored would be delivered again", _outside(path)
        )


def _outside(path: Path) -> str:
    return f"move it out of {shown(str(path))}, or watch a folder beside it"
