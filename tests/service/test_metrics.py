"""Metrics of the real service beside what it has done."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import Program, free_port, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {s.name + "".join(s.labels.values()): s.value for family in families for s in family.samples}


def test_they_say_what_was_stored_and_go_with_the_configuration(tmp_path: Path) -> None:
    port, another = free_port(), free_port()
    program = Program(tmp_path, more=f'[metrics]\nlisten = "127.0.0.1:{port}"\n')
    run = program.drop / "e" / "r"
    run.mkdir(parents=True)
    for n in range(3):
        (run / f"{n}.bin").write_bytes(bytes(1000 + n))
    with program.running() as service:
        wait_for(lambda: program.status()["stored"] == 3, "all is stored")
        wait_for(lambda: scraped(port)["artifactd_filesstored"] == 3, "and counted")
        said = scraped(port)
        assert said["artifactd_upload_seconds_count"] == 3
        assert said["artifactd_upload_size_bytes_sum"] == said["artifactd_sent_bytes_total"] == 3003
        assert said["artifactd_runsrunning"] == 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert answer.read() == b"ready\n"
        program.config.write_text(program.config.read_text().replace(str(port), str(another)))
        service.send_signal(signal.SIGHUP)
        wait_for(lambda: any(e["event"] == "reloaded" for e in program.events()), "it is reloaded")
        assert wait_for(lambda: scraped(another), "it answers there")["artifactd_filesstored"] == 3
