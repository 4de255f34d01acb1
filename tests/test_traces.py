"""Spans of deliveries: what they say, that a collector gets them, and that one that is away costs nothing."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from artifactd import installation, traces
from artifactd.errors import Failure, Kind, Scope
from artifactd.metrics import Outcome
from artifactd.traces import CLOSE_WITHIN, ENDPOINTS, Traces, begin, endpoint
from support import environment, free_port, wait_for
from test_engine import Bench

STORED = Outcome("stored", "e", "r", "0" * 32, "plots/a.png", 7, 7, 2, 1.5)
REFUSED = Failure(Kind.PAUSED, Scope.TARGET, "http://ana:hunter2-secret@m answered 401", "Give it a key")


@contextlib.contextmanager
def collector(status: int = 200, *, hangs: bool = False) -> Iterator[tuple[str, list[Any], list[str]]]:
    """A server that takes spans as a collector does: its address, the spans, and what stood in `Authorization`."""
    spans: list[Any] = []
    shown: list[str] = []
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hangs:
                over.wait(30)
            if self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf":
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    about = read(resource.resource.attributes)
                    spans.extend((about, span) for scope in resource.scope_spans for span in scope.spans)
                shown.append(self.headers.get("Authorization", ""))
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", spans, shown
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def read(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def told(*outcomes: Outcome, **env: str) -> list[Any]:
    exporter = InMemorySpanExporter()
    made = Traces(SimpleSpanProcessor(exporter), env)
    for outcome in outcomes:
        made.tell(outcome)
    made.close()
    return list(exporter.get_finished_spans())


def test_a_span_says_what_became_of_a_file_and_how_long_it_took() -> None:
    (span,) = told(STORED)
    assert span.name == "deliver"
    assert dict(span.attributes) == {
        "artifactd.outcome": "stored", "artifactd.experiment": "e", "artifactd.run": "r", "artifactd.run_id": "0" * 32,
        "artifactd.artifact_path": "plots/a.png", "artifactd.bytes": 7, "artifactd.sent_bytes": 7, "artifactd.tries": 2,
    }  # fmt: skip
    assert span.end_time - span.start_time == pytest.approx(1.5e9, abs=1000)
    assert abs(span.end_time / 1e9 - time.time()) < 60
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    assert span.resource.attributes["service.name"] == "artifactd"


def test_a_failure_is_an_error_with_its_class_and_no_secret_is_told() -> None:
    secret = "token=abcdefgh12345678"
    (span,) = told(Outcome("failed", "e", "r", None, f"a?{secret}", 7, 0, 1, failure=REFUSED))
    assert span.attributes["error.type"] == "paused/target"
    assert "artifactd.run_id" not in span.attributes
    assert span.status.status_code is StatusCode.ERROR
    assert "answered 401" in span.status.description
    everything = span.to_json()
    assert "hunter2-secret" not in everything
    assert "abcdefgh12345678" not in everything


def test_the_users_own_name_of_the_service_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "uploads")
    (span,) = told(STORED, OTEL_SERVICE_NAME="uploads")
    assert span.resource.attributes["service.name"] == "uploads"


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({}, None),
        ({ENDPOINTS[1]: "http://c:4318"}, "http://c:4318"),
        ({ENDPOINTS[1]: "http://c:4318", ENDPOINTS[0]: "http://t/v1/traces"}, "http://t/v1/traces"),
        ({ENDPOINTS[1]: ""}, None),
        ({ENDPOINTS[1]: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({ENDPOINTS[1]: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({ENDPOINTS[1]: "http://c:4318", "OTEL_TRACES_EXPORTER": "console, otlp"}, "http://c:4318"),
    ],
)
def test_the_standard_variables_say_whether_and_where(variables: dict[str, str], where: str | None) -> None:
    assert endpoint(variables) == where
    if where is None:
        assert begin(variables) is None


def test_without_a_collector_nothing_is_imported() -> None:
    asks = "import artifactd.engine, artifactd.traces, os, sys; assert artifactd.traces.begin(os.environ) is None;"
    asks += " sys.exit(sorted(m for m in sys.modules if m.startswith('opentelemetry')) or 0)"
    done = subprocess.run([sys.executable, "-c", asks], env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the protocol grpc is not spoken"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "max_queue_size"),
    ],
)
def test_what_cannot_be_is_said_once_and_delivery_goes_on_without(
    variables: dict[str, str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[1], "http://127.0.0.1:9")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with structlog.testing.capture_logs() as lines:
        assert begin({ENDPOINTS[1]: "http://127.0.0.1:9", **variables}) is None
    (line,) = lines
    assert line["event"] == "deliveries are not traced"
    assert error in line["error"]


def test_a_collector_without_the_extra_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with structlog.testing.capture_logs() as lines:
        assert begin({ENDPOINTS[1]: "http://127.0.0.1:9"}) is None
    assert lines[0]["next_step"] == str(installation.here().with_extra("otel"))


def test_a_collector_gets_a_span_for_each_file_that_the_engine_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (uri, spans, shown):
        monkeypatch.setenv(ENDPOINTS[1], uri)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abcdefgh12345678")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        bench = Bench(tmp_path)
        try:
            (bench.run / "a.bin").write_bytes(b"12345")
            (bench.run / "b.bin").write_bytes(b"123")
            bench.turn_until(lambda: len(bench.stored()) == 2 and bench.at_rest(), "both are stored")
        finally:
            bench.engine.close()
        wait_for(lambda: len(spans) == 2, "both spans came")
    (about, _), *_ = spans
    assert (about["service.name"], about["deployment.environment"]) == ("artifactd", "test")
    files = {read(span.attributes)["artifactd.artifact_path"]: read(span.attributes) for _, span in spans}
    assert files["a.bin"]["artifactd.bytes"] == 5
    assert files["a.bin"]["artifactd.outcome"] == "stored"
    assert len(files["a.bin"]["artifactd.run_id"]) == 32
    assert files.keys() == {"a.bin", "b.bin"}
    assert set(shown) == {"Bearer abcdefgh12345678"}
    assert "abcdefgh12345678" not in str(spans)


def test_a_collector_that_is_away_is_said_once_and_costs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[1], f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with structlog.testing.capture_logs() as lines:
        bench = Bench(tmp_path)
        try:
            (bench.run / "a.bin").write_bytes(b"12345")
            bench.turn_until(lambda: any(line["event"] == "traces are not taken" for line in lines), "it is said")
            (bench.run / "b.bin").write_bytes(b"12345")
            bench.turn_until(lambda: len(bench.stored()) == 2 and bench.at_rest(), "both are stored")
        finally:
            bench.engine.close()
    assert [line["event"] for line in lines].count("traces are not taken") == 1


def test_one_that_hangs_holds_up_neither_a_delivery_nor_the_end() -> None:
    with collector(hangs=True) as (uri, _, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENDPOINTS[1], uri)
        patch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
        patch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        made = begin({ENDPOINTS[1]: uri})
        assert made is not None
        start = time.monotonic()
        for _ in range(2000):  # far more than the queue takes: they are dropped
            made.tell(STORED)
        assert time.monotonic() - start < 5
        start = time.monotonic()
        made.close()
        assert time.monotonic() - start < CLOSE_WITHIN + 3


def test_trouble_with_a_span_is_said_once_and_goes_no_further() -> None:
    made = Traces(BatchSpanProcessor(InMemorySpanExporter()), {})
    broken = Outcome("stored", None, "r", None, "a", 1, 1, 1)  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as lines:
        made.tell(broken)
        made.tell(broken)
    assert [line["event"] for line in lines] == ["a delivery could not be traced"]
    made.close()


def test_trouble_that_is_over_is_said_too() -> None:
    class Result:
        name = "FAILURE"

    class Exporter:
        def export(self, _spans: object) -> Result:
            return Result()

    once = traces.Once(Exporter(), "http://c")
    with structlog.testing.capture_logs() as lines:
        once.export([1])
        once.export([1])
        Result.name = "SUCCESS"
        once.export([1])
    assert [line["event"] for line in lines] == ["traces are not taken", "traces are taken again"]
