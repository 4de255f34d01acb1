"""From a file's close to its receipt, beyond the settle time, beside the one PUT that it costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import requests
from dropping import USUAL_SETTLE, Service
from rows import OURS, Goal, Row
from setting import Setting

_PUT = "one bare PUT"
_AFTER_REST = 5


def measure(setting: Setting) -> Iterator[Row]:
    """A row while the delivery process is there, and one of a service that has rested until it had left."""
    form = setting.form("server")
    with ExitStack() as ends, requests.Session() as session:
        service = setting.service("latency", form, ends)
        put = f"{form.tracking_uri}/api/2.0/mlflow-artifacts/artifacts/bare"
        _one(service, 0)  # makes the run
        ours, bare = [], []
        for n in range(1, setting.scale.latency_files + 1):
            ours.append(_one(service, n))
            bare.append(_bare(session, put, n))
        sides = {OURS: ours, _PUT: bare}
        yield Row(
            "latency", "close → stored beyond settle, 4 KiB to an MLflow server", "ms", sides,
            [Goal("beyond", 30, _PUT), Goal("beyond", 150, _PUT, "p99")], limit=_PUT,
        )  # fmt: skip
        if setting.hasty:
            return
        # With the settle time that users have: MLflow is imported meanwhile.
        rested = Service(setting.folder("rested"), form, experiment="rested", settle=USUAL_SETTLE)
        service = ends.enter_context(rested)
        _one(service, 0)
        ours, bare = [], []
        for n in range(_AFTER_REST):
            service.rests()
            ours.append(_one(service, 1000 + n))
            bare.append(_bare(session, put, 1000 + n))
        yield Row(
            "latency", f"the same, settle {USUAL_SETTLE:g} s, after a rest: the delivery process has left", "ms",
            {OURS: ours, _PUT: bare}, [Goal("beyond", 30, _PUT), Goal("beyond", 150, _PUT, "p99")], limit=_PUT,
        )  # fmt: skip


def _one(service: Service, n: int) -> float:
    """Milliseconds."""
    return 1000 * beyond_settle(service, service.run / f"f{n}.bin")


def beyond_settle(service: Service, path: Path) -> float:
    """Write a file of 4 KiB into an idle service's folder; seconds from its close to its receipt, less settle."""
    path.write_bytes(os.urandom(4096))
    closed = time.time()
    return service.all_stored(path.name, 1, closed, 60) - closed - service.settle


def _bare(session: requests.Session, put: str, n: int) -> float:
    body = os.urandom(4096)
    begun = time.perf_counter()
    session.put(f"{put}/f{n}.bin", data=body, timeout=60).raise_for_status()
    return 1000 * (time.perf_counter() - begun)
