"""Writes ``docs/reference/`` and the list of errors: what the code knows of its commands, keys, metrics, JSON, codes.

``make docs`` runs it; ``tests/test_docs_reference.py`` sees that what is checked in is what it writes. What keys are
for stands in ``config.example.toml``, where users read it first, and nowhere else.
"""

from __future__ import annotations

import json
import re
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from artifactd import errors
from artifactd.causes import CAUSES
from artifactd.cli import app
from artifactd.config.model import Config, RouteConfig, WatchConfig
from artifactd.config.schema import all_keys, field_at, is_list, table_of

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
_MADE = "<!-- Written by .ci/reference.py (make docs): change the code, not this page. -->\n\n"

_KEYS_HEAD = """# Configuration

Every key there is. [config.example.toml](../../config.example.toml) has the same as a file to begin with. A variable
goes before the file; `0` in its name is the number of the watch or route. Lists and tables in variables are JSON.
"""
_METRICS_HEAD = """# Metrics

As the code names them; [metrics and health](../metrics.md) says how they are served and what they are good for.

"""
_JSON_HEAD = """# JSON

What programs may rely on. Keys may come, and none of these goes. Each part has its schema as a file.
"""
_JSON = (
    ("`artifactd status --json`", "With `--watch` one such object a line, until it is ended.", "status"),
    ("`artifactd check --json`", "", "check"),
    ("`artifactd doctor --json`", "", "doctor"),
    ("`artifactd explain --json`", "A list: an entry for each path that was asked for.", "explain"),
    ("`artifactd sync --json`", "", "sync"),
    ("`artifactd verify --json`", "", "verify"),
    ("`artifactd ls --json`", "A list.", "ls"),
    ("The message of `[notify]`", "[Its page](../notify.md) says when it is sent, and how it is signed.", "notify"),
    ("The manifest", "`artifactd/manifest.json` in a run; [its page](../manifest.md) says what for.", "manifest"),
)
"""Each part of the page: heading, what is to be said first, whose schema."""
_CODES_HEAD = """# Error codes

An error whose cause is known ends with its code, as `[AD301]`: in `status` (also with `--watch` and `--json`),
`explain`, `sync`, `exec`, `check`, `doctor`, `pull`, `verify`, on the page, in `systemctl status`, in the log and in
messages to people. `artifactd explain AD301` prints its page, without site and network. A code stays what it is; one
that is gone is not given again. Other errors are quoted as they came.

*Waits* and *is tried again* mean that nothing is to be done for the files themselves: they go once the cause is
mended. *Failed* means that `artifactd retry` is needed, unless the file changes.
"""
_GROUPS = {
    "The server, and the way to it": ("AD1",),
    "The store": ("AD20", "AD21", "AD22"),
    "SFTP": ("AD25",),
    "Files": ("AD3",),
    "Runs": ("AD4",),
    "What files say": ("AD5",),
    "The way back": ("AD6",),
    "This host": ("AD7",),
    "The configuration": ("AD8",),
}
_TYPES = {
    "absolute_path": "absolute path", "_duration": 'duration, as `"5s"`', "_size": 'size, as `"1GiB"`',
    "_until": '`"never"` or a duration', "_limit": 'bytes/s, as `"10MiB"`, or a timetable',
    "_workers": '`"auto"` or 1 to 64',
    "_layout": "folder levels", "_listen": "host:port", "check_tracking_uri": "URI", "check_artifact_location": "URI",
}  # fmt: skip
"""What a key takes, by the function that checks it."""


def pages() -> dict[str, str]:
    """Each page with its text, by its name in ``docs/``."""
    made = {
        "reference/commands.md": commands(),
        "reference/configuration.md": configuration(),
        "reference/metrics.md": metrics(),
        "reference/json.md": schemas(),
        "reference/exit-codes.md": exit_codes(),
        "errors/index.md": error_codes(),
    }
    return {name: _MADE + text for name, text in made.items()}


# -- commands ------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Each command as its ``--help`` has it."""
    group: Any = typer.main.get_command(app)
    parts = ["# Commands\n\nWhat `--help` says of each. Data goes to stdout, messages to stderr.\n"]
    for name in group.commands:
        with group.make_context("artifactd", ["status"], resilient_parsing=True) as ctx:
            _, command, _ = group.resolve_command(ctx, [name])
        parts.append(_command(name, command))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(["artifactd", name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    lines = [f"## artifactd {name}", "", f"```text\n{usage}\n```", "", _plain(command.help), ""]
    if arguments or options:
        lines += ["| | | |", "|---|---|---|"]
        lines += [f"| `{p.metavar or p.name}` | | {_cell(p.help)} |" for p in arguments]
        lines += [_option(p) for p in options]
        lines.append("")
    if command.epilog:
        lines += [_plain(command.epilog), ""]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    shown = f"{parameter.metavar or parameter.name.upper()}{'…' if parameter.nargs == -1 else ''}"
    return shown if parameter.required else f"[{shown}]"


def _option(parameter: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag or parameter.count else f"`{parameter.metavar or 'TEXT'}`"
    default = parameter.default
    told = f" Default: `{default}`." if isinstance(default, str | int) and not isinstance(default, bool) else ""
    return f"| {flags} | {value} | {_cell(parameter.help)}{told} |"


def _plain(text: str | None) -> str:
    """Rich's markup as Markdown."""
    bold = re.sub(r"\[bold\](.*?)\[/(?:bold)?\]", r"`\1`", text or "")
    return re.sub(r"\[dim\](.*?)\[/(?:dim)?\]", r"\1", bold).replace("\\[", "[")


def _cell(text: str | None) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|")


# -- configuration -------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Each key: type, default, variable, what it is for."""
    said = descriptions((PROJECT / "config.example.toml").read_text(encoding="utf-8"))
    parts = [_KEYS_HEAD]
    table: tuple[str | int, ...] | None = None
    for loc in all_keys():
        field = field_at(loc)
        if field is None or table_of(field) is not None:
            continue
        if loc[:-1] != table:
            table = loc[:-1]
            parts.append(_table_head(table))
        parts.append(_key(loc, field, said))
    return "\n".join(parts).rstrip() + "\n"


def _table_head(table: tuple[str | int, ...]) -> str:
    names = ".".join(str(name) for name in table if isinstance(name, str))
    if not names:
        return "## Top level\n"
    field = field_at(tuple(n for n in table[: -1 if isinstance(table[-1], int) else None]))
    heading = f"[[{names}]]" if field is not None and is_list(field) else f"[{names}]"
    return f"## `{heading}`\n"


def _key(loc: tuple[str | int, ...], field: FieldInfo, said: dict[tuple[str, ...], str]) -> str:
    names = tuple(str(name) for name in loc if isinstance(name, str))
    variable = "ARTIFACTD_" + "__".join(str(name).upper() for name in loc)
    lines = [
        f"### `{names[-1]}`", "", said[names], "",
        f"- takes: {taken(field)}", f"- default: {_default(loc, field)}", f"- variable: `{variable}`",
    ]  # fmt: skip
    if field.examples:
        lines.append(f"- example: `{names[-1]} = {_toml(field.examples[0])}`")
    return "\n".join([*lines, ""])


def descriptions(example: str) -> dict[tuple[str, ...], str]:
    """What ``config.example.toml`` says of each key, in the comment above it.

    Args:
        example: The file's text.

    Returns:
        By table and key; the first word on a key counts.
    """
    found: dict[tuple[str, ...], str] = {}
    table: tuple[str, ...] = ()
    told: list[str] = []
    for line in example.splitlines():
        if head := re.fullmatch(r"#?\[+([\w.]+)\]+", line):
            table, told = tuple(head[1].split(".")), []
        elif key := re.match(r"#?(\w+) = ", line):
            if told:
                found.setdefault((*table, key[1]), " ".join(told))
            told = []
        elif line.startswith("# "):
            told.append(line[2:].strip())
        elif not line.startswith("#"):
            told = []
    return found


def taken(field: FieldInfo) -> str:
    """What a key takes, in words."""
    return _taken(field.annotation, field.metadata)


def _taken(annotation: Any, metadata: Any = ()) -> str:
    for item in metadata:
        name = getattr(getattr(item, "func", None), "__name__", "")
        if name in _TYPES:
            return str(_TYPES[name])
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _taken(args[0], annotation.__metadata__)
    if origin is Literal:
        return " or ".join(f'`"{arg}"`' for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_taken(arg) for arg in args if arg is not type(None))
    if origin is tuple:
        return f"list of: {_taken(args[0])}"
    if origin is dict:
        return "table of texts"
    name = str(annotation.__name__)
    return {"str": "text", "int": "number", "bool": "`true` or `false`"}.get(name, name)


def _default(loc: tuple[str | int, ...], field: FieldInfo) -> str:
    if loc == ("state_dir",):
        return "`$STATE_DIRECTORY`, else `~/.local/state/artifactd`"
    if field.is_required():
        return "none: it must be written"
    name = str(loc[-1])
    # Constants complete the layout, so they are asked for in a watch that names neither.
    if loc[0] == "watch":
        made: BaseModel = RouteConfig(match="*") if "route" in loc else WatchConfig(path=Path("/data/drop"))
    else:
        made = getattr(Config(), str(loc[0]))
    value = made.model_dump(mode="json")[name]
    return "none" if value is None else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


# -- metrics -------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """Each family of metrics, as the service would hand it out."""
    rows = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for family in _families():
        labels = sorted({*family._labelnames, *(label for s in family.samples for label in s.labels)} - {"le"})
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{family.name}{ending}` | {family.type} | {shown} | {_cell(family.documentation)} |")
    return _METRICS_HEAD + "\n".join(rows) + "\n"


def _families() -> list[Any]:
    from artifactd.exposition.counts import Counts  # noqa: PLC0415  (as the service does, only where it is wanted)
    from artifactd.exposition.families import Families  # noqa: PLC0415  (as the service does, only where it is wanted)
    from artifactd.ledger import Ledger  # noqa: PLC0415
    from artifactd.metrics import Figures  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        root = ledger.use_roots([_Root.path])[_Root.path]
        ledger.describe_root(root, "events", healthy=True, detail="")
        counts = Counts(Path(folder))
        try:
            return list(Families(counts, Figures(), lambda: [_Root()]).collect())
        finally:
            counts.close()
            ledger.close()


class _Root:
    path, overflows, scanned, scan_seconds = b"/data/drop", 0, 0, 0.0


# -- JSON ----------------------------------------------------------------------------------------------------------


def schemas() -> str:
    """The keys of what is printed, sent or stored as JSON."""
    parts = [_JSON_HEAD]
    for heading, said, name in _JSON:
        file = f"{name}.schema.json"
        parts += [f"## {heading}\n", f"{said} As a schema: [{file}](../{file}).\n".lstrip(), *_tables(file)]
    return "\n".join(parts)


def _tables(file: str) -> Iterator[str]:
    """One table, or one for each kind of entry where a list has several."""
    schema = json.loads((DOCS / file).read_text(encoding="utf-8"))
    if schema["type"] != "array":
        yield _table(schema)
        return
    for kind in schema["items"]["oneOf"]:
        entry = schema["$defs"][kind["$ref"].rpartition("/")[2]]
        yield f"{entry['title']}:\n"
        yield _table(entry)


def _table(schema: dict[str, Any]) -> str:
    return "\n".join(["| key | type | what |", "|---|---|---|", *_keys(schema)]) + "\n"


def _keys(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        kind = inner.get("type", "constant")
        kinds = kind if isinstance(kind, str) else " or ".join(kind)
        yield f"| `{at}{name}` | {kinds} | {_cell(inner.get('description'))} |"
        # What is referred to has a table of its own.
        below = inner.get("items", {})
        yield from _keys(below or inner, f"{at}{name}{'[]' if below else ''}.")


# -- exit codes ----------------------------------------------------------------------------------------------------


def exit_codes() -> str:
    """The codes that errors carry, and the README's table of what each means to a script."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    table = "".join(re.findall(r"(?m)^\| exit code \|.*\n(?:\|.*\n)+", readme))
    rows = [
        "The errors of the Python package carry the same codes:",
        "",
        "| error | exit code | when |",
        "|---|---|---|",
    ]
    for kind in (errors.ArtifactdError, errors.UsageError, errors.UnreachableError, errors.NotStoredError):
        rows.append(f"| `{kind.__name__}` | {kind.exit_code} | {(kind.__doc__ or '').partition(chr(10))[0]} |")
    return f"# Exit codes\n\n{table}\n" + "\n".join(rows) + "\n"


# -- error codes ---------------------------------------------------------------------------------------------------


def error_codes() -> str:
    """The list of causes, by the groups that their numbers have."""
    parts = [_CODES_HEAD]
    by_code = sorted(CAUSES, key=lambda cause: cause.code)
    for heading, group in _GROUPS.items():
        rows = [f"| [{c.code}]({c.code}.md) | {c.what} |" for c in by_code if c.code.startswith(group)]
        parts.append(f"## {heading}\n\n| code | what happened |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Write what differs, and say so."""
    for name, text in pages().items():
        page = DOCS / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")
            print(f"docs/{name} is new")


if __name__ == "__main__":
    main()
