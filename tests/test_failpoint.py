"""Named steps: nothing without the variable, the end of the right process at the right time with it."""

from __future__ import annotations

import signal
import subprocess
import sys

from support import environment

_REACH = (
    "from artifactd import failpoint\nfor name in ('a', 'b', 'a', 'b', 'a'):\n    failpoint.reach(name); print(name)"
)


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in environment().items() if not k.startswith("_ARTIFACTD_")}
    return subprocess.run(
        [sys.executable, "-u", "-c", code], env=clean | env, capture_output=True, text=True, check=False
    )


def test_nothing_happens_without_the_variable() -> None:
    done = run(_REACH)
    assert (done.returncode, done.stdout.split()) == (0, list("ababa"))


def test_the_process_ends_at_the_nth_time_of_this_name() -> None:
    done = run(_REACH, _ARTIFACTD_FAILPOINT="a:3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, list("abab"))


def test_a_child_ends_the_service_and_takes_no_further_step_itself() -> None:
    with subprocess.Popen(["sleep", "60"]) as service:
        done = run(_REACH, _ARTIFACTD_FAILPOINT="b:1", _ARTIFACTD_SERVICE_PID=str(service.pid))
        assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["a"])
        assert service.wait(10) == -signal.SIGKILL


def test_a_child_that_comes_second_finds_the_service_gone_and_says_nothing() -> None:
    with subprocess.Popen(["true"]) as service:
        pass
    done = run(_REACH, _ARTIFACTD_FAILPOINT="b:1", _ARTIFACTD_SERVICE_PID=str(service.pid))
    assert (done.returncode, done.stdout.split(), done.stderr) == (-signal.SIGKILL, ["a"], "")


def test_children_are_told_the_service_only_where_there_is_something_to_reach() -> None:
    code = "from artifactd import failpoint; print(sorted(failpoint.for_children()))"
    assert run(code).stdout.strip() == "[]"
    assert run(code, _ARTIFACTD_FAILPOINT="a:1").stdout.strip() == "['_ARTIFACTD_SERVICE_PID']"
