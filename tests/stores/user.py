"""Somebody with credentials of their own and nothing else: an empty home, no variable of any store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import environment as process
from artifactd.tracking.artifacts import RunArtifacts

_TRACKING = "sqlite:////nowhere.db"
_OF_STORES = (
    "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR", "API_ENDPOINT", "GCE_", "NO_GCE", "MLFLOW_",
    "IDENTITY_", "MSI_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
"""Variables that begin so."""


class User:
    """What they do.

    Attributes:
        home: Their home folder.
    """

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._patch = monkeypatch
        self._artifacts: dict[str, RunArtifacts] = {}

    def set(self, **variables: str) -> None:
        """Set variables; an empty text unsets one."""
        for name, value in variables.items():
            if value:
                self._patch.setenv(name, value)
            else:
                self._patch.delenv(name, raising=False)

    def write(self, path: str, text: str) -> Path:
        """Write a file below home, of mode 0600, in one go as tools that rotate keys do."""
        place = self.home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f"{place.name}.new")
        new.write_text(text)
        new.chmod(0o600)
        new.replace(place)
        return place

    def upload(self, location: str, content: bytes = b"content") -> None:
        """Upload a file and see it in the listing, all in this process, by a handle that is kept for the location."""
        source = self.home / "artifact"
        source.write_bytes(content)
        if location not in self._artifacts:
            self._artifacts[location] = RunArtifacts(f"{location}/run", _TRACKING)
        store = self._artifacts[location]
        with source.open("rb") as stream:
            store.upload(stream.fileno(), len(content), "", "artifact")
        assert store.sizes("")["artifact"] == len(content)

    def held(self, location: str) -> bytes:
        """What stands there of the last upload."""
        copy = self.home / "copy"
        self._artifacts[location].download("artifact", copy)
        return copy.read_bytes()

    def refused(self, location: str) -> Failure:
        """What an upload fails by: something that holds the run back until a person mends it."""
        with pytest.raises(DeliveryError) as caught:
            self.upload(location)
        failure = caught.value.failure
        assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.RUN), failure
        assert failure.cure
        return failure


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody new."""
    for name in os.environ:
        if name.upper().startswith(_OF_STORES):
            monkeypatch.delenv(name)
    process.prepare(_TRACKING)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return User(home, monkeypatch)
