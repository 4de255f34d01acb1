"""How often a file that memory cannot hold is read from the disk, for its digest and its upload."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from cold import WINDOW, forgotten
from costs import MIB, read_bytes, timed
from dropping import write_files
from rows import OURS, Goal, Row, interleaved
from setting import Setting


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each store: bytes that the service reads from the disk, of a file of which memory keeps a window."""
    size = setting.scale.hashing_mib
    for store in setting.stores:
        form = setting.form(store)
        base = setting.folder("hashing")
        with ExitStack() as ends:
            service = setting.service("hashing", form, ends)
            service.drop(write_files(base / "warm", 8, 4096))
            times: list[float] = []
            reads: list[float] = []
            for n in range(setting.scale.rounds):
                source = write_files(base / f"big-{n}", 1, size * MIB)
                before = read_bytes(service.pid)
                with forgotten(source / "0.bin"):
                    service.drop(source)
                disk, every = (now - then for now, then in zip(read_bytes(service.pid), before, strict=True))
                times.append(disk / (size * MIB))
                reads.append(every / (size * MIB))
            told = _sums(str(service.run / "big-0" / "0.bin"), setting.scale.rounds)
        shutil.rmtree(base, ignore_errors=True)
        # A few per cent more are its libraries' modules and the like.
        note = f"no more than {WINDOW // MIB} MiB of it in memory; read() gave each byte {max(reads):.2f} times; {told}"
        yield Row("hashing", f"reads of each byte from the disk, {size:,} MiB: {form.name}", "times", {OURS: times},
                  [Goal("value", 1.05)], note=note)  # fmt: skip


def _sums(path: str, rounds: int) -> str:
    sums = [name for name in ("sha256sum", "b3sum") if shutil.which(name)]

    def summed(name: str, _round: int) -> float:
        return timed([name, path])

    values = interleaved(rounds, {name: partial(summed, name) for name in sums})
    return ", ".join(f"{name} alone {sorted(seconds)[len(seconds) // 2]:.2f} s" for name, seconds in values.items())
