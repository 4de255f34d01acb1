"""What a file says, told to its run: params, tags, metrics, and that it is a dataset.

Each is told once over crashes, with the server as the witness: what it has already is not told again. A param is
compared with the run's, a dataset with its inputs, and a metric's points with its history where the ledger's mark is
in doubt, or always where files repeat one another (``artifactd.reading.trainer``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from artifactd import failpoint
from artifactd.errors import Failure, Kind, Scope
from artifactd.names import decode_path
from artifactd.reading.batches import Batch, batches
from artifactd.reading.bookmark import Bookmark, Held, missing, news
from artifactd.reading.dataset import read_shape
from artifactd.reading.known import RESULTS, STATE
from artifactd.reading.metrics import read_metrics
from artifactd.reading.objects import MAX_DOCUMENT_BYTES
from artifactd.reading.params import read_params, read_tags
from artifactd.reading.points import Point
from artifactd.reading.problems import Problem, Unreadable
from artifactd.reading.tables import MAX_BYTES
from artifactd.reading.trainer import Record, lacking, read_trainer
from artifactd.tracking.classify import classify
from artifactd.tracking.told import Told

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from artifactd.tracking.runs import RunInfo

_SHOWN = 3
"""Problems of one file that its failure names."""

_DATASET_DIGEST = 36
"""Characters of a dataset's digest, MLflow's MAX_DATASET_DIGEST_SIZE."""
_DATASET_NAME = 500
_CONTEXT_TAG = "mlflow.data.context"
_COUNTED = 256 * 2**20
"""Bytes of a table whose rows are counted: of a longer one, only the columns are looked at."""
_HEAD = 2**20
"""Bytes that are read for those."""
_FOOTED = (".parquet", ".pq")
"""Of these the end says all."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A file's content as it is told.

    Attributes:
        role: ``params``, ``metrics``, ``tags`` or ``dataset``, the last perhaps with ``:`` and its context; or a role
            of ``artifactd.reading.trainer``.
        name: The file's own name, whose suffix says how it is written.
        path: Its artifact path.
        digest: SHA-256 of the content.
        size: Its bytes.
        moment: Unix seconds for points that have no time of their own.
        ended: Nothing will be added to it.
        mark: What came of the last telling (``tell``), None for none.
        doubt: It may have been told without our knowing.
        unchanged: Whether what was read until now is this content.
        beside: What the Trainer's states beside it say.
    """

    role: str
    name: bytes
    path: str
    digest: bytes
    size: int
    moment: float
    ended: bool
    mark: bytes | None = None
    doubt: bool = False
    unchanged: Callable[[], bool] = lambda: True
    beside: Callable[[], Sequence[Record]] = tuple


def tell(client: MlflowClient, info: RunInfo, subject: Subject, stream: BinaryIO, target: str) -> Told:
    """Tell a run what a file says.

    Args:
        client: Of the run's server.
        info: The run, which is active.
        subject: The file.
        stream: Its content, seekable, from the start; nobody changes it.
        target: The server, for messages.

    Returns:
        What came of it, nothing at all if the content changed; never raises for what the file or the server says.
    """
    teller = _Teller(client, info, subject)
    try:
        failpoint.reach("tell.before")
        problems = tuple(teller.tell(stream))
        failpoint.reach("tell.after")
    except Unreadable as exc:
        problems = (exc.problem,)
    except _ChangedError:
        return Told()
    except Exception as exc:  # noqa: BLE001 (classed, as everywhere)
        return Told(teller.mark(whole=False), classify(exc, target=target, scope=Scope.TARGET))
    # Of a growing file, the same content may say more once nothing is added to it: its last line may be whole.
    return Told(
        teller.mark(whole=subject.ended and not problems), _not_all(subject.role, problems) if problems else None
    )


def _not_all(role: str, problems: Sequence[Problem]) -> Failure:
    what = role.partition(":")[0]
    more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Failure(
        Kind.PERMANENT, Scope.FILE,
        f"not all of its {what} could be told: {'; '.join(map(str, problems[:_SHOWN]))}{more}",
        "The file itself is stored, and the rest was told; mend it, or change its route's kind, then `artifactd retry`",
    )  # fmt: skip


class _ChangedError(Exception):
    pass


class _Teller:
    """One telling, and how far it came."""

    def __init__(self, client: MlflowClient, info: RunInfo, subject: Subject) -> None:
        self._client = client
        self._info = info
        self._subject = subject
        self._bookmark = Bookmark.from_bytes((subject.mark or b"")[len(subject.digest) :])

    def mark(self, *, whole: bool) -> bytes:
        """The digest of what was told in whole, or as many zeros; then how far points were told."""
        digest = self._subject.digest if whole else bytes(len(self._subject.digest))
        return digest + (self._bookmark.to_bytes() if self._bookmark is not None else b"")

    def tell(self, stream: BinaryIO) -> Sequence[Problem]:
        match self._subject.role.partition(":")[0]:
            case "metrics" if self._subject.role in (STATE, RESULTS):
                return self._trainer(stream)
            case "params":
                return self._params(stream)
            case "tags":
                return self._tags(stream)
            case "metrics":
                return self._metrics(stream)
            case "dataset":
                return self._dataset(stream)
            case role:
                raise ValueError(f"nothing is told of a {role}")

    def _params(self, stream: BinaryIO) -> Sequence[Problem]:
        from mlflow.entities import Param  # noqa: PLC0415  (costs 80 MiB and seconds)

        read = read_params(stream.read(MAX_BYTES + 1), self._subject.name)
        held = self._client.get_run(self._info.run_id).data.params
        changed = [
            Problem(repr(key), "the run has another value already, and MLflow never changes a param")
            for key, value in read.entries
            if held.get(key, value) != value
        ]
        new = [entry for entry in read.entries if entry[0] not in held]
        for batch in batches(params=new):
            self._client.log_batch(self._info.run_id, params=[Param(k, v) for k, v in batch.params])
        return (*changed, *read.problems)

    def _tags(self, stream: BinaryIO) -> Sequence[Problem]:
        from mlflow.entities import RunTag  # noqa: PLC0415  (costs 80 MiB and seconds)

        read = read_tags(stream.read(MAX_BYTES + 1), self._subject.name)
        held = self._client.get_run(self._info.run_id).data.tags
        new = [entry for entry in read.entries if held.get(entry[0]) != entry[1]]
        for batch in batches(tags=new):
            self._client.log_batch(self._info.run_id, tags=[RunTag(k, v) for k, v in batch.tags])
        return read.problems

    def _metrics(self, stream: BinaryIO) -> Sequence[Problem]:
        problems: list[Problem] = []
        told = self._subject.mark is not None
        bookmark = self._bookmark if told else Bookmark()
        new = None
        if bookmark is not None and not self._subject.doubt:
            new = news(self._points(stream, problems), bookmark)
        if new is None:
            keys = {point.key for point in self._points(stream, [])}
            held = Held(self._history(keys))
            problems.clear()
            new = missing(self._points(stream, problems), held, self._bookmark)
        for batch in batches(new):
            self._log(batch)
            self._bookmark = new.bookmark
            failpoint.reach("tell.between")
        self._bookmark = new.bookmark
        return problems

    def _trainer(self, stream: BinaryIO) -> Sequence[Problem]:
        """What this file says may have been told of another one, or by the job itself: the server is always asked."""
        try:
            read = read_trainer(stream.read(MAX_DOCUMENT_BYTES + 1), self._subject.role)
        except Unreadable:
            if self._subject.ended:
                raise
            return ()  # it is still being written
        beside = self._subject.beside() if self._subject.role == RESULTS else ()
        for batch in batches(lacking(read.records, self._history(read.keys), beside)):
            self._log(batch)
            failpoint.reach("tell.between")
        return read.problems

    def _log(self, batch: Batch) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415  (costs 80 MiB and seconds)

        moment = int(self._subject.moment * 1000)
        metrics = [
            Metric(p.key, p.value, moment if p.timestamp_ms is None else p.timestamp_ms, p.step) for p in batch.metrics
        ]
        self._client.log_batch(self._info.run_id, metrics=metrics)

    def _points(self, stream: BinaryIO, problems: list[Problem]) -> Iterator[Point]:
        stream.seek(0)
        folder = os.fsdecode(decode_path(self._subject.path).rpartition(b"/")[0])
        for row in read_metrics(stream, self._subject.name, folder, ended=self._subject.ended):
            problems += row.problems
            yield from row.points

    def _history(self, keys: set[str]) -> Iterator[tuple[str, int, float]]:
        for key in sorted(keys):
            for metric in self._client.get_metric_history(self._info.run_id, key):
                yield key, metric.step, metric.value

    def _dataset(self, stream: BinaryIO) -> Sequence[Problem]:
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415  (costs 80 MiB and seconds)

        subject = self._subject
        context = subject.role.partition(":")[2]
        name, digest = subject.path[-_DATASET_NAME:], subject.digest.hex()[:_DATASET_DIGEST]
        run: Any = self._client.get_run(self._info.run_id)
        inputs = run.inputs.dataset_inputs if run.inputs is not None else ()
        if any((i.dataset.name, i.dataset.digest) == (name, digest) for i in inputs):
            return ()
        if subject.size <= _COUNTED or subject.path.lower().endswith(_FOOTED):
            shape = read_shape(stream, subject.name)
        else:
            shape = replace(read_shape(BytesIO(stream.read(_HEAD)), subject.name), profile=None)
        if not subject.unchanged():
            raise _ChangedError
        kind, source = _source(self._info.artifact_uri, self._info.run_id, subject.path)
        dataset = Dataset(name, digest, kind, source, schema=shape.schema, profile=shape.profile)
        tags = [InputTag(_CONTEXT_TAG, context)] if context else []
        self._client.log_inputs(self._info.run_id, [DatasetInput(dataset, tags)])
        return ()  # a shape that is not known is no failure: the dataset is told


def _source(artifact_uri: str, run_id: str, path: str) -> tuple[str, str]:
    """Type and text of a dataset's source as ``mlflow.data`` reads them: the file's place in the store.

    An address with a password in it would be shown to all, and one of a server's proxy is no source that MLflow loads
    (3.17): there the run's own address stands.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme in ("mlflow-artifacts", "http", "https") or parts.password:
        return "artifactd", json.dumps({"uri": f"runs:/{run_id}/{path}"})
    kind = parts.scheme if parts.scheme not in ("", "file") else "local"
    return kind, json.dumps({"uri": f"{artifact_uri.rstrip('/')}/{path}"})
