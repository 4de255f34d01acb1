"""The kinds of values: how each is written, what is refused and with what instead, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from artifactd.config.fields import (
    WRITTEN,
    AbsolutePath,
    Address,
    AnyGlob,
    ArtifactFolder,
    Duration,
    Glob,
    Globs,
    Limit,
    Name,
    Period,
    Size,
    Table,
    Template,
    Until,
    Workers,
    one_or_more,
)
from artifactd.config.problems import Mistake
from artifactd.config.timetable import Timetable


def read(kind: Any, value: object) -> Any:
    """As a value that a person wrote."""
    return TypeAdapter(kind).validate_python(value, context=WRITTEN)


def mistake(kind: Any, value: object) -> Mistake:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    (error,) = caught.value.errors()
    found = error["ctx"]["error"]
    assert isinstance(found, Mistake)
    return found


@pytest.mark.parametrize(
    ("kind", "written", "value", "shown"),
    [
        (Duration, "1m30s", 90.0, "1m30s"),
        (Duration, "0", 0.0, "0s"),
        (Period, "500ms", 0.5, "500ms"),
        (Until, "never", None, "never"),
        (Until, "7d", 7 * 86_400.0, "7d"),
        (Size, "10MiB", 10 * 2**20, "10MiB"),
        (Size, 0, 0, "0"),
        (Limit, "off", 0, "0"),
        (Limit, "1MB", 10**6, "1MB"),
        (AbsolutePath, "/data//drop", Path("/data/drop"), "/data/drop"),
        (Workers, "auto", "auto", "auto"),
        (Workers, "7", 7, 7),
        (Workers, 64, 64, 64),
        (Glob, "**/*.tmp", "**/*.tmp", "**/*.tmp"),
        (AnyGlob, "!keep.tmp", "!keep.tmp", "!keep.tmp"),
        (Globs, ["*.a", "*.b"], ("*.a", "*.b"), ["*.a", "*.b"]),
        (Name, "vision", "vision", "vision"),
        (Template, "{experiment}/{run}", "{experiment}/{run}", "{experiment}/{run}"),
        (ArtifactFolder, "plots/train", "plots/train", "plots/train"),
        (ArtifactFolder, ".", ".", "."),
        (Address, "127.0.0.1:9464", "127.0.0.1:9464", "127.0.0.1:9464"),
        (Address, "[::1]:1", "[::1]:1", "[::1]:1"),
    ],
)
def test_what_is_written_is_read_and_shown(kind: Any, written: object, value: object, shown: object) -> None:
    found = read(kind, written)
    assert found == value
    assert type(found) is type(value)
    assert TypeAdapter(kind).dump_python(found, mode="json") == shown


@pytest.mark.parametrize(
    ("kind", "written", "wrong", "instead"),
    [
        (Duration, 5, "5 has no unit", '"5s"'),
        (Duration, "soon", "soon", ""),
        (Period, "0", "0 is too short", '"5s"'),
        (Until, "soon", "soon", '"never" or a duration'),
        (Until, 0, "0 is too short", '"never" or a duration'),
        (Size, 5, "5 has no unit", '"5B"'),
        (Limit, 5, "5 has no unit", '"5B"'),
        (Workers, 0, "no number of workers", "from 1 to 64"),
        (Workers, 65, "no number of workers", "from 1 to 64"),
        (Workers, True, "no number of workers", '"auto"'),
        (Workers, "7.5", "no number of workers", '"auto"'),
        (Glob, "!keep", "is an exception", "keep"),
        (Glob, "", "cannot be used", ".gitignore"),
        (AnyGlob, "[", "cannot be used", ".gitignore"),
        (Globs, [], "nothing would be delivered", '["**"]'),
        (Name, " ", "the name is empty", "vision"),
        (Name, "n" * 501, "501 characters", "at most 500"),
        (Template, "{run}/{run}", "stands there twice", "{experiment}/{run}"),
        (ArtifactFolder, "../x", "no folder below the run's root", "plots/train"),
        (ArtifactFolder, "a//b", "no folder below the run's root", "plots/train"),
        (ArtifactFolder, "", "no folder below the run's root", "plots/train"),
        (Address, "9464", "is no address", "127.0.0.1:9464"),
        (Address, "h:0", "is no address", "127.0.0.1:9464"),
        (Address, "h:65536", "is no address", "127.0.0.1:9464"),
        (Address, "::1:80", "is no address", "[::1]:9464"),
        (Address, "h:८०", "is no address", "127.0.0.1:9464"),
    ],
)
def test_what_cannot_be_used_is_told_with_what_to_write(kind: Any, written: object, wrong: str, instead: str) -> None:
    found = mistake(kind, written)
    assert wrong in found.wrong
    assert instead in found.instead


def test_a_number_needs_a_unit_only_where_a_person_wrote_it() -> None:
    assert TypeAdapter(Duration).validate_python(5) == 5.0
    assert TypeAdapter(Size).validate_python(5) == 5


def test_a_limit_by_the_time_of_day_stays_one() -> None:
    found = read(Limit, "08:00,10MiB 20:00,0")
    assert isinstance(found, Timetable)
    assert read(Limit, found) is found


def test_one_text_is_a_list_of_one() -> None:
    assert one_or_more("a") == ("a",)
    assert one_or_more(["a", "b"]) == ["a", "b"]


def test_a_table_is_never_changed_and_has_no_other_keys() -> None:
    class Some(Table):
        key: int = 1

    with pytest.raises(ValidationError, match="frozen"):
        Some().key = 2
    with pytest.raises(ValidationError, match="Extra inputs"):
        Some(keys=2)  # type: ignore[call-arg]
