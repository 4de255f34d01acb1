"""The whole of it: over a million inputs, by three ways of making them; ``make fuzz``.

Each target gets its share from the engine, a tenth more from atheris where that is installed, and a fiftieth from
hypothesis. The seed is printed, and given again it makes the same inputs; so does a single one's number.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

from fuzz import shrinking, targets
from fuzz.engine import SECONDS, FoundError, Target, give, input_of

_GUIDED, _BY_HYPOTHESIS = 10, 50
"""Of how many inputs of the engine's one more is made by atheris, and by hypothesis."""
_MOST_BY_HYPOTHESIS = 2_000


def main() -> None:
    """Give all inputs, with a line for each target; ends with 1 if one was not stood."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), help="makes the same inputs again")
    parser.add_argument("--only", choices=sorted(targets.ALL), help="one target")
    parser.add_argument("--input", type=int, help="one input of that target, by its number")
    parser.add_argument("--scale", type=float, default=1.0, help="of the usual number of inputs")
    asked = parser.parse_args()
    targets.hush()
    chosen = [targets.ALL[asked.only]] if asked.only else list(targets.ALL.values())
    if asked.input is not None:
        print(repr(input_of(chosen[0], asked.seed, asked.input)))
        give(chosen[0], asked.seed, range(asked.input, asked.input + 1))
        return
    has_atheris = find_spec("atheris") is not None
    print(f"Seed {asked.seed}; {SECONDS:.0f} s for an input at most")
    if not has_atheris:
        print("atheris is not installed (pip install '.[fuzz]'): no input is guided by what others reached")
    total, found = 0, 0
    for target in chosen:
        number = max(1, int(target.share * asked.scale))
        start = time.monotonic()
        lines = []
        try:
            total += give(target, asked.seed, range(number))
            some = min(number // _BY_HYPOTHESIS + 1, _MOST_BY_HYPOTHESIS)
            shrinking.search(target, some, asked.seed)
            total += some
            guided = 0
            if has_atheris and target.name not in targets.SLOW:
                guided, said = _guided(target, number // _GUIDED + 1, asked.seed)
                total += guided
                lines += said
        except Exception as exc:  # noqa: BLE001 (told with its cause; the other targets go on)
            some = guided = 0
            lines.append(
                f"  {type(exc).__name__}: {exc}\n  {exc.__cause__!r}" if isinstance(exc, FoundError) else f"  {exc!r}"
            )
        found += bool(lines)
        seconds = time.monotonic() - start
        print(f"{target.name:18} {number:9,} + {some:6,} by hypothesis + {guided:7,} guided, in {seconds:6.1f} s"
              f"{': NOT STOOD' if lines else ''}", *lines, sep="\n" if lines else "", flush=True)  # fmt: skip
    print(f"{total:,} inputs, seed {asked.seed}: {f'{found} targets did not stand all' if found else 'all stood'}")
    sys.exit(bool(found))


def _guided(target: Target, number: int, seed: int) -> tuple[int, list[str]]:
    """How many inputs atheris gave, and what it says if one was not stood."""
    folder = tempfile.mkdtemp(prefix="artifactd-fuzz-")
    command = [sys.executable, "-m", "fuzz.guided", target.name, str(number), str(seed or 1), folder]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    runs = [int(n) for n in re.findall(r"(?m)^(?:Done |#)(\d+)", done.stderr)]
    if done.returncode == 0:
        shutil.rmtree(folder)
        return max(runs, default=0), []
    return max(runs, default=0), [f"  atheris ended with {done.returncode}:", done.stderr[-3000:]]


if __name__ == "__main__":
    main()
