"""The page, as a person has it in a real browser."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger_rows
from artifactd.config import MetricsConfig
from artifactd.exposition import Exposition
from artifactd.exposition.counts import Sparing
from artifactd.metrics import Figures
from cli_support import Book
from conftest import MlflowServer
from support import Program, free_port, wait_for

pytestmark = pytest.mark.browser

Open = Callable[..., Any]

FIRST_TABLE_WITHIN = 5.0
"""Seconds from the address to rows, with 100,000 files in the ledger, on two busy cores."""

HOSTILE = [
    b"<img src=x onerror=alert(1)>.png",
    b"<!--", b"&lt;b&gt;", b"--><svg onload=alert(2)>",
    b"' onmouseover='alert(3)", b'"><b id=injected>',
    b"<\xff\xfe>.bin", b"\x1b[31mred\x1b]0;title\x07", "\u202egnp.exe".encode(), b"new\nline",
]  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


@pytest.fixture
def shown(book: Book) -> Iterator[str]:
    """The address of the page of that ledger."""
    exposition = Exposition(book.state, Figures(), list)
    port = free_port()
    exposition.use(MetricsConfig.model_validate({"listen": f"127.0.0.1:{port}"}))
    yield f"http://127.0.0.1:{port}/"
    exposition.close()


def rows(page: Any, table: str) -> list[str]:
    found: list[str] = page.locator(f"#{table} tbody tr").all_inner_texts()
    return found


def until_rows(page: Any, table: str, said: str) -> list[str]:
    page.locator(f"#{table} tbody tr", has_text=said).first.wait_for()
    return rows(page, table)


def test_what_is_delivered_shows_by_itself_and_leads_to_mlflow(
    tmp_path: Path, mlflow_server: MlflowServer, opened: Open
) -> None:
    port = free_port()
    secret = mlflow_server.uri.replace("http://", "http://somebody:hunter22@")
    listen = f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
    program = Program(tmp_path, tracking_uri=secret, watch='layout = "{experiment}/{run}"', more=listen)
    with program.running():
        wait_for(lambda: b'"event": "ready"' in program.log.read_bytes(), "it is ready")
        page = opened(f"http://127.0.0.1:{port}/", expected=("ERR_",))
        page.get_by_text("The service is working").wait_for()
        assert page.locator("#count-stored").inner_text() == "0"
        page.get_by_role("heading", name=f"artifactd on {socket.gethostname()}").wait_for()
        assert page.title() == f"artifactd on {socket.gethostname()}"
        folder = program.drop / "vision" / "run-1"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.bin").write_bytes(os.urandom(1000))
        page.locator("#count-stored", has_text="3").wait_for()
        (row,) = until_rows(page, "runs", "vision / run-1")
        assert "RUNNING" in row
        assert re.search(r"last sign of life [\d:]+: a file changed", row)
        page.locator("#files-show").select_option("stored")
        assert len(until_rows(page, "files", "as 2.bin")) == 3
        link = page.locator("#runs a").first
        assert "hunter22" not in page.content()
        assert link.get_attribute("href").startswith(f"{mlflow_server.uri}/#/runs/")
        with page.context.expect_page() as other:
            link.click()
        other.value.wait_for_url("**/#/experiments/*/runs/*")
        other.value.close()
    page.get_by_text("The service does not answer").wait_for()
    with program.running():
        page.get_by_text("The service is working").wait_for()


def test_runs_that_are_counted_later_are_shown_once_they_are(
    book: Book, shown: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written into the ledger any more when the pause between two counts ends."""
    asked: set[Sparing[Any]] = set()
    get = Sparing.get

    def noted(self: Sparing[Any]) -> Any:
        asked.add(self)
        return get(self)

    monkeypatch.setattr(Sparing, "get", noted)
    book.write("e/r/a")
    book.look()
    page = opened(shown)
    until_rows(page, "runs", "not made yet")
    for sparing in asked:
        sparing.not_before = time.monotonic() + 8
    book.deliver()
    until_rows(page, "runs", "RUNNING")
    page.locator("#runs progress[aria-label='1 of 1 files stored']").wait_for(timeout=30_000)


def test_what_is_left_stands_where_it_is(book: Book, shown: str, opened: Open) -> None:
    book.write("e/r/a", b"x" * 2048)
    book.look()
    (row,) = book.rows()
    book.ledger.claim(row, time.time() + 3600, 1, 2**30)
    page = opened(shown)
    page.locator("#more-uploading", has_text="2.0 KiB, the oldest for ").wait_for()
    assert page.locator("#more-waiting").inner_text() == "", "nothing waits"
    book.write("e/r/b", b"x" * 1024)
    book.look()
    page.locator("#more-waiting", has_text="3.0 KiB with what is under way, the oldest for ").wait_for()


def test_names_are_text_and_never_markup(book: Book, shown: str, opened: Open) -> None:
    for name in HOSTILE:
        book.write("e/r/" + os.fsdecode(name))
    book.write("e/r/</script><script>alert(4)</script>")
    book.write("<img src=x onerror=alert(5)>/<b>run/a")
    book.look()
    book.fail("<img src=x onerror=alert(6)>\x1b[2J")
    page = opened(shown)
    text = "\n".join(until_rows(page, "files", "onerror=alert(1)"))
    until_rows(page, "runs", "<b>run")
    for said in ("<img src=x onerror=alert(1)>.png", '"><b id=injected>', "</script><script>alert(4)</script>"):
        assert said in text
    for said in ("<\\xff\\xfe>.bin", "\\x1b[31mred\\x1b]0;title\\x07", "\\xe2\\x80\\xaegnp.exe", "new\\x0aline"):
        assert said in text
    assert "<img src=x onerror=alert(6)>\\x1b[2J" in text
    assert page.locator("table img, table svg, table b, table script, #injected").count() == 0


def test_a_hundred_thousand_files_are_looked_through_by_keyboard_alone(book: Book, shown: str, opened: Open) -> None:
    ledger_rows.fill(book.state, book.drop, files=100_000, runs=500, failed=120, waiting=400)
    begun = time.monotonic()
    page = opened(shown)
    until_rows(page, "files", "file-")
    until_rows(page, "runs", "run-00499")
    took = time.monotonic() - begun
    assert took < FIRST_TABLE_WITHIN
    assert len(rows(page, "files")) == 50
    keyboard = page.keyboard
    keyboard.press("Tab")
    keyboard.press("Enter")  # the link that leads past the runs
    keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files-show"
    keyboard.press("ArrowDown")
    until_rows(page, "files", "failed")
    first = rows(page, "files")
    for _ in range(4):
        keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files-on":
            break
    assert page.evaluate("document.activeElement.id") == "files-on"
    keyboard.press("Enter")
    page.locator("#files-place", has_text="Page 2").wait_for()
    assert not set(first) & set(rows(page, "files"))
    keyboard.press("Enter")
    page.locator("#files-place", has_text="Page 3, the last one").wait_for()
    assert len(rows(page, "files")) == 20
    assert page.evaluate("document.activeElement.id") == "files-on"  # the focus does not fall off at the last page
    page.locator("#files-show").select_option("all")
    page.locator("#files-text").focus()
    begun = time.monotonic()
    keyboard.type("0099999")
    assert len(until_rows(page, "files", "file-0099999")) == 1
    assert time.monotonic() - begun < FIRST_TABLE_WITHIN
    page.locator("#runs-text").focus()
    keyboard.type("RUN-00007")
    until_rows(page, "runs", "run-00007")
    page.locator("#runs button").first.focus()
    page.locator("#files-text").fill("")
    page.locator("#runs button").first.press("Enter")
    page.locator("#files-run-name", has_text="many / run-00007").wait_for()
    found = until_rows(page, "files", "/many/run-00007/")
    assert len(found) == 50
    assert all("/many/run-00007/" in row for row in found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody(scheme: str, book: Book, shown: str, opened: Open, pictures: Path | None) -> None:
    for number in range(6):
        book.write(f"vision/resnet-{number % 2 + 1}/checkpoint-{number}.pt", os.urandom(30_000))
    book.look()
    book.deliver()
    book.write("vision/resnet-1/notes.txt")
    book.look()
    book.fail("the service's user may not read it")
    book.write("vision/resnet-2/loss.png")
    book.look()
    book.hold()
    page = opened(shown, color_scheme=scheme)
    until_rows(page, "files", "loss.png")
    until_rows(page, "runs", "resnet-1")
    page.get_by_text("Held back").wait_for()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 384) == (scheme == "light")
    if pictures is not None:
        # What a reader of the documentation may see: no folder and no name of this machine.
        page.evaluate(PLAIN, str(book.drop))
        picture(page, pictures / f"page-{scheme}.png")
    from axe_playwright_python.sync_playwright import Axe

    # axe is a script of its own, put into the page by the browser's own means: the page's policy allows none.
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def picture(page: Any, file: Path) -> None:
    """A small one: a page has few colours."""
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(page.screenshot(full_page=True))) as taken:
        few = taken.convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)


PLAIN = """(drop) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) node.data = node.data.replaceAll(drop, "/data/drop");
  document.getElementById("host").textContent = "artifactd on node-7";
}"""


def test_where_a_token_is_wanted_the_browser_asks_for_it(book: Book, tmp_path: Path, opened: Open) -> None:
    token = tmp_path / "token"
    token.write_text("sesame\n")
    exposition = Exposition(book.state, Figures(), list)
    port = free_port()
    exposition.use(MetricsConfig.model_validate({"listen": f"127.0.0.1:{port}", "token_file": token}))
    try:
        book.write("e/r/a")
        book.look()
        page = opened(f"http://127.0.0.1:{port}/", http_credentials={"username": "", "password": "sesame"})
        until_rows(page, "files", "/e/r/a")
        book.deliver()
        page.locator("#count-stored", has_text="1").wait_for()
        other = opened(
            f"http://127.0.0.1:{port}/", expected=("401",), http_credentials={"username": "x", "password": "wrong"}
        )
        assert "a token is wanted" in other.content()
        assert "sesame" not in page.url
    finally:
        exposition.close()
