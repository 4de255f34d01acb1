"""Thousands of small files: into a local folder, through a server, to S3."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from by_hand import ByHand
from costs import timed
from dropping import write_files
from rows import OURS, Goal, Row, interleaved
from setting import Setting

from stores.form import Form
from stores.seaweed import BUCKET

_SIZE = 4096
_LOOP = "loop over log_artifact"
_ALL = "log_artifacts"
_COPY = "cp -r"
_RAW = "requests, 8 threads"
_BOTO = "boto3, 16 threads"
_RCLONE = "rclone, 16 at a time"


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each store."""
    for store in setting.stores:
        yield {"local": _local, "server": _server, "s3": _s3}[store](setting)


def _local(setting: Setting) -> Row:
    return _row(
        setting, "local", setting.scale.local_files, _COPY, [Goal("faster", 5.0, _LOOP), Goal("faster", 1.0, _ALL)],
        lambda hand, run: {
            _ALL: lambda source: hand.log_all(run, str(source), source.name),
            _COPY: lambda source: _copied(source, setting.folder("copy")),
        },
    )  # fmt: skip


def _server(setting: Setting) -> Row:
    return _row(
        setting, "server", setting.scale.server_files, _RAW, [Goal("faster", 2.2, _LOOP), Goal("faster", 1.1, _RAW)],
        lambda hand, _run: {_RAW: lambda source: hand.put(_files(source), source.name, 8)},
    )  # fmt: skip


def _s3(setting: Setting) -> Row:
    best = _RCLONE if shutil.which("rclone") else _BOTO
    s3 = setting.form("s3")

    def peers(hand: ByHand, _run: str) -> dict[str, Callable[[Path], float]]:
        found: dict[str, Callable[[Path], float]] = {_BOTO: lambda s: hand.s3(_files(s), s.name, BUCKET, 16)}
        if best == _RCLONE:
            found[_RCLONE] = lambda source: rclone(s3, source, source.name)
        return found

    goals = [Goal("faster", 5.0, _LOOP), Goal("faster", 0.8, _BOTO)]
    goals += [Goal("faster", 0.8, _RCLONE)] if best == _RCLONE else []
    return _row(setting, "s3", setting.scale.server_files, best, goals, peers)


def _row(
    setting: Setting, store: str, files: int, limit: str, goals: list[Goal],
    others: Callable[[ByHand, str], dict[str, Callable[[Path], float]]],
) -> Row:  # fmt: skip
    """All sides before one store; each round has new files, and before it a few go every way."""
    form = setting.form(store)
    base = setting.folder("small")
    with ExitStack() as ends:
        hand = setting.by_hand(form, ends)
        run = hand.run(f"small by hand, {form.name}", form.artifact_location)
        service = setting.service("small", form, ends)
        for n in range(1 if setting.hasty else 3):
            # Every worker makes its connections and imports with its first files.
            service.drop(write_files(base / f"first-{n}", 8 if setting.hasty else 300, _SIZE))
        sides: dict[str, Callable[[Path], float]] = {
            OURS: service.drop,
            _LOOP: lambda source: hand.log(run, _files(source), source.name),
            **others(hand, run),
        }

        def one(n: int, side: str) -> float:
            for what, count in (("warm", 8), ("round", files)):
                source = write_files(base / "sources" / f"{what}-{n}-{len(side)}-{side[:3]}", count, _SIZE)
                seconds = sides[side](source)
            return seconds

        calls = {side: (lambda n, side=side: one(n, side)) for side in sides}
        values = interleaved(setting.scale.rounds, calls)
    work = f"{files:,} files of 4 KiB: {form.name}"
    return Row("small", work, "files/s", values, goals, amount=files, limit=limit)


def _files(source: Path) -> list[str]:
    return sorted(map(str, source.iterdir()))


def _copied(source: Path, to: Path) -> float:
    return timed(["cp", "-r", str(source), str(to)])


def rclone(form: Form, source: Path, folder: str) -> float:
    """Copy a folder, or a file, into the bucket by rclone; seconds, its start in them."""
    environ = form.environ
    variables = {
        "RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "Other",
        "RCLONE_CONFIG_S_ENDPOINT": environ["MLFLOW_S3_ENDPOINT_URL"],
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": environ["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": environ["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_S_REGION": environ["AWS_DEFAULT_REGION"], "RCLONE_CONFIG": "/dev/null", "AWS_CA_BUNDLE": "",
    }  # fmt: skip
    call = ["rclone", "copy", "--transfers=16", "--no-check-dest", "--s3-no-check-bucket", "--quiet", str(source)]
    return timed([*call, f"s:{BUCKET}/rclone/{folder}"], **variables)
