"""Inputs by atheris, which sees what code each of them reaches and goes on from there: one target, in this process.

``python -m fuzz.guided TARGET INPUTS SEED FOLDER``; ends as libFuzzer does, and leaves what it found in FOLDER/crash-….
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from fuzz.engine import SECONDS


def main() -> None:
    """Do it; never returns."""

    name, number, seed, place = sys.argv[1:]
    atheris: Any = import_module("atheris")  # it is not everywhere
    with atheris.instrument_imports(include=["artifactd"]):
        from fuzz import targets
    targets.hush()
    target = targets.ALL[name]
    folder = Path(place)
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, example in enumerate(target.examples):
        (corpus / str(index)).write_bytes(example)
    words = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words if word]
    (folder / "words").write_text("\n".join(words) + "\n")
    options = [
        f"-runs={number}",
        f"-seed={seed}",
        f"-timeout={int(SECONDS)}",
        f"-dict={folder}/words",
        "-rss_limit_mb=4096",
    ]
    atheris.Setup([sys.argv[0], *options, "-max_len=16384", f"-artifact_prefix={folder}/", str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
