"""What is made of the server's answers; the answers themselves are those of ``test_tracking_contact``."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.config import Config
from artifactd.doctor import server
from artifactd.doctor.finding import Level
from artifactd.tracking.contact import Contact, Way
from artifactd.tracking.trial import Step
from artifactd.tracking.way import Caution

URI = "http://u:hunter22@mlflow.test"
THROUGH = Way("mlflow-artifacts:/0", "mlflow-artifacts", "through the server, since it gives mlflow-artifacts:")


def config(tracking_uri: str | None, state: Path) -> Config:
    return Config.model_validate({"state_dir": state, "mlflow": {"tracking_uri": tracking_uri}})


def test_which_are_asked(tmp_path: Path) -> None:
    assert server.is_asked(config("https://mlflow.test", tmp_path))
    for uri in (None, "postgresql://h/db", "databricks"):
        assert not server.is_asked(config(uri, tmp_path))
    (found,) = server.without(config(None, tmp_path))
    assert (found.level, "the embedded store" in found.detail) == (Level.OK, True)
    (found,) = server.without(config("postgresql://u:hunter22@h/db", tmp_path))
    assert "hunter22" not in f"{found}"
    assert "artifactd check" in found.detail


def test_one_that_answers_and_what_to_mind() -> None:
    contact = Contact(client="3.17.2", seconds=0.0121, warnings=(Caution("it is not encrypted", "Use https"),))
    found = list(server.reached(contact, URI))
    assert [finding.level for finding in found] == [Level.OK, Level.NOTICE]
    assert found[0].detail.startswith("http://u:***@mlflow.test answers in 12 ms")
    assert (found[1].detail, found[1].cure) == ("it is not encrypted", "Use https")


def test_one_that_does_not() -> None:
    contact = Contact("it cannot be reached", "See that it runs", client="3.17.2")
    (found,) = server.reached(contact, URI)
    assert (found.level, found.detail, found.cure) == (Level.WRONG, "it cannot be reached", "See that it runs")
    assert [*server.versions(contact), *server.clock(contact), *server.ways(contact)] == [], "what is not known"


@pytest.mark.parametrize(
    ("there", "level", "cure"),
    [
        ("3.17.2", Level.OK, ""),
        ("3.17.0", Level.OK, ""),
        ("3.18.0", Level.OK, ""),
        ("3.9.0", Level.NOTICE, "Update the server"),
        ("2.22.1", Level.NOTICE, "Update the server"),
        ("4.0.0", Level.NOTICE, "git pull && "),
        (None, Level.NOTICE, "/version"),
    ],
)
def test_versions(there: str | None, level: Level, cure: str) -> None:
    (found,) = server.versions(Contact(client="3.17.2", server=there))
    assert found.level is level
    assert cure in found.cure


@pytest.mark.parametrize(
    ("ahead", "level", "says"),
    [
        (0.4, Level.OK, "to within 1s"),
        (-20.0, Level.OK, "to within 20s"),
        (60.0, Level.NOTICE, "1m ahead of this host's"),
        (-3600.0, Level.WRONG, "1h behind this host's"),
        (None, Level.NOTICE, "no time"),
    ],
)
def test_clocks(ahead: float | None, level: Level, says: str) -> None:
    (found,) = server.clock(Contact(client="3.17.2", ahead=ahead))
    assert found.level is level
    assert says in found.detail


def by_name(contact: Contact) -> dict[str, tuple[Level, str, str]]:
    return {found.what: (found.level, found.detail, found.cure) for found in server.ways(contact)}


def test_a_way_past_the_server_needs_no_gateway() -> None:
    way = Way("s3://b/x", "s3", "directly, past the server, since it gives s3: as the location")
    assert by_name(Contact(ways=(way,))) == {"way to s3://b/x": (Level.OK, way.how, "")}


def test_a_way_with_something_to_mind() -> None:
    way = Way("file:///a", "file", "directly", (Caution("it is a folder of this host", "Mount it"),))
    found = by_name(Contact(ways=(way,)))["way to file:///a"]
    assert found == (Level.NOTICE, "directly. Mind: it is a folder of this host", "Mount it")


def test_a_gateway_that_refuses_five_mebibytes_is_wrong() -> None:
    level, detail, cure = by_name(Contact(ways=(THROUGH,), refuses=True))["gateway"]
    assert level is Level.WRONG
    assert "a body of 5 MiB" in detail
    assert "client_max_body_size" in cure
    assert by_name(Contact(ways=(THROUGH,), refuses=False))["gateway"][0] is Level.OK
    assert by_name(Contact(ways=(THROUGH,), refuses=None))["gateway"][0] is Level.NOTICE


@pytest.mark.parametrize(
    ("what", "is_ok", "level", "says"),
    [
        ("store", True, Level.OK, "was sent through it and came back, in 0.5 s (one object written)"),
        ("store", False, Level.WRONG, "did not get through: one object written"),
        ("run", False, Level.NOTICE, "could not be tried: one object written"),
    ],
)
def test_what_came_of_five_mebibytes_that_were_sent(what: str, is_ok: bool, level: Level, says: str) -> None:
    sent = Step(what, "http://m", is_ok, 0.5, "one object written", "" if is_ok else "mend it")
    for refuses in (None, False):
        found = by_name(Contact(ways=(THROUGH,), refuses=refuses, sent=sent))["gateway"]
        assert (found[0], found[2]) == (level, sent.cure)
        assert f"a body of 5 MiB {says}" in found[1]


def test_multipart_is_told_either_way() -> None:
    assert "offers none" in by_name(Contact(ways=(THROUGH,)))["multipart"][1]
    assert "from 500.0 MiB on" in by_name(Contact(ways=(THROUGH,), parts=500 * 2**20))["multipart"][1]
