"""The life of the service under a real systemd: start, reload, hang, kill, stop, and what an administrator sees."""

from __future__ import annotations

import os

import pytest

from support import wait_for
from systemd.host import UNIT, Host

PAGE = 1 << 20


def test_it_starts_delivers_and_is_shown_and_the_journal_can_be_asked(host: Host) -> None:
    host.write("e/r/a.txt", b"a")
    host.start()
    assert host.show("ActiveState", "SubState", "Result") == {
        "ActiveState": "active", "SubState": "running", "Result": "success",
    }  # fmt: skip
    ready = host.said("ready")
    assert len(ready) == 1
    host.wait_stored({"a.txt": b"a"})
    wait_for(lambda: host.show("StatusText")["StatusText"] == "all stored", "the status line")
    seen = host.systemctl("status", "--no-pager", UNIT)
    assert 'Status: "all stored"' in seen
    assert "active (running)" in seen
    # A neighbour of training's slices, not one of many in system.slice: its weight counts against them.
    assert host.show("Slice", "ControlGroup", "CPUWeight") == {
        "Slice": "-.slice", "ControlGroup": "/artifactd.service", "CPUWeight": "5",
    }  # fmt: skip
    state = host.box.path("/var/lib/artifactd").stat()
    user = int(host.box.run("id", "-u", "artifactd"))
    assert (state.st_uid, state.st_mode & 0o7777) == (user, 0o700)
    assert {(p.stat().st_uid, p.stat().st_mode & 0o777) for p in host.box.state.glob("ledger.db*")} == {(user, 0o600)}
    # Entries of the journal have fields to ask by.
    (entry,) = wait_for(lambda: host.said("stored"), "its entry")
    fields = (
        "PRIORITY", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "ARTIFACTD_EXPERIMENT", "ARTIFACTD_RUN",
        "ARTIFACTD_ARTIFACT_PATH", "ARTIFACTD_BYTES",
    )  # fmt: skip
    assert [entry[name] for name in fields] == ["6", "artifactd", UNIT, "e", "r", "a.txt", "1"]
    assert entry["MESSAGE"].startswith("stored experiment=e run=r artifact_path=a.txt bytes=1 ")
    assert host.box.journal("-t", "artifactd", "ARTIFACTD_RUN=r", "ARTIFACTD_EVENT=stored") == [entry]
    assert "stored" in host.box.run("journalctl", "-u", UNIT, "-p", "info", "-g", "artifact_path=a.txt", "-o", "cat")


def test_a_good_reload_is_taken_and_a_bad_one_is_refused(host: Host) -> None:
    host.write("e/r/a.txt", b"a")
    host.write("e/r/no.skip", b"n")
    host.configure('exclude = ["*.skip"]')
    host.start()
    host.wait_stored({"a.txt": b"a"})
    process = host.pid
    host.configure('exclude = ["*.skip"]\nlayuot = "{run}"')
    host.systemctl("reload", UNIT)
    refused = wait_for(lambda: host.said("the new configuration is wrong, the old one stays"), "the refusal")
    assert (refused[0]["PRIORITY"], "layuot" in refused[0]["MESSAGE"]) == ("3", True)
    # Also to who was not there when it was said.
    wait_for(lambda: "new configuration is wrong" in host.systemctl("status", "--no-pager", "-n0", UNIT), "the status")
    host.write("e/r/b.txt", b"b")
    host.wait_stored({"a.txt": b"a", "b.txt": b"b"})
    host.configure("exclude = []")
    host.systemctl("reload", UNIT)
    wait_for(lambda: host.said("reloaded"), "the new configuration")
    host.wait_stored({"a.txt": b"a", "b.txt": b"b", "no.skip": b"n"})
    wait_for(lambda: host.show("StatusText")["StatusText"] == "all stored", "the refusal is over")
    assert host.pid == process, "the service went on"
    assert host.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_a_folder_that_is_not_there_is_shown_until_it_is(host: Host) -> None:
    host.configure(path="/data/drop/nfs")
    host.start()
    away = "nothing waits, watch: /data/drop/nfs: the folder is not there; it is looked for [AD708]"
    wait_for(lambda: host.show("StatusText")["StatusText"] == away, "the status line")
    assert f'Status: "{away}"' in host.systemctl("status", "--no-pager", UNIT)
    host.write("nfs/e/r/a.txt", b"a")
    host.wait_stored({"a.txt": b"a"})
    wait_for(lambda: host.show("StatusText")["StatusText"] == "all stored", "it is over")


def test_a_hang_is_ended_by_the_watchdog_and_nothing_is_lost(host: Host) -> None:
    host.drop_in("[Service]\nWatchdogSec=2s\nRestartSec=0.1s\n")
    host.start()
    host.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", UNIT)
    host.write("e/r/a.txt", b"a")
    wait_for(lambda: host.show("NRestarts")["NRestarts"] == "1", "it is started anew", 20)
    host.wait_stored({"a.txt": b"a"})
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in host.box.journal("-u", UNIT))
    assert host.show("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}


def test_a_kill_loses_nothing_and_sends_nothing_twice(host: Host) -> None:
    files = {f"{n}.bin": os.urandom(3000) for n in range(20)}
    first, *others = files
    host.write(f"e/r/{first}", files[first])
    host.start()
    host.wait_stored({first: files[first]})
    host.wait_idle()
    killed = host.pid
    host.systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", UNIT)
    for name in others:
        host.write(f"e/r/{name}", files[name])
    host.wait_stored(files)
    assert host.pid not in {0, killed}
    assert host.show("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}
    status = host.wait_idle()
    assert (status["stored"], status["failed"]) == (20, 0)
    assert status["bytes_sent"] == status["bytes_unique"] == 20 * 3000
    assert len(host.said("stored")) == 20


@pytest.mark.long
def test_a_stop_in_the_middle_of_an_upload_keeps_its_deadline_and_loses_nothing(host: Host) -> None:
    size = 40 * PAGE
    host.configure(more='[upload]\nbandwidth_limit = "1MiB"\n')
    host.write("e/r/big.bin", b"b" * size)
    host.start()
    wait_for(lambda: host.status().get("uploading") == 1, "the upload has begun")
    host.systemctl("stop", UNIT)
    # Had it taken longer than the unit allows, it would have been killed, and the result would be 'timeout'.
    assert host.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    (stopped,) = host.said("stopped")
    assert stopped["ARTIFACTD_STILL_DUE"] == "1"
    assert "big.bin" not in host.stored(), "half a file is no artifact"
    host.configure()
    host.start()
    host.wait_stored({"big.bin": b"b" * size})


def test_what_is_seen_of_a_broken_configuration(host: Host) -> None:
    host.configure('layuot = "{run}"')
    said = host.systemctl("start", UNIT, check=False)
    assert "failed" in said
    assert host.show("ActiveState", "Result", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0",
    }  # fmt: skip
    seen = host.systemctl("status", "--no-pager", UNIT, check=False)
    assert "status=2/INVALIDARGUMENT" in seen
    assert "layuot" in seen, "the mistake is in what the administrator is shown first"
    assert "layout" in seen, "and what to write instead"
    # No limit of starts has been reached: mended is enough.
    host.configure()
    host.write("e/r/a.txt", b"a")
    host.start()
    host.wait_stored({"a.txt": b"a"})


def test_a_service_that_keeps_failing_is_started_for_ever_and_a_limit_of_starts_says_why(host: Host) -> None:
    host.drop_in("[Service]\nRestartSec=0.05s\nExecStartPre=/bin/false\n")
    host.systemctl("start", "--no-block", UNIT)
    wait_for(lambda: int(host.show("NRestarts")["NRestarts"]) > 10, "more than twice systemd's own limit, at once")
    # A state folder that it cannot use: exit code 1, which time may mend.
    host.box.state.joinpath("ledger.db").mkdir()
    host.drop_in("[Service]\nRestartSec=0.05s\n")
    wait_for(lambda: "ledger.db" in host.last_words(), "the service itself fails")
    host.drop_in("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n", "limit")
    wait_for(lambda: host.show("ActiveState")["ActiveState"] == "failed", "the limit of starts")
    seen = host.systemctl("status", "--no-pager", "-n20", UNIT, check=False)
    assert "Start request repeated too quickly." in seen
    # It shows the last try alone, which was none: why it failed is in the journal.
    assert "ledger.db" not in seen
    assert "ledger.db" in host.box.run("journalctl", "-u", UNIT, "-n20", "--no-pager")
    host.box.state.joinpath("ledger.db").rmdir()
    host.systemctl("reset-failed", UNIT)
    host.start()
