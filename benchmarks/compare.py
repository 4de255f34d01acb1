"""Does another version cost more? Both at work in turn, on one machine, in one environment.

    .venv/bin/python benchmarks/compare.py REF [--only small,latency] [--rounds 9] [--scale 1] [--python PATH]

REF (a commit, a branch) is checked out into a folder for the time; what is here, changed or not, is compared with it.
With another Python's interpreter, what is here runs by that one: beside HEAD, it says what a newer Python gives.
Exits with 1 if some mark costs more than 10 % more, and the rounds agree that it does cost more.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from machine import PROJECT, commit, with_bytecode
from quick import QUICK, Version
from rich.console import Console
from rich.table import Table
from setting import Scale, Setting

ALLOWED = 1.10
"""Times what it cost before."""

SURE = 0.9
"""How likely the true ratio lies between the bounds that are shown."""

console = Console(stderr=True, highlight=False, markup=False)


@dataclass(slots=True)
class Compared:
    """A mark of both versions: what it cost in each round; less is better."""

    mark: str
    unit: str
    before: list[float] = field(default_factory=list)
    now: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Of each round, in order of size."""
        return sorted(new / old for new, old in zip(self.now, self.before, strict=True))

    def bounds(self) -> tuple[float, float]:
        """Between which the true ratio lies, as far as so few rounds can say."""
        found = self.ratios()
        left_out = outermost(len(found))
        return found[left_out], found[-1 - left_out]

    def dearer(self) -> bool:
        """More than is allowed, and more beyond the noise."""
        return statistics.median(self.ratios()) > ALLOWED and self.bounds()[0] > 1


def outermost(rounds: int) -> int:
    """How many rounds to leave out at each end, so that the median lies between the others with `SURE`.

    Each round is on either side of the true median with equal chance, whatever the noise looks like.
    """
    left_out, chance = 0, 0.0
    for n in range(rounds // 2):
        chance += math.comb(rounds, n) / 2**rounds
        if 2 * chance > 1 - SURE:
            break
        left_out = n
    return left_out


def main() -> int:
    """Compare and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ref", help="the version before")
    parser.add_argument("--only", default=",".join(QUICK), help="some of " + ",".join(QUICK))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="times the sizes")
    parser.add_argument("--python", default="", help="an interpreter, with all that is needed, for what is here")
    options = parser.parse_args()
    with_bytecode()
    compared: dict[str, Compared] = {}
    with ExitStack() as ends:
        old = ends.enter_context(checked_out(options.ref))
        setting = ends.enter_context(Setting(Scale()))
        here = Version(PROJECT / "daemon", options.scale, options.python)
        versions = {"before": Version(old / "daemon", options.scale), "now": here}
        for name in options.only.split(","):
            with ExitStack() as group:
                costs = {side: QUICK[name](setting, version, group) for side, version in versions.items()}
                for n in range(options.rounds + 1):
                    for side in ("before", "now") if n % 2 else ("now", "before"):
                        for mark, (value, unit) in costs[side]().items():
                            row = compared.setdefault(mark, Compared(mark, unit))
                            if n:  # the first one warms up
                                getattr(row, side).append(value)
            console.print(f"{name}: measured")
    rows = list(compared.values())
    Console(width=140, markup=False).print(shown(rows, f"{commit()} {options.python} beside {options.ref}"))
    return int(any(row.dearer() for row in rows))


@contextlib.contextmanager
def checked_out(ref: str) -> Iterator[Path]:
    """A version in a folder of its own; it is removed again."""
    with tempfile.TemporaryDirectory(prefix="artifactd-compare-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(PROJECT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), ref], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def shown(rows: Sequence[Compared], title: str) -> Table:
    """For a terminal."""
    table = Table(title=f"What a version costs: {title}; medians, ratio (with {SURE:.0%} between)")
    for column in ("mark", "before", "now", "ratio", "rounds", "verdict"):
        table.add_column(column)
    for row in rows:
        low, high = row.bounds()
        middle = statistics.median(row.ratios())
        verdict = "COSTS MORE" if row.dearer() else "cheaper" if high < 1 / ALLOWED else "the same"
        table.add_row(
            row.mark, *(f"{statistics.median(values):,.4g} {row.unit}" for values in (row.before, row.now)),
            f"{middle:.3f} ({low:.3f}-{high:.3f})", f"{len(row.now)}", verdict,
            style="red" if row.dearer() else "",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
