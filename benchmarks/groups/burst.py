"""A burst of files into folders that are there already: are all seen, how soon, and what does that cost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from costs import cpu
from dropping import USUAL_SETTLE, Service
from rows import OURS, Goal, Row
from setting import Setting

from artifactd.ledger.schema import FILE_NAME
from stores.form import Form
from support import free_port, wait_for

_BARE = "stat + SQLite insert"
_EVENTS = "watchdog alone"
_ALONE = Path(__file__).parents[1] / "events_alone.py"


def measure(setting: Setting) -> Iterator[Row]:
    """Rows for what was lost, how late it was seen, and the processor time of each file."""
    files, folders = setting.scale.burst_files, setting.scale.burst_folders
    lost, late, costs, bare, alone, rates = [], [], [], [], [], []
    for _ in range(setting.scale.rounds):
        base = setting.folder("burst")
        # Nothing can be sent: what is measured is seeing.
        form = Form("none", f"http://127.0.0.1:{free_port()}")
        with Service(base / "service", form, experiment="burst", settle=USUAL_SETTLE) as service:
            below = _folders(service.run, folders)
            database = service.program.state / FILE_NAME
            _watched(service)
            time.sleep(1)
            before = cpu(service.pid)
            rates.append(_written(below, files))
            end = time.time()
            seen, at = _seen(database, files, end + 30)
            costs.append(1e6 * (cpu(service.pid) - before) / max(1, seen))
            lost.append(float(files - seen))
            late.append(max(0.0, at - end))
        bare.append(1e6 * _inserted(below, base / "bare.db") / files)
        alone.append(float(files - _by_events(base / "alone", folders, files)))
        for folder in below:
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")
    work = f"burst of {files:,} files into {folders} folders"
    note = f"at {min(rates):,.0f} to {max(rates):,.0f} files/s"
    yield Row("burst", f"{work}: lost", "files", {OURS: lost, _EVENTS: alone}, [Goal("value", 0, statistic="max")],
              note=note)  # fmt: skip
    yield Row("burst", f"{work}: the last is seen after its end", "s", {OURS: late}, [Goal("value", 10)], note=note)
    yield Row("burst", f"{work}: processor time of each", "µs", {OURS: costs, _BARE: bare}, [Goal("costs", 3, _BARE)],
              limit=_BARE, note=note)  # fmt: skip


def _watched(service: Service) -> None:
    """Wait until events come."""

    def stands() -> bool:
        return any(watch["mode"] == "events" for watch in service.program.status().get("watches", []))

    wait_for(stands, "the watch stands", 60)


def _folders(base: Path, folders: int) -> list[str]:
    made = [base / f"folder-{n}" for n in range(folders)]
    for folder in made:
        folder.mkdir(parents=True)
    return list(map(str, made))


def _written(folders: list[str], files: int) -> float:
    """Write the files, each into the next folder; files a second."""
    begun = time.perf_counter()
    for n in range(files):
        fd = os.open(f"{folders[n % len(folders)]}/{n}.txt", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, b"twenty bytes of text")
        os.close(fd)
    return files / (time.perf_counter() - begun)


def _seen(database: Path, files: int, deadline: float) -> tuple[int, float]:
    """How many files the ledger holds once it holds all, or at the deadline; when that was (unix seconds)."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        while True:
            ((count,),) = db.execute("SELECT count(*) FROM files").fetchall()
            if count >= files or time.time() > deadline:
                return count, time.time()
            time.sleep(0.2)


def _inserted(folders: list[str], database: Path) -> float:
    """Processor seconds of the least that a memory of files costs."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE files (folder, name, size, mtime, inode, PRIMARY KEY (folder, name)) WITHOUT ROWID")
        begun = time.process_time()
        for number, folder in enumerate(folders):
            db.execute("BEGIN")
            with os.scandir(folder) as entries:
                for entry in entries:
                    s = entry.stat(follow_symlinks=False)
                    row = (number, entry.name, s.st_size, s.st_mtime_ns, s.st_ino)
                    db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", row)
            db.execute("COMMIT")
        return time.process_time() - begun


def _by_events(base: Path, folders: int, files: int) -> int:
    """How many files watchdog's own observer tells of."""
    below = _folders(base, folders)
    call = [sys.executable, str(_ALONE), str(base)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _written(below, files)
        answer, _ = process.communicate()
    return int(answer)
