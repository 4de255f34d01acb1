"""The ledger: its size for each file, and whether work on a file costs more when it remembers many others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dropping import Service, write_files
from rows import OURS, Goal, Row, interleaved
from seed import name_of, remember, seed, size
from setting import Setting

from artifactd.ledger.schema import connect
from groups.start import scan_cpu


def measure(setting: Setting) -> Iterator[Row]:
    """A row for the size, and one for the growth."""
    yield _size(setting)
    scale = setting.scale
    sample = scale.ledger_rows_before
    services = {
        rows: _with_rows(setting, setting.folder(f"ledger-{rows}"), sample, rows) for rows in (0, scale.ledger_rows)
    }
    names = {0: f"with {sample:,} rows", scale.ledger_rows: OURS}
    calls = {
        names[rows]: (lambda _n, service=service: 1e6 * scan_cpu(service) / sample)
        for rows, service in services.items()
    }
    values = interleaved(scale.rounds, calls)
    rows = sample + scale.ledger_rows
    each = size(services[scale.ledger_rows]) / rows
    yield Row(
        "ledger", f"start, processor time a file at rest, {rows:,} rows in the ledger", "µs",
        {OURS: values[OURS], names[0]: values[names[0]]}, [Goal("costs", 1.3, names[0])],
        note=f"{sample:,} files on disk; the others' rows are generated ({each:.0f} B each)",
    )  # fmt: skip


def _size(setting: Setting) -> Row:
    files = setting.scale.ledger_files
    base = setting.folder("ledger")
    service = Service(base / "service", setting.form("local"), experiment="ledger")
    connect(base / "empty.db", create=True).close()
    empty = (base / "empty.db").stat().st_size
    with service:
        for n in range(4):
            service.drop(write_files(base / f"part-{n}", files // 4, 16, name_of))
    return Row("ledger", f"size for each of {files:,} files, names of 60 bytes", "B",
               {OURS: [(size(service) - empty) / files]}, [Goal("value", 250)])  # fmt: skip


def _with_rows(setting: Setting, base: Path, sample: int, rows: int) -> Service:
    """A service with so many files at rest, and so many more rows of a folder that is away."""
    away = base / "away"
    (away / "elsewhere" / "run" / "folder").mkdir(parents=True)
    (away / "elsewhere" / "run" / "folder" / name_of(0)).touch()
    watch = f'[[watch]]\npath = "{away}"\nsettle = "0.3s"\n'
    service = Service(base / "service", setting.form("local"), experiment=f"rows-{rows}", watch=watch)
    seed(service, sample)
    away.rename(base / "gone")
    if rows:
        remember(service, away, rows)
    return service
