"""What the store holds of a run: asked from the server, with the ledger's knowledge beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.ledger import FileView, Report
from artifactd.tracking import runs, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify
from artifactd.wayback.find import Found


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact.

    Attributes:
        run: The run that holds it.
        artifact_path: As MLflow shows it.
        size: Bytes, as the store lists them.
        file: What the ledger knows of the file that it came from, if it does.
    """

    run: Found
    artifact_path: str
    size: int
    file: FileView | None


class Shelf:
    """A tracking server and the stores behind it.

    Args:
        tracking_uri: http(s) server or database URI.
        embedded_artifacts: As for ``tracking.server.connect``.

    Raises:
        DeliveryError: From every method, when the server or the store cannot be asked or refuses.
    """

    def __init__(self, tracking_uri: str, embedded_artifacts: Path | None) -> None:
        self._uri = tracking_uri
        self._client = server.connect(tracking_uri, embedded_artifacts=embedded_artifacts)
        self._artifacts: dict[str, RunArtifacts] = {}

    def artifacts(self, run_id: str) -> RunArtifacts:
        """The artifacts of a run that exists and is not deleted."""
        if run_id not in self._artifacts:
            info = runs.inspect_run(self._client, run_id, self._uri)
            self._artifacts[run_id] = RunArtifacts(info.artifact_uri, self._uri)
        return self._artifacts[run_id]

    def exists(self, run_id: str) -> bool:
        """Whether the server knows the run, deleted or not."""
        try:
            self._client.get_run(run_id)
        except Exception as exc:
            failure = classify(exc, target=self._uri, scope=Scope.TARGET)
            if failure.kind is Kind.PERMANENT:
                return False
            raise DeliveryError(failure) from exc
        return True

    def page(self, run_id: str) -> str:
        """The run's page in MLflow's UI, relative to the server's address."""
        try:
            run = self._client.get_run(run_id)
        except Exception as exc:
            raise DeliveryError(classify(exc, target=self._uri, scope=Scope.TARGET)) from exc
        return f"#/experiments/{run.info.experiment_id}/runs/{run_id}"

    def entries(self, run: Found, report: Report | None) -> list[Entry]:
        """What the store lists of a run, by artifact path; of what the question is confined to, as far as known."""
        known = {file.artifact_path: file for file in run.files(report)}
        listed = self.artifacts(run.run_id).tree()
        return [Entry(run, path, size, known.get(path)) for path, size in listed if run.only is None or path in known]
