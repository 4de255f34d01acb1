"""What is run at a commit, on a push and by hand is the same, and says what it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parent.parent
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
FORMS = sorted(PROJECT.glob(".github/ISSUE_TEMPLATE/*.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def targets() -> list[str]:
    return re.findall(r"(?m)^\.PHONY: (\S+)$", MAKEFILE)


def recipe(target: str) -> list[str]:
    """The commands of a target, as they stand."""
    found = re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", MAKEFILE)
    assert found is not None, target
    return [line.strip() for line in found[1].splitlines()]


def test_every_target_has_its_line_of_help() -> None:
    assert len(targets()) > 20
    rules = re.findall(r"(?m)^([a-z-]+):(.*)$", MAKEFILE)
    assert [name for name, _ in rules] == targets(), "each is declared, just above itself"
    assert [name for name, rest in rules if "## " not in rest] == []
    said = subprocess.run(["make", "-s", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"(?m)^  make (\S+) +\S", said) == targets()


def test_a_commit_is_checked_as_by_make_lint() -> None:
    (repository,) = loaded(PROJECT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "nothing is fetched"
    hooks = repository["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    at_commits = [hook["entry"].replace(" --force-exclude", "") for hook in hooks]
    by_hand = [command.replace("$(BIN)", ".venv/bin").removesuffix(" .") for command in recipe("lint")]
    assert sorted(at_commits) == sorted(by_hand)


def commands(workflow: str) -> list[str]:
    """What its jobs run, with each value of a matrix in its place; but for what makes a fresh machine ready."""
    found = []
    for job in loaded(PROJECT / ".github" / "workflows" / workflow)["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {"run": []})
        values = [*matrix["run"], *(more["run"] for more in matrix.get("include", ()))]
        for step in job["steps"]:
            run = step.get("run", "")
            found += values if run == "${{ matrix.run }}" else [run] if not run.startswith("apt-get ") else []
    return [command for command in found if command]


@pytest.mark.parametrize("workflow", sorted(p.name for p in PROJECT.glob(".github/workflows/*.yml")))
def test_a_push_is_checked_by_what_anybody_can_run(workflow: str) -> None:
    assert ".ci/run" in commands(workflow)
    for command in commands(workflow):
        assert command == ".ci/run" or command.removeprefix("make ").split()[0] in targets(), command


def test_what_test_all_leaves_out_is_run_somewhere() -> None:
    """What it names in its last lines, but for what fills a disk or takes hours."""
    said = " ".join(line for line in recipe("test-all") if line.startswith("@echo"))
    named = set(re.findall(r"make ([a-z-]+)", said))
    asked = {command.removeprefix("make ") for command in commands("elsewhere.yml")}
    assert {"test-systemd", "test-browser", "test-deb"} <= named
    assert named - {"test-big", "test-stores-big", "soak", "soak-systemd"} <= asked
    recipe_of_release = (PROJECT / "docs" / "releasing.md").read_text(encoding="utf-8")
    assert [name for name in sorted(named) if f"`make {name}" not in recipe_of_release] == []


@pytest.mark.parametrize("form", [f for f in FORMS if f.name != "config.yml"], ids=lambda form: form.name)
def test_a_form_can_be_shown(form: Path) -> None:
    """What GitHub asks of one; it shows none that is wrong."""
    data = loaded(form)
    assert {"name", "description", "body"} <= data.keys()
    asked = [part for part in data["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in data["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert all(part["attributes"]["label"] for part in asked)
    ids = [part["id"] for part in asked]
    assert len(set(ids)) == len(ids)
    assert any(part.get("validations", {}).get("required") for part in asked)
