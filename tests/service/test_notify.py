"""A real service tells a real command that its server takes nothing, and later that this is over."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from notify_support import noted, noting
from service.conftest import OwnServer
from service.test_service_manager import Manager
from support import Program, wait_for

pytestmark = pytest.mark.live


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_server_that_is_away_is_told_and_that_it_is_back(own_server: OwnServer, tmp_path: Path) -> None:
    command = ", ".join(f"'{word}'" for word in noting(tmp_path))
    retry = '[retry]\ninitial = "0.1s"\nmaximum = "0.3s"\n'
    notify = f'[notify]\ncommand = [{command}]\nevery = "1s"\ndisk = "0"\n'
    program = Program(tmp_path, tracking_uri=own_server.uri, more=retry + notify)
    (program.drop / "e" / "r").mkdir(parents=True)
    (program.drop / "e" / "r" / "a").write_text("a")
    manager = Manager(tmp_path)
    numbers = itertools.count()

    def asked() -> Any:
        """So many files come that the line is another one at each moment."""
        (program.drop / "e" / "r" / str(next(numbers))).write_text("a")
        return next(iter(noted(tmp_path)), None)

    try:
        with program.running(NOTIFY_SOCKET=str(manager.path)):
            message = wait_for(asked, "it is told", 90)
            (trouble,) = message["troubles"]
            assert (trouble["kind"], trouble["subject"], trouble["new"]) == ("paused", own_server.uri, True)
            assert "cannot be reached" in trouble["detail"]
            assert trouble["next_step"]
            assert "cannot be reached" in message["status"]
            wait_for(lambda: f"STATUS={message['status']}" in manager.hear(), "systemd shows the same line")
            own_server.start()
            last = wait_for(lambda: next((m for m in noted(tmp_path) if m["resolved"]), None), "its end is told", 90)
            assert [(r["kind"], r["subject"]) for r in last["resolved"]] == [("paused", own_server.uri)]
            assert last["troubles"] == []
            assert len(noted(tmp_path)) == 2
    finally:
        manager.close()
    assert "Traceback" not in program.text()
    assert [e["event"] for e in program.events()].count("message sent") == 2
