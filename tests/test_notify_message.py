"""A message is one JSON object with all that docs/notify.md promises, and no secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from artifactd.notify.message import as_json, text
from artifactd.notify.pace import Lasting, News, Over
from artifactd.notify.troubles import Trouble
from schemas import hold

DOCS = Path(__file__).parent.parent / "docs" / "notify.md"


def lasting(subject: str, *, new: bool = True, detail: str = "it is so") -> Lasting:
    return Lasting(Trouble("failure", subject, detail, "do that"), 1.0, new)


def made(news: News) -> dict[str, Any]:
    data = as_json(news, host="node-7", state_dir="/var/lib/artifactd", status="3 waiting, 1 failed")
    assert b"\n" not in data
    parsed: dict[str, Any] = json.loads(data)
    hold(parsed, "notify")
    return parsed


def test_it_says_all_there_is() -> None:
    news = News(61.5, (lasting("/d/e/r"), lasting("/d/e/old", new=False)), 2, (Over("watch", "/d", 0.0),))
    data = made(news)
    assert data["version"] == 1
    assert (data["host"], data["state_dir"], data["status"]) == ("node-7", "/var/lib/artifactd", "3 waiting, 1 failed")
    assert data["at"] == "1970-01-01T00:01:01Z"
    assert data["test"] is False
    assert data["troubles"][0] == {
        "kind": "failure", "subject": "/d/e/r", "detail": "it is so", "next_step": "do that",
        "since": "1970-01-01T00:00:01Z", "new": True,
    }  # fmt: skip
    (one,) = {line.rpartition("(")[2] for line in [made(News(0.0, (lasting("/d"),), 1, ()))["text"]]}
    assert one == "1 other)"
    assert [t["new"] for t in data["troubles"]] == [True, False]
    assert data["more"] == 2
    assert data["resolved"] == [{"kind": "watch", "subject": "/d", "since": "1970-01-01T00:00:00Z"}]
    assert data["text"] == ("artifactd on node-7: failure: /d/e/r: it is so; resolved: watch: /d (3 others)"), (
        "what is new and what is over"
    )


def test_the_line_for_people_is_short() -> None:
    news = News(0.0, tuple(lasting(f"/{n}") for n in range(9)), 0, ())
    assert (
        text(news, "h") == "artifactd on h: " + "; ".join(f"failure: /{n}: it is so" for n in range(3)) + "; and 6 more"
    )


def test_a_test_says_that_it_is_one() -> None:
    data = as_json(News(0.0, (), 0, ()), host="node-7", state_dir="/s", status="", test=True)
    message = json.loads(data)
    assert (message["test"], message["text"]) == (True, "artifactd on node-7: this is a test")


def test_no_secret_leaves_the_host() -> None:
    news = News(0.0, (lasting("https://ann:s3cret@mlflow/", detail="401: token=s3cret"),), 0, ())
    data = as_json(news, host="h", state_dir="/s", status="paused: https://ann:s3cret@mlflow/ refuses")
    assert b"s3cret" not in data


def test_odd_names_can_be_sent() -> None:
    news = News(0.0, (lasting("/d/\udcff\x1b"),), 0, ())
    assert made(news)["troubles"][0]["kind"] == "failure"


def test_the_page_describes_each_key() -> None:
    page = DOCS.read_text(encoding="utf-8")
    (block,) = re.findall(r"(?ms)^```json\n(.*?)^```$", page)
    shown = json.loads(block)
    data = made(News(0.0, (lasting("/d"),), 0, (Over("disk", "/s", 0.0),)))
    assert shown.keys() == data.keys()
    assert shown["troubles"][0].keys() == data["troubles"][0].keys()
    assert shown["resolved"][0].keys() == data["resolved"][0].keys()
    for key in (*data, *data["troubles"][0]):
        assert f"`{key}`" in page, key
