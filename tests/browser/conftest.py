"""A real browser, and what it looks at. ``make test-browser`` installs what this needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_PICTURES = os.environ.get("ARTIFACTD_SCREENSHOTS")
"""Looked at before the tests begin: they see no variable of ours."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "there is no Chromium: make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; at the end, nothing may have been wrong on any: no dialog, no error, no refused script or style."""
    contexts, wrong = [], list[str]()

    def open_(url: str, *, expected: tuple[str, ...] = (), **settings: Any) -> Any:
        def is_wrong(said: Any) -> bool:
            return said.type == "error" and not any(word in said.text for word in expected)

        context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures for the documentation go; None: nobody wants them."""
    return None if _PICTURES is None else request.config.rootpath / _PICTURES
