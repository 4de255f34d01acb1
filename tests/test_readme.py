"""The README is true where that is cheap to see: commands, flags, configuration, tables, links."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from artifactd.cli import app
from artifactd.cli.status import as_data
from artifactd.config import Config, ConfigError, layout_of, load_config
from artifactd.excludes import Ignored
from artifactd.layout import Destination
from artifactd.ledger.rows import Totals
from artifactd.runfolder import MARKERS, parse_settings
from artifactd.standing import Standing

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob(".github/**/*.md")])
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", README)
PROSE = re.sub(r"(?ms)^```.*?^```$", "", README)
GROUP: Any = typer.main.get_command(app)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ARTIFACTD_", "MLFLOW_", "XDG_")) or name == "STATE_DIRECTORY":
            monkeypatch.delenv(name)


def section(title: str) -> str:
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README)
    assert found is not None, title
    return found[1]


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the table whose first header this is."""
    found = re.search(rf"(?m)^ *\| {re.escape(header)} \|.*\n *\|[-|]+\|\n((?: *\|.*\n)+)", text)
    assert found is not None, header
    lines = [line.strip().strip("|") for line in found[1].splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- commands --------------------------------------------------------------------------------------------------------


def shown_commands() -> list[str]:
    """What stands behind a prompt."""
    return [line for _, block in BLOCKS for line in re.findall(r"(?m)^\$ (artifactd .+)$", block)]


def mentioned_commands() -> list[str]:
    return re.findall(r"`(artifactd [a-z]+[^`]*)`", PROSE)


def command_of(line: str) -> tuple[Any, list[str]]:
    name, *args = shlex.split(line, comments=True)[1:]
    with GROUP.make_context("artifactd", ["status"], resilient_parsing=True) as ctx:
        _, command, _ = GROUP.resolve_command(ctx, [name])
    assert command is not None, f"no such command: {line}"
    return command, args


def test_there_are_commands_to_look_at() -> None:
    assert len(shown_commands()) >= 10
    assert len(mentioned_commands()) >= 10


@pytest.mark.parametrize("line", shown_commands())
def test_a_shown_command_parses(line: str) -> None:
    command, args = command_of(line)
    command.make_context("artifactd", args).close()


@pytest.mark.parametrize("line", mentioned_commands())
def test_a_mentioned_command_and_its_flags_exist(line: str) -> None:
    command, args = command_of(line.replace("\\|", "|").replace("[", " ").replace("]", " "))
    known = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
    assert {arg for arg in args if arg.startswith("-")} <= known


def test_the_table_of_commands_is_complete() -> None:
    listed = {
        name for row in rows(section("Commands"), "command") for name in re.findall(r"artifactd ([\w-]+)", row[0])
    }
    assert listed == set(GROUP.commands)
    json_told = {
        name for row in rows(section("Commands"), "command") if "`--json`" in row[1]
        for name in re.findall(r"artifactd ([\w-]+)", row[0])
    }  # fmt: skip
    for name in sorted(json_told):
        assert "--json" in {flag for parameter in command_of(f"artifactd {name}")[0].params for flag in parameter.opts}


@pytest.mark.parametrize("target", re.findall(r"`make ([a-z-]+)`", README))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", (PROJECT / "Makefile").read_text())


# -- configuration ---------------------------------------------------------------------------------------------------


def config_blocks() -> list[str]:
    return [block for language, block in BLOCKS if language == "toml" and not block.startswith("# artifactd.toml")]


def loaded(text: str, tmp_path: Path) -> Config:
    """The configuration, with every folder moved below `tmp_path`, and one watch if it names none."""
    text = re.sub(r'(?m)^(path|state_dir) = "/', rf'\1 = "{tmp_path}/', text)
    if "[[watch]]" not in text:
        text += f'\n[[watch]]\npath = "{tmp_path}/drop"\n'
    if "state_dir" not in text:
        text = f'state_dir = "{tmp_path}/state"\n{text}'
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def test_every_configuration_block_loads(tmp_path: Path) -> None:
    assert config_blocks()
    for block in config_blocks():
        assert loaded(block, tmp_path).notices() == ()


def test_every_run_folder_block_is_valid() -> None:
    (block,) = (block for language, block in BLOCKS if block.startswith("# artifactd.toml"))
    settings = parse_settings(block.encode())
    assert settings.run_id
    assert settings.name
    assert settings.tags
    assert settings.params


@pytest.mark.parametrize("row", rows(section("Configuration"), "store"), ids=lambda row: row[0])
def test_every_store_can_be_configured(row: list[str], tmp_path: Path) -> None:
    settings = [setting for setting in quoted(row[1]) if " = " in setting]
    config = loaded("[mlflow]\n" + "\n".join(settings), tmp_path)
    assert config.embedded is not any(setting.startswith("tracking_uri") for setting in settings)
    extras = {extra for named in re.findall(r"\.\[([a-z,0-9]+)\]", row[2]) for extra in named.split(",")}
    with (PROJECT / "pyproject.toml").open("rb") as stream:
        assert extras <= tomllib.load(stream)["project"]["optional-dependencies"].keys()


# -- tables ----------------------------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, str, list[str]]]:
    """File, the `[[watch]]` keys of its row, and the three cells that say where it goes."""
    for file, settings, *place in rows(section("Where a file goes"), "file below the watched folder"):
        keys = [key for key in quoted(settings) if " = " in key]
        if "route" in settings:
            keys.insert(0, "[[watch.route]]")
        yield quoted(file)[0], "\n".join(keys), place


@pytest.mark.parametrize(("file", "keys", "place"), list(examples()))
def test_each_file_goes_where_the_table_says(file: str, keys: str, place: list[str], tmp_path: Path) -> None:
    config = loaded(f'[[watch]]\npath = "/drop"\n{keys}\n', tmp_path)
    placed = layout_of(config.watch[0]).place(file.encode())
    if place[2].startswith("ignored: "):
        assert isinstance(placed, Ignored)
        assert placed.rule.startswith(place[2].removeprefix("ignored: "))
        return
    assert isinstance(placed, Destination)
    assert [quoted(cell)[0] for cell in place] == [placed.experiment, placed.run, placed.artifact_path]
    assert quoted(place[2])[1:] == [f"artifactd.{name}" for name, _ in placed.names]


def test_the_end_markers_are_those_of_the_code() -> None:
    told = {
        name.encode(): status
        for names, does in rows(section("Where a file goes"), "file in the run folder")
        for name in quoted(names)
        for status in ("FINISHED", "FAILED")
        if status in does
    }
    assert told == dict(MARKERS)


def test_the_keys_of_status_are_those_of_the_code() -> None:
    data = as_data(Standing(None, Totals({}, 0, 0, None, 0, 0), [], [], [], {}))
    assert {key for row in rows(section("Commands"), "`status --json`") for key in quoted(row[0])} == data.keys()


# -- links -----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a link may point to within a page, as GitHub names headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_local_links_point_to_what_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("https://", "http://"))]
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_room_has_its_place_in_the_architecture() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = PROJECT / "daemon" / "artifactd"
    rooms = {f"{path.parent.name}/" for path in source.glob("*/__init__.py")}
    rooms |= {path.name for path in source.glob("*.py") if not path.name.startswith("__")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []


def test_a_wrong_block_would_be_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        loaded('[mlflow]\ntracking_url = "http://mlflow:5000"\n', tmp_path)
