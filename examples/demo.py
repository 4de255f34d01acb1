"""The demo behind ``make run``: a training job drops its files, artifactd delivers them, MLflow shows them.

Starts ``artifactd run`` on ``demo/drop`` with the embedded store in ``demo/state``, trains into the next run
folder, waits until everything is delivered, prints a table and serves MLflow's UI until Ctrl-C. Everything it
writes is in the demo folder; ``--once`` ends after the table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
ARTIFACTD = Path(sys.executable).with_name("artifactd")
EXPERIMENT = "wine"
FIRST_CHOICE_PORT = 5005
# Seconds; each several times what a slow machine with 2 cores needs, so that only a real fault meets them.
WATCHING_WITHIN = 60.0
TRAINED_WITHIN = 180.0
DELIVERED_WITHIN = 120.0
SERVED_WITHIN = 120.0
STOPPED_WITHIN = 20.0

CONFIG = """\
# Written by examples/demo.py at each start.
state_dir = {state}

[[watch]]
path = {drop}
layout = "{{experiment}}/{{run}}"
settle = "1s"

[log]
format = "console"
"""


class DemoError(Exception):
    """What went wrong and where to look, for people."""


class Stopped(Exception):  # noqa: N818 - the ordinary way out, not an error
    """A signal asks the demo to end."""


class Processes:
    """The programs that the demo started, and the signals that end it.

    Each program leads a session of its own: Ctrl-C and a closed terminal reach the demo alone, which then
    ends the programs in the reverse order of their start. A signal only leaves a note, so that none can fall
    between the start of a program and its being known here.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.started: list[subprocess.Popen[bytes]] = []
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.signal: signal.Signals | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)

    def start(self, *command: str | Path, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start a program; its lines go to the terminal unless ``output`` is given."""
        process = subprocess.Popen(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def start_service(self, name: str, *command: str | Path, output: IO[bytes] | None = None) -> None:
        """Start a program that must not end by itself."""
        self.services[name] = self.start(*command, output=output)

    def check(self) -> None:
        """Raise ``Stopped`` when a signal came, ``DemoError`` when a service has ended."""
        if self.signal is not None:
            raise Stopped
        for name, process in self.services.items():
            if process.poll() is not None:
                raise DemoError(f"{name} ended by itself with exit code {process.returncode}")

    def wait_for(self, condition: Callable[[], T | None], seconds: float, what: str, hint: str) -> T:
        """Return what ``condition`` gives once that is not None.

        Raises:
            Stopped: A signal came first.
            DemoError: A service ended, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while (result := condition()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{what} took more than {seconds:.0f} s. {hint}")
            time.sleep(0.2)
        return result

    def end(self) -> None:
        """End every program and what it has started: by request, after a bounded wait by force."""
        for process in reversed(self.started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPPED_WITHIN)
            with contextlib.suppress(ProcessLookupError):  # raised when nobody is left, as it should be
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Demo:
    """One ``make run``: the folders, the story, the table."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.drop = folder / "drop"
        self.config = folder / "config.toml"
        self.console = console
        self.processes = Processes(environment(folder))

    def run(self, *, once: bool) -> int:
        """Tell the story and leave no program behind.

        Returns:
            0, or 128 + n when signal n ended it early.

        Raises:
            DemoError: Something was not delivered or did not start.
        """
        complete = False
        try:
            run_id = self.deliver_one_run()
            complete = True
            if not once:
                self.serve(run_id)
        except Stopped:
            return 0 if complete else 128 + (self.processes.signal or 0)
        finally:
            self.processes.end()
        return 0

    def deliver_one_run(self) -> str:
        """Train into the next run folder, wait until the service has delivered it; returns the run id."""
        self.drop.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(state=toml_string(self.folder / "state"), drop=toml_string(self.drop))
        self.config.write_text(config, encoding="utf-8")
        before = self.status() or {}
        self.processes.start_service("The service", ARTIFACTD, "run", "--config", self.config)
        hint = "Its lines above say what it waits for."
        self.processes.wait_for(self.watching, WATCHING_WITHIN, "The start of the service", hint)

        run = next_run(self.drop / EXPERIMENT)
        self.say(f"Training into {run}")
        training = self.processes.start(sys.executable, PROJECT / "examples" / "train.py", run)
        hint = f"Its log is {run / 'train.log'}."
        if self.processes.wait_for(training.poll, TRAINED_WITHIN, "The training job", hint) != 0:
            raise DemoError(f"The training job failed: {run / '.failed'} says why")

        hint = f"`{ARTIFACTD} status --config {self.config}` says what waits for what."
        status, row = self.processes.wait_for(
            lambda: self.delivered(run), DELIVERED_WITHIN, f"The delivery of {run}", hint
        )
        self.show(status, before)
        return str(row["run_id"])

    def serve(self, run_id: str) -> None:
        """Serve MLflow's UI on the embedded store until a signal comes."""
        port = free_port()
        log = self.folder / "ui.log"
        self.say("Starting MLflow's UI …")
        with log.open("wb") as output:
            command = (ARTIFACTD, "ui", "--config", self.config, "--port", str(port))
            self.processes.start_service("MLflow's UI", *command, output=output)
        page = self.processes.wait_for(
            lambda: run_page(port, run_id), SERVED_WITHIN, "The start of MLflow's UI", f"Its log is {log}."
        )
        self.say(f"\nThe run in MLflow's UI: {page}")
        self.say(f"Drop more files below {self.drop} and watch them arrive. Ctrl-C ends it all.\n")
        while True:
            self.processes.check()
            time.sleep(0.2)

    def status(self) -> dict[str, Any] | None:
        """Return ``artifactd status --json``, or None while there is nothing to answer from."""
        result = subprocess.run(
            [ARTIFACTD, "status", "--json", "--config", self.config],
            env=self.processes.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            timeout=60,
            check=False,
        )
        try:
            status: dict[str, Any] = json.loads(result.stdout)
        except ValueError:
            return None
        return status

    def watching(self) -> bool | None:
        """Return True once the service says that it watches the folder."""
        watches = (self.status() or {}).get("watches", [])
        return any(watch["healthy"] for watch in watches) or None

    def delivered(self, run: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the status and the run's row in it once the run is finished and nothing is left to send.

        Raises:
            DemoError: A file failed: waiting would not help.
        """
        status = self.status()
        if status is None:
            return None
        if status["failed"]:
            reasons = "\n".join(f"  {failure['path']}: {failure['error']}" for failure in status["failures"])
            raise DemoError(f"{status['failed']} files could not be delivered:\n{reasons}")
        place = (run.parent.name, run.name)
        row = next((row for row in status["runs"] if (row["experiment"], row["run"]) == place), None)
        idle = status["pending"] == 0 and status["uploading"] == 0
        return (status, row) if row and row["status"] == "FINISHED" and idle else None

    def show(self, status: dict[str, Any], before: dict[str, Any]) -> None:
        """Print the runs, and what was sent for them."""
        table = Table("run", "files", "bytes", "status", title="Delivered")
        table.columns[1].justify = table.columns[2].justify = "right"
        for row in status["runs"]:
            folder = self.drop / row["experiment"] / row["run"]
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            name = f"{row['experiment']}/{row['run']}"
            table.add_row(name, str(row["stored"]), decimal(size), row["status"])
        self.console.print(table)
        sent, unique = status["bytes_sent"], status["bytes_unique"]
        this_time = sent - before.get("bytes_sent", 0)
        self.say(
            f"Sent {decimal(this_time)} this time. Over all runs {decimal(sent)} were sent for "
            f"{decimal(unique)} of different content: each byte {sent / max(unique, 1):.2f} times."
        )

    def say(self, text: str) -> None:
        """Print a line as it is: paths and addresses stay whole, to be copied."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of every program: caches in the demo folder, and nobody's real MLflow server."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARTIFACTD_", "MLFLOW_")) and name not in {"NOTIFY_SOCKET", "STATE_DIRECTORY"}
    }
    return inherited | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLCONFIGDIR": str(folder / "cache" / "matplotlib"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def toml_string(path: Path) -> str:
    """Return a path as a TOML string; JSON's escapes are TOML's."""
    return json.dumps(str(path), ensure_ascii=False)


def next_run(experiment: Path) -> Path:
    """Make and return ``run-<n>`` after the highest one there is."""
    numbers = [int(path.name[4:]) for path in experiment.glob("run-*") if path.name[4:].isdecimal()]
    run = experiment / f"run-{max(numbers, default=0) + 1}"
    run.mkdir(parents=True)
    return run


def free_port() -> int:
    """Return the port that people get used to if it is free, else any that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", FIRST_CHOICE_PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_page(port: int, run_id: str) -> str | None:
    """Return the address of the run's artifacts in the UI, or None while the UI does not show that run."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}")
        info = json.load(connection.getresponse())["run"]["info"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
    return f"http://127.0.0.1:{port}/#/experiments/{info['experiment_id']}/runs/{run_id}/artifacts"


def main() -> int:
    """Parse the command line and run the demo.

    Returns:
        0 when all was delivered, 1 when not, 128 + n when signal n ended it before that.
    """
    parser = argparse.ArgumentParser(description="artifactd at work: a training job's files reach MLflow.")
    parser.add_argument("--once", action="store_true", help="end after the table, without MLflow's UI")
    parser.add_argument("--folder", type=Path, default=PROJECT / "demo", help="where to work (default: demo)")
    options = parser.parse_args()
    try:
        return Demo(options.folder.resolve(), Console()).run(once=options.once)
    except DemoError as error:
        print(f"The demo failed. {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
