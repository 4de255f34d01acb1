"""The site: its reference is what the code says, its pages are all in the navigation, its configurations load."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import reference
import site_hook
from artifactd.causes import CAUSES
from artifactd.cli import app
from artifactd.config import Config, load_config
from artifactd.config.schema import all_keys, field_at, table_of
from artifactd.runfolder import parse_settings
from test_readme import clean  # noqa: F401  (a fixture)

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])
OF_RUN_FOLDERS = ("# artifactd.toml", "[alive]", "[tags]", "[params]", "run_id", "[[model]]")
"""How a block begins that belongs into a run folder and not into the configuration."""


def navigation() -> list[str]:
    """The pages that the navigation names."""
    # Tags of mkdocs' own are not there: it is read as any YAML is.
    nav = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(item: Any) -> list[str]:
        if isinstance(item, str):
            return [item]
        return [page for below in (item.values() if isinstance(item, dict) else item) for page in pages(below)]

    return pages(nav)


# -- the reference -----------------------------------------------------------------------------------------------------


def test_the_reference_is_what_the_code_says() -> None:
    pages = reference.pages()
    assert {f"reference/{page.name}" for page in (DOCS / "reference").glob("*.md")} <= pages.keys()
    for name, text in pages.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"make docs writes {name} anew"
    listed = re.findall(r"(?m)^\| \[(AD\d+)\]", pages["errors/index.md"])
    assert sorted(listed) == sorted(cause.code for cause in CAUSES), "each in one group"


def test_each_key_is_explained_where_users_read_it_first() -> None:
    said = reference.descriptions((PROJECT / "config.example.toml").read_text(encoding="utf-8"))
    keys = [
        tuple(str(name) for name in loc if isinstance(name, str))
        for loc in all_keys()
        if (field := field_at(loc)) is not None and table_of(field) is None
    ]
    assert [key for key in keys if not said.get(key)] == []
    assert set(said) <= set(keys), "a key that is not there is explained"


def test_each_command_that_prints_json_is_in_the_reference() -> None:
    group: Any = typer.main.get_command(app)
    with group.make_context("artifactd", ["status"], resilient_parsing=True) as ctx:
        commands = [group.resolve_command(ctx, [name])[1] for name in group.commands]
    printing = [c.name for c in commands if any("--json" in parameter.opts for parameter in c.params)]
    assert len(printing) == 7
    text = reference.schemas()
    named = set(re.findall(r"(?m)^## `artifactd (\w+) --json`$", text))
    assert named == set(printing)
    assert set(re.findall(r"\.\./([\w.]+\.json)\)", text)) == {file.name for file in DOCS.glob("*.schema.json")}


def test_each_key_of_json_is_explained() -> None:
    rows = re.findall(r"(?m)^\| (`[^`]+`) \| (.*?) \| (.*) \|$", reference.schemas())
    assert [key for key, kind, said in rows if not kind or not said] == []
    assert len(rows) > 150


# -- pages -------------------------------------------------------------------------------------------------------------


def test_each_page_has_its_place_in_the_navigation() -> None:
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} | set(site_hook.PAGES.values())
    apart = {"reporting.md"} | {page for page in there if re.fullmatch(r"errors/AD\d+\.md", page)}
    named = navigation()
    assert len(named) == len(set(named))
    assert there - apart == set(named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_each_configuration_that_a_page_shows_loads(page: Path, tmp_path: Path) -> None:
    for indent, text in re.findall(r"(?ms)^( *)```toml\n(.*?)^ *```$", page.read_text(encoding="utf-8")):
        block = re.sub(rf"(?m)^{indent}", "", text)
        if block.startswith(OF_RUN_FOLDERS):
            parse_settings(block.encode())
        else:
            loaded(block, tmp_path)


@pytest.mark.parametrize(
    ("english", "portuguese"), [("README.md", "README.pt.md"), ("docs/tutorial.md", "docs/pt/tutorial.md")]
)
def test_a_translated_page_has_the_same_blocks_and_tables(english: str, portuguese: str) -> None:
    ours, theirs = ((PROJECT / page).read_text(encoding="utf-8") for page in (english, portuguese))
    blocks = r"(?ms)^```\w+\n.*?^```$"
    assert re.findall(blocks, ours) == re.findall(blocks, theirs)
    prose = [re.sub(blocks, "", text) for text in (ours, theirs)]
    for what, mark in (("headings", r"(?m)^#+ "), ("rows", r"(?m)^\|"), ("points", r"(?m)^- ")):
        here, there = (len(re.findall(mark, text)) for text in prose)
        assert here == there, f"{what}: {here} and {there}"
    first = r"(?m)^\| (`.*?) \| "
    names = [[re.findall(r"`[^`]+`", cell) for cell in re.findall(first, text)] for text in prose]
    assert names[0] == names[1], "rows in another order"


def test_the_pod_of_the_page_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (DOCS / "how-to" / "kubernetes.md").read_text(encoding="utf-8"))
    [sidecar] = yaml.safe_load(block)["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    for variable in sidecar["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    file = tmp_path / "config.toml"
    file.touch()
    config = load_config(file)
    assert config.state_dir == Path("/state")
    assert [(watch.path, watch.run_scope) for watch in config.watch] == [(Path("/drop"), "fleet")]
    mounted = {mount["mountPath"] for mount in sidecar["volumeMounts"]}
    assert mounted == {"/drop", "/state"}


def test_each_script_of_a_how_to_is_one() -> None:
    for page in sorted((DOCS / "how-to").glob("*.md")):
        blocks = r"(?ms)^( *)```(sh|python)\n(.*?)^ *```$"
        for indent, language, text in re.findall(blocks, page.read_text(encoding="utf-8")):
            script = re.sub(rf"(?m)^{indent}", "", text)
            if language == "python":
                compile(script, page.name, "exec")
                continue
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{page.name}: {done.stderr}"


def loaded(text: str, base: Path) -> Config:
    """A configuration, with its folders below `base`, and with what a part of one leaves out."""
    if text.startswith("[[watch.route]]"):
        text = f'[[watch]]\npath = "/data/drop"\n{text}'
    if "[[watch]]" not in text:
        text = f'{text}\n[[watch]]\npath = "/data/drop"\n'
    if not re.search("(?m)^state_dir", text):
        text = f'state_dir = "/state"\n{text}'
    file = base / "config.toml"
    file.write_text(re.sub(r'(?m)^(path|state_dir) = "[~/]', rf'\1 = "{base}/', text), encoding="utf-8")
    return load_config(file)


def test_links_lead_to_where_things_are_in_the_site() -> None:
    text = "[a](../README.md#limits) [b](../systemd/artifactd.service) [c](runs.md) [d](https://mlflow.org)"
    assert site_hook.relinked(text, "docs/index.md", "index.md") == (
        "[a](readme.md#limits) [b](files/systemd/artifactd.service.md) [c](runs.md) [d](https://mlflow.org)"
    )
    assert site_hook.relinked("[a](docs/how-to/s3.md)", "README.md", "readme.md") == "[a](how-to/s3.md)"
    assert site_hook.relinked("[a](../../README.md)", "docs/how-to/s3.md", "how-to/s3.md") == "[a](../readme.md)"
    assert site_hook.shown_as("examples/prometheus") == "files/examples/prometheus/index.md"


def test_the_site_asks_nothing_of_the_network() -> None:
    text = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    site = yaml.safe_load(text)
    assert site["strict"] is True
    assert site["theme"]["font"] is False
    assert "offline" in site["plugins"]
    assert "https://" not in text
    assert {"extra_javascript", "extra_css"} & site.keys() == set()
    html = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    assert site_hook.own_script(html, "how-to/s3.html") == '<script src="../assets/search-from-disk.js"></script>'
    assert (DOCS / "assets" / "search-from-disk.js").exists()
    with (PROJECT / "pyproject.toml").open("rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    assert [need.partition(">")[0] for need in extras["docs"]] == ["mkdocs-material"]
