"""What of a unit a command is given by ``--as``; tests/systemd has it in a real systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.cli.as_unit import started, surroundings
from artifactd.errors import UsageError
from artifactd.unit import unit_text
from cli_support import call, own_environment

SHOWN = "ExecStart={{ path=/x ; argv[]={} ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; status=0/0 }}\n"


def keys(text: str) -> set[str]:
    return {line.partition("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")}


def test_all_of_our_unit_is_kept_but_how_it_starts_lasts_and_ends() -> None:
    text = unit_text()
    assert keys(text) - keys(surroundings(text)) == {
        "ExecStart", "ExecReload", "Type", "Restart", "RestartSec", "RestartPreventExitStatus", "WatchdogSec",
        "TimeoutStartSec", "TimeoutStopSec",
    }  # fmt: skip


def test_a_line_goes_with_those_that_continue_it() -> None:
    text = (
        "[Service]\nExecStartPre=/bin/sh -c \\\n  'x=1; \\\n# a comment\n  y=2'\nEnvironment=A=1 \\\n  B=2\n"
        "ExecStop = /bin/true\nOnFailure=tell@%n.service\nRuntimeDirectory=artifactd\nUser=someone"
    )
    assert surroundings(text) == "[Service]\nEnvironment=A=1 \\\n  B=2\nUser=someone"


@pytest.mark.parametrize(
    ("argv", "program", "options"),
    [
        ("/opt/a/bin/artifactd run --config /etc/a.toml", ["/opt/a/bin/artifactd"], ["--config", "/etc/a.toml"]),
        (
            "/p -m artifactd run -c /a --state-dir=/s --settle 3s",
            ["/p", "-m", "artifactd"],
            ["-c", "/a", "--state-dir=/s"],
        ),
        ("/p run", ["/p"], []),
    ],
)
def test_the_services_program_and_files_are_found(argv: str, program: list[str], options: list[str]) -> None:
    assert started(SHOWN.format(argv), "artifactd.service") == (program, options)


@pytest.mark.parametrize("said", [SHOWN.format("/usr/sbin/sshd -D"), "ExecStart=\n", ""])
def test_another_service_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match=r"x\.service does not start `artifactd run`"):
        started(said, "x.service")


def test_without_systemd_the_other_way_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_environment(tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        done = call("check", "--as", "artifactd")
    assert done.exit_code == 1
    assert "there is no systemd here\n  Without --as: runuser -u USER -- artifactd check" in done.stderr


def test_a_support_file_is_not_lost_in_a_services_own_tmp(tmp_path: Path) -> None:
    with own_environment(tmp_path):
        done = call("doctor", "--as", "artifactd", "--bundle", tmp_path / "x.tar.gz")
    assert (done.exit_code, "Give --bundle without --as" in done.stderr) == (2, True)
