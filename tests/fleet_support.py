"""Hosts of a fleet that elect a run: processes of their own, started together, some of them killed or cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support import environment

_HOST = """
import json, sys
from artifactd.errors import DeliveryError
from artifactd.tracking.runs import RunSpec, prepare_run
from artifactd.tracking.server import connect

uri, host = sys.argv[1:]
client = None
for line in sys.stdin:
    key, experiment = json.loads(line)
    spec = RunSpec(key, None, experiment, None, "r", {"artifactd.host": host}, fleet=True)
    told = []
    for _ in range(20):
        try:
            client = client or connect(uri, embedded_artifacts=None)
            if key is None:
                told.append("ready")
                break
            told.append(prepare_run(client, spec, uri).run_id)
            break
        except DeliveryError as exc:
            client = None
            told.append(exc.failure.error)
    print(json.dumps(told), flush=True)
"""


@dataclass
class Host:
    """One process with its own client: what a delivery process does when it is told to prepare a run."""

    name: str
    process: subprocess.Popen[str]

    def tell(self, key: str | None, experiment: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([key, experiment]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> list[str] | None:
        """What it said at each try, the last one being the run's id; None if it was killed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


class Fleet:
    """Hosts before one server, each with an address of it that may be its own."""

    def __init__(self, uris: Sequence[str], env: Mapping[int, Mapping[str, str]] | None = None) -> None:
        self.hosts = [self._start(n, uri, (env or {}).get(n, {})) for n, uri in enumerate(uris)]

    def __enter__(self) -> Fleet:
        for host in self.hosts:
            host.tell(None, "")
        for host in self.hosts:
            assert host.answer() == ["ready"]
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.process.kill()
            host.process.communicate()

    def _start(self, number: int, uri: str, env: Mapping[str, str]) -> Host:
        command = [sys.executable, "-c", _HOST, uri, f"host-{number}"]
        variables = environment(**env)
        return Host(
            f"host-{number}",
            subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
        )

    def elect(self, key: str, experiment: str) -> list[list[str] | None]:
        """Have all look for their run at the same moment; what each said."""
        for host in self.hosts:
            host.tell(key, experiment)
        return [host.answer() for host in self.hosts]


@dataclass(frozen=True)
class Seen:
    """What a server shows of a key's runs.

    Attributes:
        keyed: Ids of the active runs that carry the key.
        active: All active runs of the experiment that stood for election.
        deleted: How many were not elected.
        elections: Experiments of elections that are shown.
    """

    keyed: list[str]
    active: list[str]
    deleted: int
    elections: list[str]


def seen(client: Any, key: str, experiment: str) -> Seen:
    """Ask the server, by MLflow's own client."""
    from mlflow.entities import ViewType

    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL, max_results=5000)
    stood = [r for r in runs if r.data.tags.get("artifactd.election", "").startswith(f"{key}.")]
    active = [r for r in stood if r.info.lifecycle_stage == "active"]
    names = [e.name for e in client.search_experiments(filter_string=f"name LIKE 'artifactd-election-%{key}%'")]
    return Seen(
        [r.info.run_id for r in runs if r.data.tags.get("artifactd.key") == key], [r.info.run_id for r in active],
        len(stood) - len(active), names,
    )  # fmt: skip
