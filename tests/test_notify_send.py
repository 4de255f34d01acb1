"""A message reaches a real command and a real server, within its time, and no other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from artifactd.notify.send import NotSentError, Patience, post, run
from notify_support import WELL, hook, noted, noting, script
from support import free_port, wait_for

BODY = b'{"text": "it is so"}'
QUICK = Patience(answer=5, tries=5, budget=30, first=0.01, command=20)


# -- a command -------------------------------------------------------------------------------------------------------


def test_a_command_is_given_the_message(tmp_path: Path) -> None:
    assert run(noting(tmp_path), BODY) == ""
    assert noted(tmp_path) == [{"text": "it is so"}]


def test_a_command_is_started_without_a_shell(tmp_path: Path) -> None:
    odd = "$(touch x); `y` * 'z'"
    assert run([*script(tmp_path, "print(sys.argv[1], end='')"), odd], BODY) == odd


def test_of_what_it_says_the_beginning_is_kept(tmp_path: Path) -> None:
    said = run(script(tmp_path, "print('begin\\x1b\\nmore'); print('x' * 10**6, file=sys.stderr)"), BODY)
    assert said.startswith(("begin\\x1b; more", "x"))
    assert len(said) < 1100


def test_it_says_how_a_command_failed(tmp_path: Path) -> None:
    with pytest.raises(NotSentError, match="ended with exit code 3: no route to the pager") as caught:
        run(script(tmp_path, "print('no route to the pager'); sys.exit(3)"), BODY)
    assert caught.value.cure
    with pytest.raises(NotSentError, match="ended with signal 9"):
        run(script(tmp_path, "os.kill(os.getpid(), 9)"), BODY)
    with pytest.raises(NotSentError, match="cannot be started: No such file"):
        run([str(tmp_path / "nothing")], BODY)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(NotSentError, match="cannot be started: Permission denied"):
        run([str(tmp_path / "text")], BODY)


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    with pytest.raises(NotSentError, match=r"was ended after 1 s: \d+") as caught:
        run(["sh", "-c", "sleep 600 & echo $!; wait"], BODY, replace(QUICK, command=1))
    child = int(caught.value.problem.rpartition(" ")[2])

    def gone() -> bool:
        try:
            return psutil.Process(child).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_for(gone, "what it started is gone", 10)


def test_what_a_command_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    begun = time.monotonic()
    leaves = "import subprocess\nprint(subprocess.Popen(['sleep', '30']).pid)"
    child = int(run(script(tmp_path, leaves), BODY, QUICK))
    assert time.monotonic() - begun < 15
    psutil.Process(child).kill()


def test_a_command_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    body = "os.close(1); os.close(2); time.sleep(0.3); open(told, 'wb').write(said)"
    assert run(script(tmp_path, body), BODY, QUICK) == ""
    assert noted(tmp_path)


# -- a webhook -------------------------------------------------------------------------------------------------------


def test_a_webhook_is_sent_the_message_and_its_signature(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    with hook() as server:
        for key in (b"first", b"rotated"):
            key_file.write_bytes(key + b"\n")
            post(server.url, BODY, key_file, QUICK)
            request = server.requests[-1]
            assert request.body == BODY
            assert request.path == "/hooks/s3cret"
            assert request.headers["Content-Type"] == "application/json"
            expected = hmac.new(key, request.body, hashlib.sha256).hexdigest()
            assert request.headers["X-Artifactd-Signature"] == f"sha256={expected}"
        post(server.url, BODY, None, QUICK)
        assert "X-Artifactd-Signature" not in server.requests[-1].headers


def test_a_user_in_the_url_is_told_as_servers_expect_it() -> None:
    with hook() as server:
        post(server.url.replace("//", "//ann:s%2Fp@"), BODY, None, QUICK)
        (request,) = server.requests
        assert request.headers["Authorization"] == f"Basic {base64.b64encode(b'ann:s/p').decode()}"
        assert "@" not in request.headers["Host"]


def test_without_a_key_nothing_is_sent(tmp_path: Path) -> None:
    with hook() as server:
        with pytest.raises(NotSentError, match="cannot be read: No such file"):
            post(server.url, BODY, tmp_path / "key", QUICK)
        (tmp_path / "key").write_bytes(b"\n")
        with pytest.raises(NotSentError, match="holds no key"):
            post(server.url, BODY, tmp_path / "key", QUICK)
        assert server.requests == []


def test_a_server_that_fails_twice_is_asked_again() -> None:
    with hook((503, {}, b"later"), (429, {}, b""), WELL) as server:
        post(server.url, BODY, None, QUICK)
        assert [request.body for request in server.requests] == [BODY] * 3


def test_a_server_that_hangs_costs_its_time_and_no_more() -> None:
    with hook(None) as server:
        begun = time.monotonic()
        with pytest.raises(NotSentError, match="cannot be reached: no answer in time") as caught:
            post(server.url, BODY, None, replace(QUICK, answer=0.2, tries=2))
        assert time.monotonic() - begun < 5
        assert len(server.requests) == 2
        assert "s3cret" not in str(caught.value)


def test_one_that_hangs_once_is_asked_again() -> None:
    with hook(None, WELL) as server:
        post(server.url, BODY, None, replace(QUICK, answer=0.3))
        assert len(server.requests) == 2


def test_the_budget_ends_the_tries() -> None:
    slept: list[float] = []
    with hook((500, {}, b"")) as server:
        with pytest.raises(NotSentError, match="answered 500"):
            post(server.url, BODY, None, Patience(tries=1000, budget=0.0), slept.append)
        assert len(server.requests) == 1
        with pytest.raises(NotSentError, match="answered 500"):
            post(server.url, BODY, None, replace(QUICK, tries=4, first=100), slept.append)
        assert len(slept) <= 3
        assert all(seconds <= QUICK.budget / 4 for seconds in slept), "it is waited longer each time, up to a bound"


def test_a_redirect_is_not_followed() -> None:
    with hook() as other, hook((307, {"Location": other.url}, b"")) as server:
        with pytest.raises(NotSentError, match="answered 307") as caught:
            post(server.url, BODY, None, QUICK)
        assert len(server.requests) == 1
        assert other.requests == []
        assert "redirects are not followed" in caught.value.cure


def test_what_a_server_refuses_is_not_asked_again_and_its_words_are_kept_without_the_secret() -> None:
    with hook((403, {}, b"no such hook: /hooks/s3cret\n" + b"x" * 10**6)) as server:
        with pytest.raises(NotSentError, match=r"answered 403: no such hook: \*\*\*") as caught:
            post(server.url, BODY, None, QUICK)
        assert len(server.requests) == 1
        assert "s3cret" not in str(caught.value)
        assert len(caught.value.problem) < 1200


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(NotSentError, match="cannot be reached: Connection refused"):
        post(f"http://127.0.0.1:{free_port()}/s3cret", BODY, None, replace(QUICK, tries=2))


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with hook() as server:
        post(server.url, BODY, None, QUICK)
        assert len(server.requests) == 1


def test_a_proxy_is_asked_at_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook((503, {}, b""), WELL) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.rpartition("/hooks")[0])
        post("http://far.invalid/s3cret", BODY, None, QUICK)
        assert [request.path for request in proxy.requests] == ["http://far.invalid/s3cret"] * 2


def test_a_service_that_has_nothing_to_tell_carries_no_client() -> None:
    program = "import sys, artifactd.service; print(' '.join(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout.split()
    assert b"artifactd.notify.send" in said
    assert {b"urllib.request", b"urllib3", b"requests", b"mlflow"}.isdisjoint(said)
