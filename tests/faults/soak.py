"""The long kill storm: every fault again and again, with a seed that replays; prints the table.

    python tests/faults/soak.py --hours 2 [--seed N]

The same code as the bounded test. Ends with 1 when anything was lost, torn, outside or doubled.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as pytest's `pythonpath` does

from conftest import end_server, start_server
from faults.storm import Storm, plan
from faults.table import lines
from support import free_port

EACH = 20
"""Times that every fault is done at least, however few the hours."""


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--rate", type=float, default=20.0, help="File operations per second.")
    parser.add_argument("--each", type=int, default=EACH, help="Times that every fault is done at least.")
    parser.add_argument("--only", type=lambda names: names.split(","), help="These faults alone, with commas between.")
    args = parser.parse_args()
    sys.stdout.write(f"seed {args.seed}: `--seed {args.seed}` makes the same files and faults again\n")
    with tempfile.TemporaryDirectory(prefix="artifactd-soak-") as folder:
        base = Path(folder)
        (base / "server").mkdir()
        port = free_port()
        server = start_server(base / "server", port)
        storm = Storm(base, f"http://127.0.0.1:{port}", args.seed, args.rate, patience=1800)
        end = time.monotonic() + args.hours * 3600
        try:
            for more in itertools.count():
                if more and time.monotonic() > end:
                    break
                faults = plan(args.seed + more, 1 if more else args.each)
                storm.run(f for f in faults if args.only is None or f in args.only)
                sys.stderr.write(f"{time.strftime('%H:%M:%S')} {storm.progress()}\n")
            verdict = storm.finish()
            rows = storm.rows()
        finally:
            storm.close()
            end_server(server)
    sys.stdout.write("\n".join(lines(rows)) + "\n")
    wrong = {k: verdict[k] for k in ("lost", "torn", "outside", "duplicate_runs") if verdict[k]}
    if wrong:
        sys.stdout.write(f"NOT KEPT: {wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
