"""From a file's close to its receipt, beside the one upload that it costs: an idle service, a real server.

    .venv/bin/python benchmarks/close_to_stored.py [--files 20] [--settle 1.0]

Prints the seconds beyond settle, and those of a bare ``MlflowClient.log_artifact`` of the same file, interleaved.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlflow import MlflowClient
from receipts import Receipts

from conftest import end_server, start_server
from support import Program, free_port, wait_for


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--settle", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="artifactd-bench-") as folder:
        base = Path(folder)
        (base / "server").mkdir()
        port = free_port()
        server = start_server(base / "server", port)
        try:
            measure(base, f"http://127.0.0.1:{port}", options.files, options.settle)
        finally:
            end_server(server)


def measure(base: Path, uri: str, files: int, settle: float) -> None:
    """Drop files one by one into an idle service's folder, and log as many by hand in between."""
    program = Program(base, tracking_uri=uri)
    program.config.write_text(program.config.read_text().replace('settle = "0.3s"', f'settle = "{settle}s"'))
    run = program.drop / "bench" / "run-1"
    run.mkdir(parents=True)
    client = MlflowClient(uri)
    by_hand_run = client.create_run("0").info.run_id
    closed: dict[str, float] = {}
    by_hand: list[float] = []
    receipts = Receipts(program.log)
    with program.running():
        for n in range(files + 1):
            name = f"f{n}.bin"
            (run / name).write_bytes(os.urandom(4096))
            closed[name] = time.time()
            wait_for(lambda name=name: name in receipts.stored(), f"{name} is stored", 60)
            begun = time.perf_counter()
            client.log_artifact(by_hand_run, str(run / name))
            by_hand.append(time.perf_counter() - begun)
        times = receipts.stored()
    beyond = [times[name] - at - settle for name, at in closed.items()][1:]  # the first also makes the run
    for what, values in (("artifactd, beyond settle", beyond), ("log_artifact by hand", by_hand[1:])):
        values.sort()
        spread = f"min {values[0] * 1000:.0f}, max {values[-1] * 1000:.0f}"
        print(f"{what:26} median {statistics.median(values) * 1000:6.1f} ms  ({spread}; {len(values)} files)")


if __name__ == "__main__":
    main()
