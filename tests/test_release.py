"""What the release check says of versions, changelogs, tags and packages; ``make release-check`` builds real ones."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from artifactd import __version__
from audit import Audit, audit, read
from release import OF_SDIST, NotReadyError, heading_in, name_of, verdict, version_in, wrong_in_sdist, wrong_in_wheel
from sbom import wrong_in

PROJECT = Path(__file__).parent.parent
WHEEL = [
    "artifactd/__init__.py", "artifactd/cli/run.py", "artifactd/py.typed", "artifactd/artifactd.service",
    *(f"artifactd/exposition/assets/page.{x}" for x in ("css", "html", "js")),
    *(f"artifactd/codes/{page.name}" for page in (PROJECT / "docs" / "errors").iterdir()),
    "artifactd-1.2.3.dist-info/entry_points.txt", "artifactd-1.2.3.dist-info/licenses/LICENSE",
]  # fmt: skip


def test_the_version_stands_in_one_place_and_the_changelog_begins_with_it_or_says_that_it_is_not_released() -> None:
    assert version_in((PROJECT / "daemon" / "artifactd" / "__init__.py").read_text()) == __version__
    heading = heading_in((PROJECT / "CHANGELOG.md").read_text())
    assert name_of(__version__, heading, [], is_clean=True).startswith(__version__)
    assert 'dynamic = ["version"]' in (PROJECT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("heading", "tags", "is_clean", "says"),
    [
        ("Unreleased", [], True, "1.2.3, unreleased"),
        ("1.2.3", [], False, "1.2.3, not tagged yet"),
        ("1.2.3", ["v1.2.3"], True, "1.2.3, tagged"),
    ],
)
def test_what_goes_together_has_a_name(heading: str, tags: list[str], is_clean: bool, says: str) -> None:
    assert name_of("1.2.3", heading, tags, is_clean=is_clean) == says


@pytest.mark.parametrize(
    ("heading", "tags", "is_clean", "why"),
    [
        ("1.2.2", [], True, "one of them is old"),
        ("1.2.3", ["v1.2.2"], True, "has the tag v1.2.2"),
        ("1.2.3", ["v1.2.3", "v1.3.0"], True, r"v1\.2\.3, v1\.3\.0"),
        ("Unreleased", ["v1.2.3"], True, r"\[Unreleased\] still"),
        ("1.2.3", ["v1.2.3"], False, "git status"),
    ],
)
def test_what_does_not_go_together_says_why(heading: str, tags: list[str], is_clean: bool, why: str) -> None:
    with pytest.raises(NotReadyError, match=why):
        name_of("1.2.3", heading, tags, is_clean=is_clean)


def test_the_first_section_counts() -> None:
    assert heading_in("# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n") == "Unreleased"
    assert heading_in("# Changelog\n\n## [1.2.3] - 2026-01-31\n\n## [1.2.2]\n") == "1.2.3"
    with pytest.raises(NotReadyError, match=r"CHANGELOG\.md"):
        heading_in("# Changelog\n")
    with pytest.raises(NotReadyError, match="no __version__"):
        version_in("version = 1\n")


def test_a_wheel_is_the_package_and_nothing_else() -> None:
    assert wrong_in_wheel(WHEEL, "1.2.3") == []
    assert wrong_in_wheel([*WHEEL, "tests/conftest.py"], "1.2.3") == ["it has tests/conftest.py"]
    assert wrong_in_wheel([name for name in WHEEL if "py.typed" not in name], "1.2.3") == [
        "it lacks artifactd/py.typed"
    ]
    assert wrong_in_wheel([name for name in WHEEL if "AD301" not in name], "1.2.3") == [
        "it lacks artifactd/codes/AD301.md"
    ]


def test_an_sdist_has_the_unit_and_whatever_else_a_package_is_made_of() -> None:
    assert [name for name in OF_SDIST if not (PROJECT / name).is_file()] == []
    names = [f"artifactd-1.2.3/{name}" for name in OF_SDIST]
    assert wrong_in_sdist(names, "1.2.3") == []
    unit = "artifactd-1.2.3/systemd/artifactd.service"
    assert wrong_in_sdist([name for name in names if name != unit], "1.2.3") == ["it lacks systemd/artifactd.service"]


AGAINST = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.8"]}
VULNERABLE = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.8"]}],
}
SOUND = {"name": "idna", "version": "3.20", "vulns": []}
UNKNOWN = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited: rich (15)"}


def said(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_what_is_known_against_a_package_is_told_with_the_version_that_mends_it() -> None:
    assert read(said(SOUND, VULNERABLE), "").found == ("jinja2 2.4.1: PYSEC-1, mended in 2.8",)
    assert read(said(SOUND), "") == Audit(asked=1)


def test_what_is_accepted_with_a_reason_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.ACCEPTED", {"CVE-1": "templates are our own"})
    assert read(said(VULNERABLE), "").found == ()


@pytest.mark.parametrize(
    ("answer", "complained", "why"),
    [
        (said(SOUND, UNKNOWN), "", "does not know rich"),
        (said(), "", "lists no package"),
        ("", "Traceback\nConnectionError: api.osv.dev\n\n", "could not ask: ConnectionError"),
        ("{}", "", "could not ask: it said nothing"),
    ],
)
def test_an_audit_that_was_not_made_says_so(answer: str, complained: str, why: str) -> None:
    assert why in read(answer, complained).why_not


@pytest.mark.parametrize(
    ("known", "all_", "why"),
    [
        (said(VULNERABLE), said(SOUND), ""),
        (said({**VULNERABLE, "vulns": []}), said(SOUND), "it has no advisories"),
        (said(UNKNOWN), said(SOUND), "does not know"),
        ("", "", "could not ask"),
    ],
)
def test_a_service_without_advisories_passes_nothing(known: str, all_: str, why: str, tmp_path: Path) -> None:
    """A stand-in for pip-audit: what a service says that has none, and one that is away."""
    tool, pinned = tmp_path / "python", tmp_path / "constraints.txt"
    answers = {"known.txt": known, "constraints.txt": all_}
    tool.write_text(
        f"#!{sys.executable}\nimport os, sys\nasked = sys.argv[sys.argv.index('-r') + 1]\n"
        f"print({answers!r}[os.path.basename(asked)])\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    pinned.touch()
    done = audit(str(tool), pinned)
    assert why in done.why_not
    assert bool(done.why_not) is bool(why)


def test_a_tagged_commit_passes_only_when_it_was_audited() -> None:
    assert "nothing is known against the 3 pinned" in verdict(Audit(3), is_tagged=True)
    assert verdict(Audit(why_not="away"), is_tagged=False).startswith(
        "NOT RUN: the audit of the pinned packages (away)"
    )
    with pytest.raises(NotReadyError, match="this one is not: away"):
        verdict(Audit(why_not="away"), is_tagged=True)
    with pytest.raises(NotReadyError, match="jinja2"):
        verdict(Audit(1, ("jinja2 2.4.1: PYSEC-1, mended in 2.8",), "and more"), is_tagged=False)


def test_a_bill_lists_all_that_is_installed() -> None:
    bill = {
        "bomFormat": "CycloneDX", "specVersion": "1.6",
        "metadata": {"component": {"name": "artifactd", "version": "1.2.3"}},
        "components": [{"name": "ruamel.yaml", "version": "1"}],
    }  # fmt: skip
    installed = {"artifactd": "1.2.3", "ruamel-yaml": "1", "pip": "23"}
    assert wrong_in(json.dumps(bill), installed) == []
    assert wrong_in(json.dumps(bill), installed | {"rich": "15"}) == ["it lacks rich 15"]
    assert wrong_in(json.dumps(bill), installed | {"artifactd": "1.2.4"}) == [
        "it says artifactd 1.2.3, installed is 1.2.4"
    ]
    assert wrong_in("{}", installed) == ["it is no CycloneDX 1.6"]
    assert wrong_in("", installed)[0].startswith("it is no JSON")
