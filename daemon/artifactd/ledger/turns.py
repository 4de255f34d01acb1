"""Files of one run that repeat one another are told one job at a time.

What such a file says is compared with what the run holds (``artifactd.reading.trainer``). Two workers that did so at
the same moment would both find a point lacking, and tell it twice. Who is at it stands in the ledger, and no worker
outlives its service: a crash leaves nobody waiting.
"""

from __future__ import annotations

from artifactd.reading.known import RESULTS, STATE

IN_TURN = (
    f"NOT (f.role IN ('{STATE}', '{RESULTS}') AND EXISTS (SELECT 1 FROM files u INDEXED BY uploading"
    f" WHERE u.state = 1 AND u.run = f.run AND u.role IN ('{STATE}', '{RESULTS}')))"
)
"""Of a due file ``f``: it may be taken now."""
