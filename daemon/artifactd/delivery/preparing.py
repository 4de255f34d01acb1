"""What the server is asked for before anything goes into a run: the run, and before it the one that it is nested in."""

from __future__ import annotations

from artifactd.delivery.messages import PrepareRun, Target
from artifactd.ledger import Ledger, Run
from artifactd.tracking.runs import PARENT_TAG, RunSpec


def preparation(
    ledger: Ledger, target: Target, artifact_location: str | None, run: Run, now: float, fleet: bool
) -> PrepareRun | None:
    """Have a run made, or told what changed.

    Args:
        ledger: Only read.
        target: Where everything goes.
        artifact_location: For experiments that are created.
        run: Which run.
        now: Unix seconds.
        fleet: Other hosts have the same run.

    Returns:
        The job: that of the run which holds this one, where that does not exist yet. None: it cannot be made now.
    """
    above, nests = ledger.nesting(run.id)
    tags = run.tags
    if above is not None:
        parent = ledger.run(above)
        if parent.run_id is None:
            waits = parent.next_try > now
            return None if waits else preparation(ledger, target, artifact_location, parent, now, fleet)
        tags = {**tags, PARENT_TAG: parent.run_id}
    adopted = run.identity.partition("run:")[2] or None
    spec = RunSpec(
        key=None if adopted else run.identity,
        run_id=adopted or run.run_id,
        experiment=run.experiment,
        artifact_location=artifact_location,
        name=run.name,
        tags=tags,
        params=run.settings.get("params", {}),
        named=bool(run.settings.get("name")),
        # Each `exec` in a sweep may be the first that needs the run which holds the others, beside a service.
        fleet=not adopted and (fleet or nests),
        began=ledger.began(run.id),
    )
    return PrepareRun(target, run.id, spec, run.settings_text)
