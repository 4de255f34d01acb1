"""The rule for what mends a finding: it is there, and what is a command can be pasted."""

from __future__ import annotations

import re
import subprocess

_WORDS = re.compile(r",( |$)|\bor\b|; then\b")


def mends(cure: str) -> None:
    """A sentence, which begins with a capital letter; or a line for a shell, with its words behind a ``#``."""
    assert cure
    if cure[0].isupper():
        return
    command = cure.partition("  # ")[0]
    checked = subprocess.run(["bash", "-n", "-c", cure], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{cure}: {checked.stderr}"
    assert not _WORDS.search(command), f"words within a command: {cure}"
