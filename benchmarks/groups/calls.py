"""REST calls for each file of a burst into one run, counted by a proxy before the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from dropping import Service, write_files
from rows import OURS, Goal, Row
from setting import Setting

from faults.proxy import Proxy


def measure(setting: Setting) -> Iterator[Row]:
    """One row."""
    form = setting.form("server")
    files = setting.scale.calls_files
    base = setting.folder("calls")
    per_file = []
    kinds = ""
    with closing(Proxy(form.tracking_uri)) as proxy:
        through = replace(form, tracking_uri=proxy.uri)
        with Service(base / "service", through, experiment="calls") as service:
            service.drop(write_files(base / "warm", 8, 4096))
            for n in range(setting.scale.rounds):
                source = write_files(base / f"round-{n}", files, 4096)
                with proxy.lock:
                    proxy.counts.requests.clear()
                service.drop(source)
                with proxy.lock:
                    counts = dict(proxy.counts.requests)
                per_file.append(sum(counts.values()) / files)
            methods = sorted({method for method, _ in counts})
            kinds = ", ".join(f"{sum(c for (m, _), c in counts.items() if m == method)} {method}" for method in methods)
    yield Row(
        "calls", f"REST calls a file, {files:,} files into one run", "calls", {OURS: per_file}, [Goal("value", 1.05)],
        note=f"in the last round {kinds}",
    )  # fmt: skip
