"""Memory while a big file is sent, beyond that of the idle service, and whether it grows with the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from costs import MIB, peak_of, pss
from dropping import Service, write_files
from rows import OURS, Goal, Row
from setting import Setting

_SMALLER = "an eighth of the size"


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each store."""
    size = setting.scale.big_mib
    for store in setting.stores:
        base = setting.folder("uploading")
        with ExitStack() as ends:
            form = setting.fresh(store, ends)
            service = setting.service("uploading", form, ends)
            service.drop(write_files(base / "warm", 1, 4096))
            if not setting.hasty:
                service.rests()
            idle = pss(service.pid)
            peaks: dict[str, list[float]] = {OURS: [], _SMALLER: []}
            for n in range(setting.scale.rounds):
                for side, mebibytes in ((_SMALLER, max(1, size // 8)), (OURS, size)):
                    peak = _peak(service, base / f"{n}-{mebibytes}", mebibytes * MIB)
                    peaks[side].append(peak - idle)
        shutil.rmtree(base, ignore_errors=True)
        yield Row("uploading", f"memory beyond idle, one file of {size:,} MiB: {form.name}", "MiB", peaks,
                  [Goal("value", 90), Goal("beyond", 10, _SMALLER)], note=f"idle {idle:.0f} MiB")  # fmt: skip


def _peak(service: Service, source: Path, size: int) -> float:
    write_files(source, 1, size)
    with peak_of(service.pid) as peak:
        service.drop(source)
    shutil.rmtree(service.run / source.name)
    return peak.pss
