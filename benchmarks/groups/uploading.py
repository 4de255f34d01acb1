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
    for store in ("local", "server", "s3"):
        form = setting.form(store)
        base = setting.folder("uploading")
        with ExitStack() as ends:
            service = setting.service("uploading", form, ends)
            service.drop(write_files(base / "warm", 1, 4096))
            if not setting.hasty:
                service.rests()
            idle = pss(service.pid)
            smaller = _peak(service, base / "smaller", max(1, size // 8) * MIB)
            peak = _peak(service, base / "big", size * MIB)
        shutil.rmtree(base, ignore_errors=True)
        sides = {OURS: [peak - idle], _SMALLER: [smaller - idle]}
        yield Row("uploading", f"memory beyond idle, one file of {size:,} MiB: {form.name}", "MiB", sides,
                  [Goal("value", 90), Goal("beyond", 10, _SMALLER)], note=f"idle {idle:.0f} MiB")  # fmt: skip


def _peak(service: Service, source: Path, size: int) -> float:
    write_files(source, 1, size)
    with peak_of(service.pid) as peak:
        service.drop(source)
    return peak.pss
