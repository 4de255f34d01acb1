"""What ``[notify]`` and ``[metrics]`` name: keys that the service must be able to read, a program that it starts."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artifactd.config import Config
from artifactd.doctor import serving
from artifactd.doctor.disk import each_part, let_through, quoted
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.serving import Account
from artifactd.doctor.surroundings import Surroundings
from artifactd.text import printable


def named(config: Config, around: Surroundings) -> Iterator[Finding]:
    """Whether the service can use the files that stand in the configuration, as the user that it works as."""
    who = serving.account(config.state_dir, around)
    if config.notify.secret_file is not None:
        yield _key("the webhook's key", config.notify.secret_file, "the webhook is told nothing", who, around)
    if config.metrics.listen is not None and config.metrics.token_file is not None:
        yield _key("the token for metrics", config.metrics.token_file, "nobody is answered", who, around)
    if config.notify.command:
        yield _program("the command of [notify]", config.notify.command[0], who, around)


def _key(what: str, path: Path, so: str, who: Account, around: Surroundings) -> Finding:
    access = "-m 600" if who.uid == around.uid else f"-m 640 -g {who.group}"
    make = f"openssl rand -hex 32 | install {access} /dev/stdin {quoted(path)}"
    use = _Use(what, path, os.R_OK, "read", so)
    if found := _kept_from(who, use, around, missing=make, closed=lambda of: serving.only_for(who, path, of)):
        return found
    with open(path, "rb") as stream:
        if not stream.read(1024).strip():
            return wrong(what, f"{use.shown} holds nothing, so {so}", f"openssl rand -hex 32 > {quoted(path)}")
    return ok(what, f"{who.name} can read {use.shown}")


def _program(what: str, name: str, who: Account, around: Surroundings) -> Finding:
    so = "it is told nothing"
    path = name if "/" in name else shutil.which(name, path=around.environ.get("PATH", os.defpath))
    if path is None:
        shown = printable(os.fsencode(name))
        return wrong(what, f"there is no program {shown} in PATH, so {so}", "Write its whole path, or install it")
    use = _Use(what, Path(path), os.X_OK, "run", so)
    missing, closed = "Put it there, or mend notify.command", f"chmod 755 {quoted(use.path)}"
    if found := _kept_from(who, use, around, missing=missing, closed=lambda _: closed):
        return found
    return ok(what, f"{who.name} can run {use.shown}; `artifactd check --notify` does")


@dataclass(frozen=True, slots=True)
class _Use:
    """What is to be done with a file, and what follows if it cannot be."""

    what: str
    path: Path
    mode: int
    verb: str
    so: str

    @property
    def shown(self) -> str:
        return printable(os.fsencode(self.path))


def _kept_from(
    who: Account, use: _Use, around: Surroundings, *, missing: str, closed: Callable[[os.stat_result], str]
) -> Finding | None:
    """What keeps somebody from using a file; `missing` and `closed` are the cures."""
    status = None
    try:
        status = use.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return wrong(use.what, f"{use.shown} is not there, so {use.so}", missing)
    except PermissionError:  # told below
        pass
    if status is not None and not stat.S_ISREG(status.st_mode):
        return wrong(use.what, f"{use.shown} is no file, so {use.so}", "Name a file in its place")
    allowed = serving.can(who, use.path, use.mode, around)
    if allowed is None:
        detail = f"whether {who.name} can {use.verb} {use.shown} cannot be told as another user"
        return notice(use.what, detail, f"runuser -u {who.name} -- artifactd doctor  # as root")
    if allowed:
        return None
    detail = f"{who.name} may not {use.verb} {use.shown}, so {use.so}"
    if through := let_through(
        use.path, who.name, lambda folder: serving.can(who, folder, os.X_OK, around) is not False
    ):
        return wrong(use.what, detail, through)
    if status is None:
        return wrong(use.what, detail, each_part(use.path))
    return wrong(use.what, detail, closed(status))
