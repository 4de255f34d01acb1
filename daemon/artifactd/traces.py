"""Deliveries as spans of OpenTelemetry, where the environment names a collector; elsewhere nothing of it is imported.

What is told here is told besides: spans go into a queue of a bounded length and out by a thread of its own, and what
does not fit, or nobody takes, is dropped. A collector that is away, slow or refuses costs no file and no stop.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artifactd import __version__, installation, log
from artifactd.metrics import Outcome
from artifactd.secrets import mask

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables that name the collector: its address for traces, or for all."""

CLOSE_WITHIN = 2.0
"""Seconds in which what is in the queue may still go out at the end."""

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_NOISY = "opentelemetry.exporter.otlp"
"""The logger that says so at each try: here it is said once."""


class Traces:
    """Makes a span of each outcome.

    Args:
        processor: Of the SDK: takes ended spans, never waiting.
        environment: For the names that a user gives what is told.
    """

    def __init__(self, processor: Any, environment: Mapping[str, str]) -> None:
        from opentelemetry.context import Context  # noqa: PLC0415 (only where it is wanted)
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        about = {"service.version": __version__, "host.name": socket.gethostname()}
        if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in environment.get(_RESOURCE, ""):
            about["service.name"] = "artifactd"
        # At the end of the process it would wait for the collector.
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("artifactd", __version__)
        self._nothing_around: Any = Context()
        self._failed: Callable[[str], Any] = lambda text: Status(StatusCode.ERROR, text)
        self._is_broken = False

    def tell(self, outcome: Outcome) -> None:
        """Take what a delivery came to; never waits and never raises."""
        try:
            self._span(outcome)
        except Exception as exc:  # noqa: BLE001 (no trouble with traces is one of a delivery)
            if not self._is_broken:
                self._is_broken = True
                log.get().warning("a delivery could not be traced", error=mask(f"{type(exc).__name__}: {exc}"))

    def _span(self, outcome: Outcome) -> None:
        end = time.time_ns()
        said: dict[str, str | int | bool] = {
            "artifactd.outcome": outcome.result,
            "artifactd.experiment": mask(outcome.experiment),
            "artifactd.run": mask(outcome.run),
            "artifactd.artifact_path": mask(outcome.artifact_path),
            "artifactd.bytes": outcome.size,
            "artifactd.sent_bytes": outcome.sent,
            "artifactd.tries": outcome.tries,
        }
        if outcome.run_id:
            said["artifactd.run_id"] = outcome.run_id
        failure = outcome.failure
        if failure is not None:
            said["error.type"] = f"{failure.kind}/{failure.scope}"
        begin = end - int(outcome.seconds * 1e9)
        span = self._tracer.start_span("deliver", self._nothing_around, attributes=said, start_time=begin)
        if failure is not None:
            span.set_status(self._failed(mask(failure.error)))
        span.end(end)

    def close(self) -> None:
        """Let what is in the queue go out, for `CLOSE_WITHIN` at most."""
        # The SDK's own end waits for as long as a try may take, whatever it is told.
        last = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(CLOSE_WITHIN)


_RESOURCE = "OTEL_RESOURCE_ATTRIBUTES"


class Once:
    """An exporter whose trouble is told when it begins and when it is over, and not at each try.

    Args:
        exporter: Of the SDK.
        where: The collector, for people.
    """

    def __init__(self, exporter: Any, where: str) -> None:
        self._exporter = exporter
        self._where = where
        self._is_away = False

    def export(self, spans: Sequence[Any]) -> Any:
        """Hand them over; what comes of it, as the SDK has it."""
        done = self._exporter.export(spans)
        is_away = done.name != "SUCCESS"
        if is_away and not self._is_away:
            log.get().warning(
                "traces are not taken", collector=self._where, dropped=len(spans),
                next_step="See the collector; deliveries go on, and what is dropped meanwhile is not told again",
            )  # fmt: skip
        elif self._is_away and not is_away:
            log.get().info("traces are taken again", collector=self._where)
        self._is_away = is_away
        return done

    def shutdown(self) -> None:
        """End it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back here."""
        return bool(self._exporter.force_flush(timeout_millis))


def begin(environment: Mapping[str, str]) -> Traces | None:
    """Have deliveries traced where the standard variables ask for it and the extra is installed; said if it cannot be.

    Args:
        environment: Of the process: the SDK reads the rest of its variables there by itself.

    Returns:
        Who is to be told, or None: nothing was imported then.
    """
    where = endpoint(environment)
    if where is None:
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPOKEN)
    if protocol != _SPOKEN:
        _not_sent(f"the protocol {protocol} is not spoken", f"Set {_PROTOCOLS[0]}={_SPOKEN} (port 4318)")
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        cure = str(installation.here().with_extra("otel"))
        _not_sent("a collector is named, and what speaks to it is not installed", cure)
        return None
    logging.getLogger(_NOISY).setLevel(logging.CRITICAL)
    try:
        exporter: Any = Once(OTLPSpanExporter(), mask(where))
        return Traces(BatchSpanProcessor(exporter), environment)
    except Exception as exc:  # noqa: BLE001 (variables that the SDK makes nothing of are no reason not to deliver)
        _not_sent(mask(f"{type(exc).__name__}: {exc}"), "Check the variables that begin with OTEL_")
        return None


def endpoint(environment: Mapping[str, str]) -> str | None:
    """The collector that the variables name; None where there is none, or no traces are wanted."""
    exporters = environment.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or "otlp" not in map(str.strip, exporters):
        return None
    return next((environment[name] for name in ENDPOINTS if environment.get(name)), None)


def _not_sent(error: str, cure: str) -> None:
    log.get().warning("deliveries are not traced", error=error, next_step=cure)
