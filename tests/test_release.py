"""What the release check says of versions, changelogs, tags and packages; ``make release-check`` builds real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd import __version__
from release import OF_SDIST, NotReadyError, heading_in, name_of, version_in, wrong_in_sdist, wrong_in_wheel

PROJECT = Path(__file__).parent.parent
WHEEL = [
    "artifactd/__init__.py", "artifactd/cli/run.py", "artifactd/py.typed", "artifactd/artifactd.service",
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


def test_an_sdist_has_the_unit_and_whatever_else_a_package_is_made_of() -> None:
    assert [name for name in OF_SDIST if not (PROJECT / name).is_file()] == []
    names = [f"artifactd-1.2.3/{name}" for name in OF_SDIST]
    assert wrong_in_sdist(names, "1.2.3") == []
    unit = "artifactd-1.2.3/systemd/artifactd.service"
    assert wrong_in_sdist([name for name in names if name != unit], "1.2.3") == ["it lacks systemd/artifactd.service"]
