"""What every group of benchmarks is given: a folder, sizes, and stores that are started when they are asked for."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path

import places
from by_hand import ByHand
from dropping import Service

from stores.form import Form
from stores.seaweed import seaweed
from stores.servers import mlflow_form
from support import environment

STORES = ("local", "server", "s3")
"""Those of `places.STORES` that groups have rows for."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything: files, MiB, rounds, seconds. These are the sizes of the marks."""

    rounds: int = 5
    local_files: int = 20_000
    server_files: int = 5_000
    big_mib: int = 4096
    big_rounds: int = 5
    mixed_mib: int = 384
    mixed_pictures: int = 300
    latency_files: int = 100
    rest_files: int = 100_000
    rest_seconds: float = 600
    scan_interval: int = 300
    short_scan_interval: int = 60
    start_files: int = 1_000_000
    start_rounds: int = 5
    burst_files: int = 50_000
    burst_folders: int = 500
    ledger_files: int = 20_000
    ledger_rows: int = 10_000_000
    ledger_rows_before: int = 100_000
    command_rounds: int = 10
    calls_files: int = 2_000
    hashing_mib: int = 1024
    training_seconds: float = 8
    training_files: int = 3_000

    def scaled(self, factor: float) -> Scale:
        """All files, rows and MiB times a factor."""
        sizes = {f.name for f in fields(self) if f.name.endswith(("_files", "_mib", "_rows", "_before", "_pictures"))}
        return replace(self, **{name: max(1, round(getattr(self, name) * factor)) for name in sizes})


SMALL = Scale(
    rounds=1, local_files=60, server_files=30, big_mib=4, big_rounds=1, mixed_mib=2, mixed_pictures=8, latency_files=2,
    rest_files=200, rest_seconds=2, scan_interval=1, short_scan_interval=1, start_files=400, start_rounds=1,
    burst_files=400, burst_folders=10, ledger_files=60, ledger_rows=4_000, ledger_rows_before=400, command_rounds=1,
    calls_files=30, hashing_mib=2, training_seconds=0.3, training_files=60,
)  # fmt: skip
"""Shows that everything runs, and measures nothing."""


class Setting:
    """One run of the benchmarks.

    Args:
        scale: The sizes.
        disk: Where to work; the system's folder for temporary files if None.
        hasty: Leave out waits that only make figures better.
        stores: Those that groups with rows for several are to measure.
    """

    def __init__(
        self, scale: Scale, disk: Path | None = None, *, hasty: bool = False, stores: tuple[str, ...] = STORES
    ) -> None:
        self.stores = stores
        self.scale = scale
        self.hasty = hasty
        self._disk = disk
        self._ends = ExitStack()
        self._forms: dict[str, Form] = {}
        self._services: dict[str, Service] = {}
        self._hands: dict[str, ByHand] = {}
        self._folders = 0

    def __enter__(self) -> Setting:
        base = tempfile.TemporaryDirectory(prefix="artifactd-bench-", dir=self._disk, ignore_cleanup_errors=True)
        self.base = Path(self._ends.enter_context(base))
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def folder(self, name: str) -> Path:
        """A new one."""
        self._folders += 1
        folder = self.base / f"{self._folders}-{name}"
        folder.mkdir()
        return folder

    def form(self, name: str) -> Form:
        """One of `STORES`; started once."""
        if name not in self._forms:
            self._forms[name] = self.fresh(name, self._ends)
        return self._forms[name]

    def fresh(self, name: str, ends: ExitStack) -> Form:
        """The same, started anew, for as long as `ends` lasts, as is all it holds; in haste the one that is there."""
        if self.hasty and ends is not self._ends:
            return self.form(name)
        folder = self.folder(name)
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        if name == "s3" and self.hasty:
            store = ends.enter_context(seaweed(folder))
            return Form("S3", self.form("server").tracking_uri, store.artifact_location, store.environ)
        if name == "server" and self.hasty:
            return Form("MLflow server, a folder", ends.enter_context(mlflow_form(folder)).uri)
        return places.STORES[name](folder, ends)

    def service(self, name: str, form: Form, ends: ExitStack) -> Service:
        """A service of its own, for as long as `ends` lasts; in haste one for each store, with a run of its own."""
        if not self.hasty:
            return ends.enter_context(Service(self.folder(f"{name}-service"), form, experiment=f"{name}, {form.name}"))
        if form.name not in self._services:
            base = self.folder("service")
            self._services[form.name] = self._ends.enter_context(Service(base, form, experiment=form.name))
        service = self._services[form.name]
        self._folders += 1
        service.another_run(f"{name}-{self._folders}")
        return service

    def by_hand(self, form: Form, ends: ExitStack) -> ByHand:
        """The other side's process; in haste one for each store."""
        if self.hasty and form.name in self._hands:
            return self._hands[form.name]
        hand = self._hands[form.name] = ByHand(form.tracking_uri, environment(**form.environ))
        (self._ends if self.hasty else ends).callback(hand.close)
        hand.ready()
        return hand
