"""How runs end, and begin again: the status that their folder gives them, at the time of the folder.

What somebody else has ended (the job itself, a person) keeps its status. Only a failure is added to a run that
FINISHED: MLflow's client says so at the exit of every process, whatever the exit code.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from artifactd import failpoint
from artifactd.errors import DeliveryError, Scope
from artifactd.runfolder import ENDS, End
from artifactd.tracking import election
from artifactd.tracking.classify import classify
from artifactd.tracking.runs import inspect_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

FAILED_TAG = "artifactd.failed"
"""On a run of several hosts: the name of one whose part has failed."""

REASON_TAG = "artifactd.reason"
"""Why artifactd ended a run as FAILED or KILLED; gone once it is open again."""


def end_run(client: MlflowClient, run_id: str, end: End, target: str, *, fleet: bool = False) -> str:
    """Set a run's status; one that it has already keeps its time.

    Args:
        client: Of the server.
        run_id: The run.
        end: What it shall be.
        target: The server, for messages.
        fleet: Other hosts end this run as well: what FAILED for one of them is never FINISHED by another.

    Returns:
        The status that the run has: another one than `end` has where somebody else has ended it.

    Raises:
        DeliveryError: The server cannot be asked or refuses.
    """
    info = inspect_run(client, run_id, target)
    if info.status == end.status == "FINISHED" and not fleet:
        return info.status
    try:
        if fleet:
            return _end_of_fleet(client, run_id, end)
        run = client.get_run(run_id)
        if not _is_ours(run, end):
            return str(run.info.status)
        if end.status == "RUNNING":
            return _reopen(client, run, end)
        failpoint.reach("end_run.before")
        if run.info.status == end.status == "KILLED" and REASON_TAG not in run.data.tags:
            return end.status  # by somebody else, who comes to the same
        _say_why(client, run, end.reason)
        if run.info.status != end.status or _lived_on(run, end):
            client.set_terminated(run_id, end.status, _time_of(run, end))
        failpoint.reach("end_run.after")
    except Exception as exc:
        raise DeliveryError(classify(exc, target=target, scope=Scope.TARGET)) from exc
    return end.status


def _is_ours(run: Any, end: End) -> bool:
    """Whether the run is open, or stands as artifactd has left it."""
    status = run.info.status
    if status not in ENDS or status == end.status:
        return True
    if status != "FINISHED":  # artifactd never gives such an end without the tag, which comes first
        return REASON_TAG in run.data.tags
    return bool(end.before == "FINISHED" or end.status == "FAILED")


def _lived_on(run: Any, end: End) -> bool:
    """Whether a run that artifactd gave up was alive after that, and is given up once more."""
    return bool(end.status == "KILLED" and (end.at or 0) > (run.info.end_time or 0))


def _reopen(client: MlflowClient, run: Any, end: End) -> str:
    if run.info.status == "RUNNING":  # a crash came before the last step
        _say_why(client, run, "")
        return "RUNNING"
    ended = run.info.end_time
    if ended is not None and end.at is not None and end.at <= ended:
        return str(run.info.status)  # nothing has changed since: a ledger that was lost does not know that
    failpoint.reach("reopen.before")
    client.update_run(run.info.run_id, status="RUNNING")
    failpoint.reach("reopen.between")
    _say_why(client, run, "")
    failpoint.reach("reopen.after")
    return "RUNNING"


def _say_why(client: MlflowClient, run: Any, reason: str) -> None:
    if reason and run.data.tags.get(REASON_TAG) != reason:
        client.set_tag(run.info.run_id, REASON_TAG, reason)
    elif not reason and REASON_TAG in run.data.tags:
        client.delete_tag(run.info.run_id, REASON_TAG)


def _time_of(run: Any, end: End) -> int | None:
    """Not before the run's begin, and not in the future, whatever a file's time says."""
    if end.at is None:
        return None
    return max(1, run.info.start_time or 0, min(end.at, int(time.time() * 1000)))


def _end_of_fleet(client: MlflowClient, run_id: str, end: End) -> str:
    # A status cannot be set on a condition. So a failure is written down before it is set, and looked for after
    # another status is: whichever of two hosts comes last, it is the failure that stays.
    status = end.status
    failpoint.reach("end_run.before")
    if status == "FAILED":
        client.set_tag(run_id, FAILED_TAG, socket.gethostname())
        if end.reason:
            client.set_tag(run_id, REASON_TAG, end.reason)
    run = client.get_run(run_id)
    if status != "FAILED" and (run.info.status == "FAILED" or FAILED_TAG in run.data.tags):
        status = "FAILED"
    if run.info.status != "FAILED":
        at = _time_of(run, end)
        at = at and max(at, run.info.end_time or 0)  # the last host gives the end
        client.set_terminated(run_id, status, at)
        failpoint.reach("end_run.set")
        if status != "FAILED" and FAILED_TAG in client.get_run(run_id).data.tags:
            client.set_terminated(run_id, "FAILED", at)
            status = "FAILED"
    election.tidy(client, run)
    failpoint.reach("end_run.after")
    return status
