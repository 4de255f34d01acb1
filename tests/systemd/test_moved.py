"""The state folder on another disk, as docs/how-to/changes.md moves it."""

from __future__ import annotations

import re

from support import wait_for
from systemd.host import Host
from systemd.roots import SOURCES

PAGE = (SOURCES / "docs" / "how-to" / "changes.md").read_text(encoding="utf-8")
[MOVE] = re.findall(r"(?ms)^```sh\n(systemctl stop artifactd\ncp -a .*?)^```", PAGE)


def test_a_state_folder_that_is_moved_as_documented_keeps_all_it_knows(host: Host) -> None:
    box = host.box
    host.write("e/r/before.bin", b"b")
    host.start()
    host.wait_stored({"before.bin": b"b"})
    host.wait_idle()
    box.run("mount", "-t", "tmpfs", "-o", "mode=755", "disk", "/srv")
    box.run("sh", "-euxc", MOVE)
    assert box.run("findmnt", "-no", "SOURCE", "/var/lib/artifactd").split()[-1].startswith("disk")
    host.write("e/r/after.bin", b"a")
    wait_for(lambda: host.stored() == {"before.bin": b"b", "after.bin": b"a"}, f"all is there\n{host.last_words()}", 60)
    assert host.said("files have a new destination by the rules of now") == []
    assert box.run("stat", "-c", "%U %a", "/var/lib/artifactd").split() == ["artifactd", "700"]
    assert box.run("artifactd", "verify", "--deep", "--state-dir", "/var/lib/artifactd").startswith("All in order: 2")
