"""The page as one HTML, with its style and script in it: nothing is fetched from anywhere else.

Its Content-Security-Policy names both by their hashes, so nothing else on it can ever run or style: a file name that
became markup would still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from artifactd.exposition.asked import Answer, Asked


@cache
def _made() -> tuple[bytes, str]:
    """The page, and what it may do."""
    folder = files("artifactd.exposition").joinpath("assets")
    html, style, script = (folder.joinpath(f"page.{end}").read_text("utf-8") for end in ("html", "css", "js"))
    made = html.replace("/*style*/", style).replace("/*script*/", script)
    allowed = {
        "default-src": "'none'", "script-src": _hash(script), "style-src": _hash(style), "connect-src": "'self'",
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    return made.encode(), "; ".join(f"{what} {where}" for what, where in allowed.items())


def page(_asked: Asked) -> Answer:
    """The page; the same for everybody, and without a word of what is delivered."""
    content, policy = _made()
    return Answer(HTTPStatus.OK, "text/html; charset=utf-8", content, policy)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
