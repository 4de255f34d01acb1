"""Which model is to be delivered next: whole on disk, seen so by the ledger, one at a time in each run."""

from __future__ import annotations

from collections.abc import Sequence

from artifactd import log
from artifactd.delivery.messages import DeliverModel, Job, Outcomes, Root, Stored, Target
from artifactd.delivery.receipts import Source
from artifactd.ledger import Ledger, Run
from artifactd.names import encode_folder
from artifactd.registration import ModelMark


def model_job(
    ledger: Ledger, run: Run, source: Source, target: Target, root: Root, now: float, under_way: Sequence[Job]
) -> DeliverModel | None:
    """Take the files of one model of a run, if one is due.

    One at a time, so that the versions of a registered model come in the order of their folders' numbers.

    Args:
        ledger: Its files are marked as uploading.
        run: The run, which exists.
        source: The watched root.
        target: Where the run lives.
        root: For the worker.
        now: Unix seconds.
        under_way: All jobs.
    """
    if run.run_id is None or any(isinstance(j, DeliverModel) and j.run == run.id for j in under_way):
        return None
    for folder in ledger.due_models(run.id, now):
        model = source.model(folder, now)
        if model is None:
            continue
        files = ledger.claim_model(run.root, run.id, model.role, model.members, now)
        if files:
            return DeliverModel(
                target, run.id, run.run_id, root, tuple(files), folder=model.rel, path=encode_folder(model.inner),
                name=model.name, registration=model.registration,
            )  # fmt: skip
    return None


def say(job: Job, run: Run, outcomes: Outcomes) -> None:
    """Log what a model has become, once for each job that did something for it."""
    stored = [r for r in outcomes.results if isinstance(r, Stored) and r.told is not None]
    if not isinstance(job, DeliverModel) or not stored:
        return
    mark = next((r.told.mark for r in stored if r.told is not None and r.told.failure is None), None)
    if mark is None or all(r.sent is None and r.file.told == mark for r in stored):
        return
    model = ModelMark.from_bytes(mark)
    registered = {"registered": model.registered, "version": model.version} if model.registered else {}
    log.get().info(
        "model ready", experiment=run.experiment, run=run.name, path=job.path, model_id=model.model_id, **registered
    )
