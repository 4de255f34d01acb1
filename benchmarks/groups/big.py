"""One big file: into a local folder, through a server, to S3. The store is a new one for each round: it takes space."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from costs import MIB, timed
from dropping import Service, write_files
from rows import OURS, Goal, Row, interleaved
from setting import Setting

from groups.small import rclone
from stores.form import Form
from stores.seaweed import BUCKET

_ONE = "log_artifact"
_COPY = "cp"
_RAW = "requests"
_BOTO = "boto3, 16 threads"
_RCLONE = "rclone"


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each store."""
    for store, limits in (("local", [_COPY]), ("server", [_RAW]), ("s3", _ready([_BOTO, _RCLONE]))):
        if store not in setting.stores:
            continue
        goals = [Goal("faster", 0.97, _ONE), *(Goal("faster", 0.9, limit) for limit in limits)]
        values: dict[str, list[float]] = {}
        for n in range(setting.scale.big_rounds):
            for side, seconds in _round(setting, store, limits, n).items():
                values.setdefault(side, []).extend(seconds)
        name = {"local": "local folder", "server": "MLflow server, a folder", "s3": "S3"}[store]
        size = setting.scale.big_mib
        yield Row("big", f"one file of {size:,} MiB: {name}", "MiB/s", values, goals, amount=size, limit=limits[-1])


def _ready(sides: list[str]) -> list[str]:
    return [side for side in sides if side != _RCLONE or shutil.which("rclone")]


def _round(setting: Setting, store: str, limits: list[str], n: int) -> dict[str, list[float]]:
    base = setting.folder("big")
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, base, ignore_errors=True)
        form = setting.fresh(store, ends)
        hand = setting.by_hand(form, ends)
        run = hand.run("big by hand", form.artifact_location)
        service = setting.service("big", form, ends)
        sides: dict[str, Callable[[Path], float]] = {
            OURS: lambda source: _dropped(service, source),
            _ONE: lambda source: hand.log(run, _file(source), source.name),
            _COPY: lambda source: timed(["cp", *_file(source), str(base / "copy")]),
            _RAW: lambda source: hand.put(_file(source), source.name, 1),
            _BOTO: lambda source: hand.s3(_file(source), source.name, BUCKET, 16),
            _RCLONE: lambda source: rclone(form, Path(_file(source)[0]), source.name),
        }
        for side in (OURS, _ONE, *limits):
            sides[side](write_files(base / f"warm-{side[:3]}", 1, 4096))
        # One source is enough: whoever is asked gives it back, and none of them changes it.
        source = write_files(base / f"big-{n}", 1, setting.scale.big_mib * MIB)
        calls = {}
        for side in (OURS, _ONE, *limits):
            calls[side] = lambda _n, side=side: _measured(sides[side], source, form, base)
        order = dict(calls if n % 2 == 0 else reversed(calls.items()))
        return interleaved(1, order)


def _measured(send: Callable[[Path], float], source: Path, form: Form, base: Path) -> float:
    seconds = send(source)
    (base / "copy").unlink(missing_ok=True)
    if form.artifact_location is not None and form.artifact_location.startswith("file:"):
        for stored in Path(urlsplit(form.artifact_location).path).rglob("*.bin"):
            stored.unlink()  # a folder takes as much space as was sent to it
    return seconds


def _file(source: Path) -> list[str]:
    return [str(path) for path in source.iterdir()]


def _dropped(service: Service, source: Path) -> float:
    seconds = service.drop(source)
    (service.run / source.name).rename(source)
    return seconds
