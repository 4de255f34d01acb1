"""What is wrong with a configuration, in words: a place, a key, the mistake, and what to write instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from artifactd.errors import UsageError
from artifactd.text import printable

Loc = tuple[str | int, ...]
"""A key from the outermost table down, with indexes in lists: ``("watch", 1, "settle")``."""

_LONGEST = 120


class Mistake(ValueError):  # noqa: N818 - told as one of several, as data
    """A value that cannot be used.

    Attributes:
        wrong: What is wrong with it, in a sentence without the key.
        instead: What to write instead, in a sentence.
    """

    def __init__(self, wrong: str, instead: str) -> None:
        super().__init__(f"{wrong}: {instead}")
        self.wrong = wrong
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        file: Where the value comes from: the file, ``$VARIABLE``, ``DIR`` or ``the command line``.
        key: The dotted key, as ``watch[1].settle``; empty when the file as a whole is meant.
        wrong: What is wrong.
        instead: What to write instead.
        line: The line in the file, where known.
    """

    file: str
    key: str
    wrong: str
    instead: str
    line: int | None = None

    @property
    def reason(self) -> str:
        """Place, key and mistake in one line."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(filter(None, (place, self.key, self.wrong)))


class ConfigError(UsageError):
    """A configuration that cannot be used, with every mistake in it.

    Attributes:
        problems: The mistakes, secrets masked.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        from artifactd.secrets import mask  # noqa: PLC0415 (compiles many patterns, which only mistakes need)

        in_order = sorted(problems, key=lambda problem: (problem.file, problem.line or 0))
        self.problems = tuple(Problem(p.file, p.key, mask(p.wrong), mask(p.instead), p.line) for p in in_order)
        super().__init__(
            "; ".join(problem.reason for problem in self.problems),
            "; ".join(dict.fromkeys(problem.instead for problem in self.problems)),
        )

    def __str__(self) -> str:
        count = len(self.problems)
        lines = ["The configuration has a mistake:" if count == 1 else f"The configuration has {count} mistakes:"]
        for problem in self.problems:
            lines += [f"  {problem.reason}", f"    {problem.instead[:1].upper()}{problem.instead[1:]}"]
        return "\n".join(lines)


def dotted(loc: Loc) -> str:
    """Write a key as people read it: ``watch[1].settle``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def shown(value: object) -> str:
    """Write a value as it stands in TOML, safe to print and not too long; secrets are masked."""
    from artifactd.secrets import mask  # noqa: PLC0415 (as above)

    # JSON writes texts, numbers and lists as TOML does.
    text = mask(json.dumps(value, ensure_ascii=False, default=str))
    text = printable(os.fsencode(text))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
