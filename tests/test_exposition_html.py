"""The page needs nothing from elsewhere, and may do nothing but what it brings."""

from __future__ import annotations

import base64
import hashlib
import re

from artifactd.exposition.asked import Asked
from artifactd.exposition.html import page


def test_its_policy_names_its_own_script_and_style_alone() -> None:
    answer = page(Asked())
    text = answer.content.decode()
    policy = dict(part.split(" ", 1) for part in answer.policy.split("; "))
    for what, tag in (("script-src", "script"), ("style-src", "style")):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert policy[what] == f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"
        assert len(inner) > 1000
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.policy


def test_it_asks_nobody_else_and_writes_no_markup() -> None:
    text = page(Asked()).content.decode()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|@import|url\(", text)
    assert not re.search(r"\son[a-z]+=|style=", text)  # the policy would refuse them
    assert len(text) < 40_000
