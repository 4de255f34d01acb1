"""One upload in a process of its own, since SDKs read some variables when they are imported.

python attempt.py ARTIFACT_URI      (writes the seconds it took, a tab, and the failure or "stored")
"""

from __future__ import annotations

import sys
import tempfile
import time

from artifactd.errors import DeliveryError
from artifactd.tracking import environment
from artifactd.tracking.artifacts import RunArtifacts

_TRACKING = "sqlite:////nowhere.db"


def main(location: str) -> None:
    environment.prepare(_TRACKING)
    environment.preload()
    begun = time.monotonic()
    try:
        with tempfile.TemporaryFile() as source:
            source.write(b"content")
            source.flush()
            RunArtifacts(location, _TRACKING).upload(source.fileno(), 7, "", "file")
        said = "stored"
    except DeliveryError as exc:
        said = f"{exc.failure.kind}: {exc.failure}"
    sys.stdout.write(f"{time.monotonic() - begun:.1f}\t{said}\n")


if __name__ == "__main__":
    main(sys.argv[1])
