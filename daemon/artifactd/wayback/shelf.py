"""What the store holds of a run: asked from the server, with the ledger's and the manifest's knowledge beside it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from artifactd import manifest
from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.ledger import FileView, Report, State
from artifactd.manifest import Manifest, ManifestError
from artifactd.names import OWN_FOLDER
from artifactd.tracking import lookup, runs, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify
from artifactd.wayback.find import Found


@dataclass(frozen=True, slots=True)
class Held:
    """One artifact in its store: the run's own, or that of a model that it has logged."""

    artifacts: RunArtifacts
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact.

    Attributes:
        run: The run that holds it.
        artifact_path: As MLflow shows it.
        size: Bytes, as the store lists them.
        file: What the ledger knows of the file that it came from, if it does.
        held: Where it is.
        record: What the run's manifest says of that file, if it does.
    """

    run: Found
    artifact_path: str
    size: int
    file: FileView | None
    held: Held
    record: manifest.File | None = None

    @property
    def digest(self) -> bytes | None:
        """SHA-256 of what was stored there, as far as known; the ledger is the younger witness."""
        if self.file is not None:  # of a file that is due again, the store may hold an older or a newer content
            return self.file.digest if self.file.state is State.STORED else None
        return None if self.record is None else self.record.digest


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
        self._manifests: dict[str, list[Manifest]] = {}

    def artifacts(self, run_id: str) -> RunArtifacts:
        """The artifacts of a run that exists and is not deleted."""
        if run_id not in self._artifacts:
            info = runs.inspect_run(self._client, run_id, self._uri)
            self._artifacts[run_id] = RunArtifacts(info.artifact_uri, self._uri)
        return self._artifacts[run_id]

    def listing(self, run_id: str) -> dict[str, Held]:
        """All that a run holds by artifact path, its logged models' files under the models' names as MLflow has it."""
        own = self.artifacts(run_id)
        found = {path: Held(own, path, size) for path, size in own.tree()}
        for model in lookup.logged_by(self._client, run_id, self._uri):
            theirs = RunArtifacts(model.artifact_uri, self._uri)
            found |= {f"{model.name}/{path}": Held(theirs, path, size) for path, size in theirs.tree()}
        return dict(sorted(found.items()))

    def manifests(self, run_id: str) -> list[Manifest]:
        """The manifests that a run holds: one for each host that has ended it.

        Raises:
            ManifestError: One is there and cannot be used.
        """
        if run_id not in self._manifests:
            own = self.artifacts(run_id)
            listed = ((f"{OWN_FOLDER}/{leaf}", size) for leaf, size in sorted(own.sizes(OWN_FOLDER).items()))
            found = [Held(own, path, size) for path, size in listed if manifest.is_manifest(path)]
            self._manifests[run_id] = [_read(held) for held in found]
        return self._manifests[run_id]

    def records(self, run_id: str) -> dict[str, manifest.File]:
        """What the run's manifests say, by artifact path; nothing where there are none that can be used."""
        try:
            found = self.manifests(run_id)
        except ManifestError:
            found = []
        return {file.artifact_path: file for one in found for file in one.files}

    def model(self, what: str) -> lookup.Model | None:
        """The model that is meant by ``models:/…`` or a registered model's name; None for none."""
        return lookup.find_model(self._client, what, self._uri)

    def named(self, what: str) -> list[str]:
        """The ids of the runs that ``experiment/run name`` may mean."""
        return [run_id for run_id, _ in lookup.runs_named(self._client, what, self._uri)]

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
        if run.model is not None:
            return self._entries_of(run, run.model)
        known = {file.artifact_path: file for file in run.files(report)}
        listed = self.listing(run.run_id)
        records = self.records(run.run_id)
        return [
            Entry(run, path, held.size, known.get(path), held, records.get(path))
            for path, held in listed.items()
            if run.only is None or path in known
        ]

    def _entries_of(self, run: Found, model: lookup.Model) -> list[Entry]:
        if model.artifact_uri:
            artifacts = RunArtifacts(model.artifact_uri, self._uri)
            return [Entry(run, path, size, None, Held(artifacts, path, size)) for path, size in artifacts.tree()]
        top = f"{model.path}/" if model.path else ""
        records = self.records(model.run_id)
        return [
            Entry(run, path.removeprefix(top) if path != model.path else path.rpartition("/")[2], held.size, None, held,
                  records.get(path))
            for path, held in self.listing(model.run_id).items()
            if path.startswith(top) or path == model.path
        ]  # fmt: skip


def _read(held: Held) -> Manifest:
    if held.size > manifest.LARGEST:
        raise ManifestError(f"{held.path} is too large for one: {held.size:,} bytes")
    with tempfile.TemporaryDirectory(prefix="artifactd-") as folder:
        copy = Path(folder) / "manifest"
        held.artifacts.download(held.path, copy)
        try:
            return manifest.read(copy.read_bytes())
        except ManifestError as exc:
            raise ManifestError(f"{held.path}: {exc}") from None
