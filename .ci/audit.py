"""Asks the advisory service what is known against the pinned packages, and proves first that it answers.

pip-audit (2.10) takes a package that its service does not know for one without a fault, and ends with 0: behind a
mirror that has no advisories, all passes. So a package is asked for first that is known to be vulnerable.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = ("pip-audit>=2.10,<3",)

KNOWN = "jinja2==2.4.1"
"""A version with advisories of its own (CVE-2014-1402, CVE-2016-10745, CVE-2019-10906, …)."""

ACCEPTED: Mapping[str, str] = {}
"""Advisories that do not concern us: each with the reason."""

_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit came to.

    Attributes:
        asked: How many packages the service answered for.
        found: What is known against them: package, advisory and the version that mends it, a line each.
        why_not: Why it was not made, or not for all; "" where it was.
    """

    asked: int = 0
    found: tuple[str, ...] = ()
    why_not: str = ""


def audit(python: str, pinned: Path) -> Audit:
    """Ask.

    Args:
        python: An interpreter whose environment has `TOOLS`.
        pinned: The packages, ``name==version`` a line.
    """
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "known.txt")
        probe.write_text(KNOWN + "\n", encoding="utf-8")
        known = _asked(python, probe)
    if known.why_not or not known.found:
        return Audit(
            why_not=known.why_not or f"the advisory service says nothing against {KNOWN}: it has no advisories"
        )
    return _asked(python, pinned)


def _asked(python: str, pinned: Path) -> Audit:
    command = [python, "-m", "pip_audit", "-r", str(pinned), "--no-deps", "--disable-pip", "-f", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Audit(why_not=f"pip-audit did not end within {_SECONDS} s")
    return read(done.stdout, done.stderr)


def read(said: str, complained: str) -> Audit:
    """What pip-audit's answer means.

    Args:
        said: Its JSON.
        complained: What it wrote to stderr.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = next((line for line in reversed(complained.splitlines()) if line.strip()), "it said nothing")
        return Audit(why_not=f"pip-audit could not ask: {last.strip()}")
    skipped = [str(p.get("name")) for p in packages if "skip_reason" in p]
    found = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v.get('fix_versions') or ['no version yet'])}"
        for p in packages for v in p.get("vulns", ()) if not {v["id"], *v.get("aliases", ())} & ACCEPTED.keys()
    ]  # fmt: skip
    why_not = f"the advisory service does not know {', '.join(skipped)}" if skipped else ""
    return Audit(len(packages) - len(skipped), tuple(found), why_not or ("" if packages else "it lists no package"))
