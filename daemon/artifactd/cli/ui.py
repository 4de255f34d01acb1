"""``artifactd ui``: MLflow's own UI on the embedded store, or the address of the server's."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Annotated
from urllib.parse import urlsplit

import typer

from artifactd.cli import common
from artifactd.cli.back import WHAT, Back, back
from artifactd.errors import ArtifactdError
from artifactd.tracking.environment import require_engine

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_PORT = 5000
_TRIED = 100
_STARTS_WITHIN = 120.0
_STOPS_WITHIN = 10.0
_WORDS = 2000


@app.command(epilog="Example: [bold]artifactd ui /data/drop/vision/run-7[/]")
def ui(
    what: Annotated[
        str | None,
        typer.Argument(metavar=WHAT, show_default=False, help="Whose page to show: a run id, or a run folder."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=1,
            max=65535,
            show_default=False,
            help="Port [dim](else the first free one from 5000 on)[/]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; whoever reaches it sees all.")
    ] = "127.0.0.1",
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
) -> None:
    """Open MLflow's UI on the embedded store until Ctrl-C, or print where the server's UI is."""
    with back(config, state_dir) as looking:
        page = _page(looking, what)
        settings = looking.config
    if not settings.embedded:
        parts = urlsplit(settings.tracking_uri)
        if parts.scheme not in ("http", "https"):
            raise ArtifactdError(
                f"a {parts.scheme} database has no UI of its own",
                "Start one on it: mlflow server --backend-store-uri with that tracking_uri",
            )
        server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        common.out().print(f"{server}/{page}", soft_wrap=True)
        return
    if not (settings.state_dir / "mlflow.db").exists():
        raise ArtifactdError(
            f"there is no embedded store in {settings.state_dir} yet",
            "Deliver something first, or name its --state-dir",
        )
    require_engine(settings.tracking_uri)
    chosen = _choose(host, [port] if port is not None else range(_PORT, _PORT + _TRIED))
    _serve(settings.tracking_uri, settings.embedded_artifacts.as_uri(), host, chosen, page)


def _page(looking: Back, what: str | None) -> str:
    """The page of the run that is meant, relative to the server's address; the start page for none."""
    if what is None:
        return ""
    return looking.shelf().page(looking.find(what)[-1].run_id)


def _serve(store: str, artifacts: str, host: str, port: int, page: str) -> None:
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--default-artifact-root", artifacts, "--no-serve-artifacts"]
    command += ["--uvicorn-opts", "--log-level warning"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    common.say("Starting MLflow's UI …")
    with tempfile.TemporaryFile() as words, suppress(KeyboardInterrupt):  # Ctrl-C is the way to end it
        # A session of its own: Ctrl-C reaches this process alone, which ends the server with all that it started.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
        )
        try:
            address = _reached_at(host)
            if _is_up(process, address, port):
                common.out().print(
                    f"http://{f'[{address}]' if ':' in address else address}:{port}/{page}", soft_wrap=True
                )
                sys.stdout.flush()
                common.say("Ctrl-C ends it")
                process.wait()
            words.seek(0)
            said = words.read().decode(errors="replace").strip()
            raise ArtifactdError(f"MLflow's server does not run; its last words:\n{said[-_WORDS:]}")
        finally:
            _end(process)


def _is_up(process: subprocess.Popen[bytes], address: str, port: int) -> bool:
    """Wait until the server answers; False when it does not within the time, or ended."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        line = http.client.HTTPConnection(address, port, timeout=5)
        with closing(line), suppress(OSError, http.client.HTTPException):
            line.request("GET", "/health")
            if line.getresponse().status == http.client.OK:
                return True
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_WITHIN)


def _reached_at(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what it is called, not bound)


def _choose(host: str, ports: Sequence[int]) -> int:
    """The first of these ports that is free."""
    reason = ""
    for port in ports:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as exc:
                reason = f"port {port} of {host} cannot be used: {exc.strerror}"
            else:
                return port
    raise ArtifactdError(reason, "Give another --port or --host; without --port the next free one is taken")
