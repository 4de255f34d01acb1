"""The examples for Prometheus and Grafana, by Prometheus' own tool, beside what a real service exposes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from support import Program, free_port, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "prometheus"
DOCS = Path(__file__).parents[2] / "docs"
HOST = {"job": "artifactd", "instance": "gpu-1:9464"}
"""The labels that Prometheus gives to all that it scrapes."""


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a service says once it has stored a file."""
    port = free_port()
    program = Program(tmp_path_factory.mktemp("exposed"), more=f'[metrics]\nlisten = "127.0.0.1:{port}"\n')
    run = program.drop / "e" / "r"
    run.mkdir(parents=True)
    (run / "a.bin").write_bytes(bytes(1000))

    def said() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
        return text if 'artifactd_files{state="stored"} 1.0' in text else ""

    with program.running():
        wait_for(lambda: program.status().get("stored") == 1, "it is stored")
        return wait_for(said, "it is counted")


@pytest.fixture(scope="module")
def samples(exposed: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(exposed) for sample in family.samples]


class Promtool:
    def __init__(self, program: str) -> None:
        self.program = program

    def passes(self, *args: str | Path, given: str | None = None) -> None:
        """It finds nothing to say about what it is shown."""
        done = subprocess.run(
            [self.program, *args], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    program = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip(
            "promtool is not installed (make test-all fetches it; Debian: apt-get install prometheus): "
            "the alerts and the dashboard were not tried"
        )
    return Promtool(program)


def test_what_a_service_says_is_as_prometheus_wants_it(promtool: Promtool, exposed: str) -> None:
    promtool.passes("check", "metrics", given=exposed)


def test_the_scrape_that_the_page_shows_is_one(promtool: Promtool, tmp_path: Path) -> None:
    (block,) = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (DOCS / "metrics.md").read_text(encoding="utf-8"))
    file = tmp_path / "prometheus.yml"
    file.write_text(block)
    promtool.passes("check", "config", "--syntax-only", file)
    (scrape,) = yaml.safe_load(block)["scrape_configs"]
    assert scrape["job_name"] == HOST["job"]
    assert scrape["authorization"].keys() == {"credentials_file"}, "its type is Bearer by default"


def test_each_alert_fires_when_it_should_and_not_before(promtool: Promtool) -> None:
    promtool.passes("check", "rules", "--lint-fatal", EXAMPLES / "alerts.yml")
    promtool.passes("test", "rules", EXAMPLES / "alerts.test.yml")


def test_each_alert_has_a_case_and_no_case_is_of_what_no_service_says(samples: list[Sample]) -> None:
    cases = yaml.safe_load((EXAMPLES / "alerts.test.yml").read_text())["tests"]
    (group,) = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"]
    fired = {c["alertname"] for case in cases for c in case.get("alert_rule_test", ()) if c["exp_alerts"]}
    silent = {c["alertname"] for case in cases for c in case.get("alert_rule_test", ()) if not c["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in group["rules"]}
    said = {(sample.name, frozenset(bounded(sample.labels).items())) for sample in samples}
    for case in cases:
        for series in case["input_series"]:
            name, labels = series_of(series["series"])
            assert name == "up" or (name, frozenset(bounded(labels).items())) in said, series


def test_each_expression_of_the_dashboard_finds_what_a_service_says(
    promtool: Promtool, samples: list[Sample], tmp_path: Path
) -> None:
    shown = [expression.replace("$instance", HOST["instance"]) for expression, _ in dashboard()]
    cases = tmp_path / "dashboard.test.yml"
    cases.write_text(
        json.dumps(
            {
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        # All of them grow: what shows nothing where there is nothing shall have something to show.
                        "input_series": [
                            {"series": sample.name + selector({**sample.labels, **HOST}), "values": "1+1x120"}
                            for sample in samples
                        ],
                        "promql_expr_test": [
                            {"expr": f"absent({expression})", "eval_time": "2h", "exp_samples": []}
                            for expression in shown
                        ],
                    }
                ],
            }
        )
    )
    promtool.passes("test", "rules", cases)


def test_the_dashboard_groups_by_and_names_labels_that_are_there(samples: list[Sample]) -> None:
    labels = {name: set(HOST) | set(sample.labels) for sample in samples for name in [sample.name]}
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            (asked,) = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"])
            assert asked[1] in labels[asked[0]]
    for expression, legend in dashboard():
        (metric,) = set(re.findall(r"\b(\w+)\{", expression))
        by = [set(re.findall(r"\w+", one)) for one in re.findall(r"\bby \(([^)]*)\)", expression)]
        for one in by:
            assert one <= labels[metric], expression
        kept = by[0] if by else labels[metric]
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, expression


def dashboard() -> Iterator[tuple[str, str]]:
    """Each expression with its legend."""
    for panel in json.loads((EXAMPLES / "grafana.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def series_of(text: str) -> tuple[str, dict[str, str]]:
    name, inner = text.rstrip("}").split("{")
    return name, dict(re.findall(r'(\w+)="([^"]*)"', inner))


def selector(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def bounded(labels: dict[str, str]) -> dict[str, Any]:
    """Without what is another on each host."""
    free = {"path": None, "mode": None}
    return {name: free.get(name, value) for name, value in labels.items() if name not in HOST}
