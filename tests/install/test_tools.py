"""Without root, as docs/install.md has it: `pipx install` and `uv tool install`, and what the program does then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from artifactd import __version__
from made_store import cache
from support import environment, tree

pytestmark = [pytest.mark.tools, pytest.mark.timeout(900)]

SOURCES = Path(__file__).parents[2]
PAGE = (SOURCES / "docs" / "install.md").read_text(encoding="utf-8")


def documented(begin: str) -> str:
    """The one command of the page that begins so."""
    (line,) = set(re.findall(rf"(?m)(?:^|`)({re.escape(begin)}[^`\n]*)", PAGE))
    return str(line)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has pipx and uv."""
    home = tmp_path_factory.mktemp("tools") / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([home / "bin" / "pip", "install", "-qq", "--disable-pip-version-check", "pipx", "uv"], check=True)
    return home / "bin"


class Somebody:
    """A user with an empty home, who has those tools."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self._environ = environ

    def type(self, line: str, folder: Path | None = None) -> str:
        """A line in a shell, from the home if not from that folder. Returns what it prints, on both streams."""
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder or self.home, env=dict(self._environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def somebody(tools: Path, tmp_path: Path) -> Somebody:
    kept = {n: v for n, v in environment().items() if not n.startswith(("XDG_", "PIPX_", "UV_", "VIRTUAL_", "PYTHON"))}
    more = {
        "HOME": str(tmp_path), "PATH": f"{tmp_path}/.local/bin:{tools}:/usr/bin:/bin",
        # What is fetched need not be fetched again.
        "PIP_CACHE_DIR": str(cache() / "pip"), "UV_CACHE_DIR": str(cache() / "uv"),
    }  # fmt: skip
    return Somebody(tmp_path, {**kept, **more})


@pytest.mark.parametrize(
    ("install", "upgrade", "uninstall"),
    [
        ("pipx install '", "pipx install --force", "pipx uninstall"),
        ("uv tool install '", "uv tool install --force", "uv tool uninstall"),
    ],
    ids=["pipx", "uv"],
)
def test_it_installs_delivers_upgrades_and_goes(somebody: Somebody, install: str, upgrade: str, uninstall: str) -> None:
    somebody.type(documented(install), SOURCES)
    assert somebody.type("command -v artifactd").strip() == f"{somebody.home}/.local/bin/artifactd"
    assert somebody.type("artifactd --version") == f"artifactd {__version__}\n"
    # The name that stays when the tool makes the environment anew.
    unit = somebody.type("artifactd install-unit --user --print")
    assert f"\nExecStart={somebody.home}/.local/bin/artifactd run " in unit
    run = somebody.home / "drop" / "e" / "r"
    run.mkdir(parents=True)
    (run / "a.txt").write_bytes(b"a")
    assert "1 file stored (1 B), 0 failed, 0 left" in somebody.type("artifactd sync drop")
    state = somebody.home / ".local" / "state" / "artifactd"
    somebody.type(documented(upgrade), SOURCES)
    (run / "b.txt").write_bytes(b"b")
    assert "1 file stored (1 B), 0 failed, 0 left" in somebody.type("artifactd sync drop")
    placed = {path.partition(b"/")[2]: content for path, content in tree(state / "artifacts").items()}
    assert placed == {b"artifacts/a.txt": b"a", b"artifacts/b.txt": b"b"}, "each in its run, once"
    somebody.type(documented(uninstall))
    assert not os.path.lexists(somebody.home / ".local" / "bin" / "artifactd")
    assert (state / "ledger.db").exists()
