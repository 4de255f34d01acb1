"""For mkdocs: what pages link to outside of ``docs/`` becomes part of the site, so that no link leads out of it.

Markdown of the project's top folder becomes pages, other files pages that show them.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
PAGES = {
    "README.md": "readme.md",
    "README.pt.md": "pt/readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
"""Pages from outside of ``docs/``, by where they are found in the site."""

_SHIM = "https://unpkg.com/iframe-worker/shim"
_OUR_SHIM = "assets/search-from-disk.js"
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?\)")
_LANGUAGES = {
    ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".sh": "sh", ".json": "json", ".py": "python", ".service": "ini"
}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside, and one for each other file that a page links to."""
    from mkdocs.structure.files import File  # noqa: PLC0415  (not installed where the tests run)

    linked: set[str] = set()
    sources = {page: f"docs/{page}" for page in (f.src_uri for f in files) if page.endswith(".md")}
    for source, page in PAGES.items():
        if (PROJECT / source).exists():
            files.append(File.generated(config, page, content=(PROJECT / source).read_text(encoding="utf-8")))
            sources[page] = source
    for source in sources.values():
        linked |= {target for target in targets(source) if shown_as(target) is not None}
    linked |= {below for target in linked for below in inside(target)}
    for target in sorted(linked):
        files.append(File.generated(config, str(shown_as(target)), content=as_page(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to where things are in the site."""
    here = page.file.src_uri
    source = next((name for name, as_name in PAGES.items() if as_name == here), f"docs/{here}")
    return relinked(markdown, source, here)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Have the search from a disk by a script of ours: the theme would ask a host for one, whenever a page is read."""
    return own_script(output, page.file.url)


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same for 404.html, which is no page."""
    return own_script(output_content, template_name)


def own_script(html: str, here: str) -> str:
    """A page's HTML, with our script in place of the one from elsewhere."""
    return html.replace(_SHIM, posixpath.relpath(_OUR_SHIM, posixpath.dirname(here) or "."))


def relinked(markdown: str, source: str, here: str) -> str:
    """A page's text, its links as they are from its place in the site.

    Args:
        markdown: The text.
        source: The file that it is from, from the project's folder.
        here: The page, from the site's root.
    """

    def turn(found: re.Match[str]) -> str:
        target = _resolved(source, found[2])
        place = None if target is None else _place(target)
        if place is None:
            return found[0]
        return f"{found[1]}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{found[3] or ''})"

    return _LINK.sub(turn, markdown)


def targets(source: str) -> set[str]:
    """The files of the project that a page links to, from the project's folder."""
    text = (PROJECT / source).read_text(encoding="utf-8") if (PROJECT / source).exists() else ""
    return {target for _, link, _ in _LINK.findall(text) if (target := _resolved(source, link)) is not None}


def shown_as(target: str) -> str | None:
    """The page that shows a file which is no page itself; None for what the site has anyway."""
    if target in PAGES or target.startswith(("docs/", "..")) or not (PROJECT / target).exists():
        return None
    return f"files/{target.lstrip('.')}/index.md" if inside(target) else f"files/{target.lstrip('.')}.md"


def inside(target: str) -> list[str]:
    """The files of a folder that a page links to; none for a file."""
    found = sorted(path for path in (PROJECT / target).glob("*") if path.is_file())
    return [path.relative_to(PROJECT).as_posix() for path in found]


def as_page(target: str) -> str:
    """A page that shows a file, or lists a folder."""
    if below := inside(target):
        links = "\n".join(f"- [{posixpath.basename(f)}]({posixpath.basename(f)}.md)" for f in below)
        return f"# {target}\n\n{links}\n"
    text = (PROJECT / target).read_text(encoding="utf-8")
    language = _LANGUAGES.get(os.path.splitext(target)[1], "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {target}\n\n````{language}\n{text.rstrip()}\n````\n"


def _resolved(source: str, link: str) -> str | None:
    if "://" in link or link.startswith("mailto:"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place(target: str) -> str | None:
    if target in PAGES:
        return PAGES[target] if (PROJECT / target).exists() else None
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return shown_as(target)
