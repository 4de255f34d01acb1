"""The groups of benchmarks; each module has ``measure(setting)``, which yields rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rows import Row
from setting import Setting

from groups import (
    beside,
    big,
    burst,
    calls,
    commands,
    hashing,
    latency,
    ledger,
    mixed,
    rest,
    small,
    start,
    uploading,
)

GROUPS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    module.__name__.rpartition(".")[2]: module.measure
    for module in (
        small, big, mixed, latency, rest, uploading, start, burst, ledger, beside, hashing, commands, calls,
    )
}  # fmt: skip
