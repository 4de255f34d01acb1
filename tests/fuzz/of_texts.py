"""What people and jobs write: the configuration, a run folder's own file, and files of params and metrics."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import re
import struct
import tempfile
from pathlib import Path

from artifactd.config import ConfigError, load_config
from artifactd.config.sources import environment
from artifactd.manifest import File, Folder, Manifest, ManifestError, write
from artifactd.manifest import read as read_manifest
from artifactd.notify.keeping import FILE_NAME, load
from artifactd.reading.dataset import read_shape
from artifactd.reading.keys import MAX_KEY_CHARACTERS
from artifactd.reading.known import RESULTS, STATE
from artifactd.reading.metrics import read_metrics
from artifactd.reading.model import read_model
from artifactd.reading.params import read_params, read_tags
from artifactd.reading.problems import Unreadable
from artifactd.reading.trainer import read_trainer, steps_of
from artifactd.runfolder import (
    MARKERS,
    RunSettingsError,
    adopted_run_id,
    described_by,
    noted_run_id,
    parse_settings,
    word_of,
)
from event_files import head, scalars
from fuzz.engine import Target

_PROJECT = Path(__file__).parent.parent.parent
_PLACE = tempfile.TemporaryDirectory(prefix="artifactd-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
"""In memory: what is written there is written ten thousand times."""

# -- configuration ---------------------------------------------------------------------------------------------------


def _config(data: bytes) -> None:
    path = Path(_PLACE.name, "config.toml")
    path.write_bytes(data)
    try:
        config = load_config(path)
    except ConfigError as error:
        _is_clear(error)
    else:
        assert config.watch
        repr(config)


def _environment(data: bytes) -> None:
    lines = [line.partition(b"=") for line in data.split(b"\n")]
    variables = {os.fsdecode(k.replace(b"\0", b"")): os.fsdecode(v.replace(b"\0", b"")) for k, _, v in lines}
    _, problems = environment(variables)
    for problem in problems:
        assert str(problem)


def _is_clear(error: ConfigError) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.file
        assert problem.wrong
    assert "Traceback" not in str(error)
    assert "validation error" not in str(error)
    str(error).encode("utf-8", "backslashreplace")


def _uncommented(text: str) -> str:
    return re.sub(r"(?m)^#(?! )", "", text)


_EXAMPLE = (_PROJECT / "config.example.toml").read_text(encoding="utf-8")
_BARE = "\n".join(line for line in _uncommented(_EXAMPLE).splitlines() if line and not line.startswith("# ")) + "\n"
_SECTIONS = ["[[watch]]\npath = '/data/drop'\n" + s for s in re.split(r"(?m)^(?=\[)", _BARE) if s.strip()]
_CONFIGS = [_BARE.encode(), *(s.encode() for s in _SECTIONS), b"[[watch]]\npath = '/d'\n", b""]
_CONFIG_WORDS = [
    b"[[watch]]\n", b"[watch]\n", b"[mlflow]\n", b"[[watch.route]]\n", b"= ", b"'/a'", b'"5s"', b"1e999", b"nan",
    b"-inf", b"true",
    b"[]", b"{}", b"{a=1}", b"[[]]", b"0x7fffffffffffffffff", b"1979-05-27T07:32:00Z", b"'''", b'"""', b"\\u0000",
    b"\\ud800",
    b"../", b"~root/", b"${X}", b"{experiment}", b"{run}/{run}", b"!", b"**", b"s3://", b"http://[::1",
    b"http://a:b@h:99999",
    b"sqlite:///", b"databricks", b"08:00,10MiB", b"never", b"auto", b"99999999999d", b"-1s", b"0.0000001s",
    b"a.b.c.d = 1\n",
]  # fmt: skip
_VARIABLES = [
    b"ARTIFACTD_WATCH__0__SETTLE=1s", b'ARTIFACTD_WATCH=[{"path": "/data/drop"}]', b"ARTIFACTD_RETRY__INITIAL=2s",
    b"ARTIFACTD_WATCH__0__ROUTE__1__MATCH=*.png", b"ARTIFACTD_NOTIFY__ON=[\"lag\"]\nARTIFACTD_NOTIFY=1",
    b"ARTIFACTD_WATCH__0__ROUTE__0__TAGS={\"a\": 1}", b"ARTIFACTD_CONFIG=/x", b"artifactd_log__level=debug",
]  # fmt: skip

# -- run folders -----------------------------------------------------------------------------------------------------


def _settings(data: bytes) -> None:
    try:
        found = parse_settings(data)
    except RunSettingsError as error:
        assert str(error)
        str(error).encode("utf-8", "backslashreplace")
    else:
        for key, value in (*found.tags, *found.params):
            assert len(key.encode()) <= 250
            value.encode()
        for path in (found.alive.pid_file, found.alive.lock, found.alive.heartbeat):
            assert path is None or not (path.startswith("/") or ".." in path.split("/"))
    for marker in MARKERS:
        if word := word_of({marker: data}):
            assert word.status in ("FINISHED", "FAILED")
            assert len(word.reason) <= 300
            word.reason.encode()
    description = described_by(data)
    assert description is None or (0 < len(description) <= 5000 and "\0" not in description)
    for found_id in (adopted_run_id(data), noted_run_id(data)):
        assert found_id is None or re.fullmatch("[0-9a-f]{32}", found_id)


_RUN_FILES = [
    (b'run_id = "0123456789abcdef0123456789abcdef"\nname = "n"\ndescription = "d"\nend_run = true\n'
     b'[tags]\nteam = "vision"\n"a.b" = 1\n[params]\nlr = 0.001\nlayers = 3\n[alive]\npid = 12\nlock = "job/lock"\n'),
    b'[alive]\npid_file = "job.pid"\nheartbeat = "beat"\n', b"3", b"out of memory\n", b"# A run\n\nText",
    b"0123456789abcdef" * 2,
    b"\xef\xbb\xbfname = 'x'", b'[params]\nx = {a = 1}\ny = [1, 2]\nz = 1979-05-27\nw = inf\n',
]  # fmt: skip
_RUN_WORDS = [
    b"run_id", b"[tags]\n", b"[params]\n", b"[alive]\n", b"mlflow.runName", b"artifactd.key", b"..", b"/etc/passwd",
    b"true",
    b"99999999999999999999", b"nan", b"= ", b"'", b'"', b"{", b"[", b"a.b.c = 1\n", b"-1", b"\\u0000",
    b"mlflow.note.content",
]  # fmt: skip

# -- params, metrics, models -----------------------------------------------------------------------------------------

_NAMES = (b"metrics.csv", b"m.tsv", b"m.json", b"m.jsonl", b"log", b"events.out.tfevents.1.h")
_PARAM_NAMES = (b"p.json", b"p.yaml", b"p.toml", b".env", b"hparams", b"p.yml")


def _metrics(data: bytes) -> None:
    name = _NAMES[data[0] % len(_NAMES)] if data else b"m.csv"
    ended = bool(data[:1] >= b"\x80")
    number = 0
    with contextlib.suppress(Unreadable):
        for row in itertools.islice(read_metrics(io.BytesIO(data[1:]), name, "f", ended=ended), 100_000):
            assert row.number > number
            number = row.number
            for point in row.points:
                assert 0 < len(point.key) <= MAX_KEY_CHARACTERS
                assert isinstance(point.value, float)
                assert -(2**63) <= point.step < 2**63
                assert point.timestamp_ms is None or abs(point.timestamp_ms) < 2**63
            for problem in row.problems:
                assert str(problem)


def _params(data: bytes) -> None:
    name = _PARAM_NAMES[data[0] % len(_PARAM_NAMES)] if data else b".env"
    for read in (read_params, read_tags):
        with contextlib.suppress(Unreadable):
            for key, value in read(data[1:], name).entries:
                assert 0 < len(key) <= MAX_KEY_CHARACTERS
                assert "\0" not in value
                value.encode()


def _trainer(data: bytes) -> None:
    for role in (STATE, RESULTS):
        with contextlib.suppress(Unreadable):
            for entry in read_trainer(data, role).records:
                assert entry.step is None or -(2**63) <= entry.step < 2**63
                assert all(isinstance(value, float) for value in entry.values.values())
    with contextlib.suppress(Unreadable):
        steps_of(data)


def _model(data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        found = read_model(data)
        for path in found.files:
            assert path
            assert not path.startswith("/")
            assert ".." not in path.split("/")
        found.missing(["a", "a/b"])


def _dataset(data: bytes) -> None:
    name = (b"d.csv", b"d.tsv", b"d.jsonl", b"d.json", b"d.bin")[data[0] % 5] if data else b"d.csv"
    with contextlib.suppress(Unreadable):
        shape = read_shape(io.BytesIO(data[1:]), name)
        if shape.schema:
            json.loads(shape.schema)


def _manifest(data: bytes) -> None:
    try:
        found = read_manifest(data)
    except ManifestError as error:
        assert str(error)
        return
    for path in (
        *(f.path for f in found.files),
        *(f.path for f in found.folders),
        *(c.path for c in found.checkpoints),
    ):
        assert not path.startswith(b"/")
        assert b".." not in path.split(b"/")
    assert all(f.mode is None or 0 <= f.mode <= 0o777 for f in found.files)
    for file in found.files:
        assert math.isfinite(file.stored_at)
    again = read_manifest(write(found))
    assert found.says(again)


_TRAINER = json.dumps(
    {"log_history": [{"loss": 0.5, "step": 10, "epoch": 0.1}, {"eval_loss": 0.4, "step": 20}], "best_metric": None}
).encode()
_METRICS = [
    b"step,loss,time\n1,0.5,1700000000\n2,0.25,1700000001\n", b"epoch;acc (B)\n0;0,5\n", b'"a""b",c\n"x\ny",1\n',
    b'{"step": 1, "loss": 0.5, "n": {"a": 1}}\n{"loss": NaN, "wall_time": 1e9}\n', b'[{"a": 1}, {"a": 2, "step": 1e3}]',
    _TRAINER, b"\tstep\tx\n\t1\t2\n", b'{"a": 1e400, "b": -1e-400, "c": 123456789012345678901234567890}\n',
]  # fmt: skip
_EVENTS = [head() + scalars("loss", (0.5, 0.25)), head(), struct.pack("<Q", 2**63) + b"xxxx"]
_METRIC_WORDS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"9" * 5000, b'"step"', b'"timestamp"', b'"log_history"',
    b"\\ud800", b"\\u0000",
    b"{", b"[", b"]", b"}", b'"', b",", b";", b"\t", b"\n", b"\r", b"null", b"true", b"[" * 2000, b'{"a":' * 2000,
    b"_x23_", b"1_000", b"0x1p3",
]  # fmt: skip
_PARAMS = [
    b'{"lr": 0.1, "layers": [1, 2], "opt": {"name": "sgd"}}',
    b"lr: 0.1\nmodel:\n  layers: [1, 2]\n  base: &b {a: 1}\n  c: *b\n",
    b"lr = 0.1\n[model]\nlayers = [1, {a = 2}]\n", b"export LR=0.1\nNAME='x y'\nA=${LR}\n",
    b"!!python/object:x.Y\na: 1\n",
    b"? [a, b]\n: 1\n<<: {c: 2}\n--- \nd: 2001-01-01\n", b"a: &a [*a]\n", b"a: 0b11\nb: 1:30\nc: .inf\nd: 0o17\ne: ~\n",
]  # fmt: skip
_PARAM_WORDS = [
    b"&a ", b"*a", b"!!binary ", b"!!set ", b"!!timestamp ", b"<<: ", b"? ", b": ", b"- ", b"|\n", b">-\n", b"---\n",
    b"...\n", b"%YAML 1.2\n",
    b"0x", b"1e400", b"9" * 5000, b".nan", b"2001-13-45", b"12:99:99", b"${A}", b"\\x", b"[" * 200, b"{" * 200,
    b"'" * 3, b'"' * 3, b"mlflow.x: 1\n",
]  # fmt: skip
_MLMODEL = (
    b"artifact_path: m\nflavors:\n  python_function:\n    env:\n      conda: conda.yaml\n"
    b"      virtualenv: python_env.yaml\n"
    b"    loader_module: mlflow.sklearn\n    model_path: model.pkl\n  sklearn:\n    pickled_model: model.pkl\n"
    b"model_size_bytes: 12\n"
    b"model_uuid: 0123\nsaved_input_example_info:\n  artifact_path: input_example.json\n"
    b"utc_time_created: '2026-01-01 00:00:00'\n"
)
_MANIFEST = write(
    Manifest(
        "0.1", "0" * 32, "e", "r", "h", "u", b"/drop", b"e/r", None,
        (File(b"a/b", "a/b", 3, b"d" * 32, 1_600_000_000_987_654_321, 0o640, 1.5, 1),
         File(b"\xff", "_xFF_", 0, b"e" * 32, 1, None, 2.5, 2, gone=True)),
        (Folder(b"", 0o755, 5), Folder(b"a", 0o555, 6)),
    )
)  # fmt: skip
_MANIFEST_WORDS = [
    b'"path": "../x"', b'"path_base64": "Li4v"', b'"mode": "7777"', b'"versions": [{}]',
    b'"stored_at": "9999-12-31T23:59:59+00:00"', b"1e400",
    b"null", b"[]", b"{}", b"-1", b'"checkpoints": [{"path": "c", "whole": true}],', b'"artifactd_manifest": 2',
    b"\\ud800", b"\\u0000", b"/", b"NaN",
    b'"stored_at": "0001-01-01T00:00:00"', b'"git_commit": 7',
]  # fmt: skip


_KEPT = (
    b'{"version":1,"waiting":{"/d":3.0},"told":{"command:1":{"tried_at":7.5,"known":[["disk","/s",5.0,1],'
    b'["lag","/d",1e9,2]]},"webhook:2":{"tried_at":null,"known":[]}}}'
)


def _remembered(data: bytes) -> None:
    path = Path(_PLACE.name, FILE_NAME)
    path.write_bytes(data)
    for memory in load(Path(_PLACE.name)).memories.values():
        assert all(math.isfinite(known.since) for known in memory.known.values())


def _led(examples: list[bytes], kinds: int) -> list[bytes]:
    """Each with a first byte that says as which file it is read, while it may go on and once it has ended."""
    return [bytes([n + more]) + e for e in examples for n in range(kinds) for more in (0, 120)]


TARGETS = (
    Target("config", _config, _CONFIGS, _CONFIG_WORDS, share=25_000),
    Target("config variables", _environment, _VARIABLES, [*_CONFIG_WORDS, b"__", b"ARTIFACTD_", b"\n", b"="],
    share=50_000),
    Target("artifactd.toml", _settings, _RUN_FILES, _RUN_WORDS, share=110_000),
    Target("metrics", _metrics, _led([*_METRICS, *_EVENTS], len(_NAMES)), _METRIC_WORDS, share=110_000),
    Target("params", _params, _led(_PARAMS, len(_PARAM_NAMES)), _PARAM_WORDS, share=35_000),
    Target("trainer", _trainer, [_TRAINER, b'{"eval_loss": 1, "epoch": 2.0}'], _METRIC_WORDS, share=40_000),
    Target("MLmodel", _model, [_MLMODEL], [*_PARAM_WORDS, b"../x", b"/etc", b"components: [a]\n"], share=15_000),
    Target("dataset", _dataset, [bytes([n]) + e for e in _METRICS for n in range(5)], _METRIC_WORDS, share=40_000),
    Target("notify.json", _remembered, [_KEPT], _METRIC_WORDS, share=20_000),
    Target("manifest", _manifest, [_MANIFEST], _MANIFEST_WORDS, share=50_000),
)  # fmt: skip
