"""A service that cannot start is spoken for by systemd: what docs/systemd.md has for it is told, and tried again."""

from __future__ import annotations

import re

from support import wait_for
from systemd.host import UNIT, Host
from systemd.roots import SOURCES

PAGE = (SOURCES / "docs" / "systemd.md").read_text()
UNITS = dict(re.findall(r"```ini\n# /etc/systemd/system/(artifactd\S*failed\S*)\n(.*?)```", PAGE, re.S))
"""As they are documented."""

TELLS = "artifactd-failed.service"
SCRIPT = '#!/bin/sh\necho "$MONITOR_UNIT $MONITOR_SERVICE_RESULT $MONITOR_EXIT_STATUS" >> /run/told\n'


def set_up(host: Host, again: str) -> None:
    """The documented units, and a command that writes down what it is told."""
    page = host.box.path("/usr/local/bin/page-failed")
    page.write_text(SCRIPT)
    page.chmod(0o755)
    text = UNITS[TELLS]
    assert "--on-active=15min" in text
    (host.box.units / TELLS).write_text(text.replace("--on-active=15min", f"--on-active={again}"))
    host.drop_in(UNITS["artifactd.service.d/failed.conf"], "failed")


def told(host: Host) -> list[str]:
    file = host.box.path("/run/told")
    return file.read_text().splitlines() if file.exists() else []


def test_a_broken_configuration_is_told_once_and_told_again_when_it_is_tried_again(host: Host) -> None:
    set_up(host, "1s --timer-property=AccuracySec=100ms")
    host.configure('layuot = "{run}"')
    host.systemctl("start", UNIT, check=False)
    wait_for(lambda: len(told(host)) >= 2, "it is told, tried again, and told again", 60)
    assert set(told(host)) == {f"{UNIT} exit-code 2"}
    host.configure()
    host.write("e/r/a.txt", b"a")
    wait_for(lambda: host.show("ActiveState")["ActiveState"] == "active", "mended, it starts by itself", 60)
    host.wait_stored({"a.txt": b"a"})


def test_a_crash_loop_is_told_when_it_reaches_the_limit_of_starts(host: Host) -> None:
    set_up(host, "1h")
    # A state folder that it cannot use: exit code 1, which systemd tries again for ever without a limit.
    host.box.state.joinpath("ledger.db").mkdir()
    host.drop_in("[Service]\nRestartSec=0.1s\n")
    host.systemctl("start", "--no-block", UNIT)
    wait_for(lambda: told(host), "the limit of starts", 90)
    assert told(host) == [f"{UNIT} exit-code 1"]
    assert host.show("ActiveState")["ActiveState"] == "failed"
    said = [entry["MESSAGE"] for entry in host.box.journal("-u", UNIT)]
    assert len([line for line in said if "Scheduled restart job" in line]) == 10, "the eleventh was not made"
