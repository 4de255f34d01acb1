"""``artifactd install-unit``: the unit for systemd, with this program's path in it."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from artifactd.cli import common, tables
from artifactd.errors import ArtifactdError
from artifactd.unit import is_untouched, sealed, unit_name, unit_text

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_SYSTEM = Path("/etc/systemd/system")
_USERADD = "useradd --system --home-dir /var/lib/artifactd --shell /usr/sbin/nologin artifactd"


class InstallError(ArtifactdError):
    """The unit is not written; says why, and what to do."""


@app.command(epilog="Example: [bold]artifactd install-unit --user[/]")
def install_unit(
    user: Annotated[
        bool, typer.Option("--user", help="For yourself, without root: a unit of `systemctl --user`.")
    ] = False,
    template: Annotated[
        bool, typer.Option("--template", help="For several instances: artifactd@NAME, configured by NAME.toml.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also in the place of one that somebody has changed.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print it, and write nothing.")] = False,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    program: Annotated[
        Path | None,
        typer.Option(
            "--program", metavar="FILE", show_default=False, help="What it starts [dim](else this program)[/]"
        ),
    ] = None,
) -> None:
    """Write the unit that has systemd start this program, and say what to do next.

    Into /etc/systemd/system, as root; with --user into ~/.config/systemd/user.
    One that is there already is renewed, unless somebody has changed it.
    What --config and --state-dir name, it has the service use.
    """
    text = unit_text(
        program=str(program or this_program()), user=user, template=template,
        config=_absolute(config), state_dir=_absolute(state_dir),
    )  # fmt: skip
    if print_:
        sys.stdout.write(text)
        return
    place = _folder(user=user) / unit_name(template=template)
    _write(place, sealed(text), force=force)
    for line in _next_steps(user=user, template=template):
        common.say(line)


def this_program() -> Path:
    """The command that runs now, by the name by which it stays reachable (pipx and uv link it, and turn the link).

    Raises:
        InstallError: It has no name: run as a module, without the command beside the interpreter.
    """
    for candidate in (Path(sys.argv[0]).absolute(), Path(sys.executable).with_name("artifactd")):
        if candidate.name == "artifactd" and candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise InstallError(
        "this program's own path is not known", "Name it: artifactd install-unit --program /path/to/artifactd"
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path.expanduser())


def _folder(*, user: bool) -> Path:
    return Path(platformdirs.user_config_dir()) / "systemd" / "user" if user else _SYSTEM


def _write(place: Path, text: str, *, force: bool) -> None:
    name = tables.path(bytes(place))
    try:
        there = place.read_text(encoding="utf-8", errors="surrogateescape") if os.path.lexists(place) else None
        if there == text:
            common.say(f"As it should be already: {name}")
            return
        if there is not None and not force and (place.is_symlink() or not is_untouched(there)):
            raise InstallError(
                f"{name} is there and was not written by this command, or was changed since",
                "Keep your changes in a drop-in (systemctl edit), and write it anew by --force; --print shows it",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o644)
        new.replace(place)
    except PermissionError as exc:
        raise InstallError(f"{name} cannot be written: {exc.strerror}", "Be root, or do without: --user") from exc
    common.say(f"Written: {name}")


def _next_steps(*, user: bool, template: bool) -> list[str]:
    unit = "artifactd@NAME" if template else "artifactd"
    folder = Path(platformdirs.user_config_dir() if user else "/etc") / "artifactd"
    config = folder / ("NAME.toml" if template else "config.toml")
    lines = ["Next:"]
    if not user and not _is_known("artifactd"):
        lines.append(f"  {_USERADD}")
    if template or not config.exists():
        lines.append(f"  put the configuration into {tables.path(bytes(config))}: a [[watch]] with a path")
    systemctl = "systemctl --user" if user else "systemctl"
    lines += [f"  {systemctl} daemon-reload", f"  artifactd check --as {unit}", f"  {systemctl} enable --now {unit}"]
    if user:
        # Where there is no polkit, as on a plain Debian, it is root's alone.
        lines += [
            "  loginctl enable-linger        # it then runs without a login, too",
            f"  loginctl enable-linger {os.getuid():<6} # as root, where you are denied that",
        ]
    return lines


def _is_known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
