"""All targets, with what libraries say silenced: some of them say a word to each answer that makes no sense."""

from __future__ import annotations

import logging
import warnings

from hypothesis.errors import HypothesisWarning

from fuzz import of_answers, of_ledger, of_names, of_servers, of_texts
from fuzz.engine import Target

ALL: dict[str, Target] = {
    target.name: target
    for of in (of_names, of_texts, of_ledger, of_answers, of_servers)
    for target in of.TARGETS
}  # fmt: skip

SLOW = frozenset(target.name for target in (*of_ledger.TARGETS, *of_servers.TARGETS))
"""Those that take a millisecond or more."""


def hush() -> None:
    """Have no library log anything in this process."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", HypothesisWarning)  # a ledger is long, shown as text
