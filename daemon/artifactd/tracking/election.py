"""Which of the runs that several hosts made at once is the fleet's: an election that nobody can block.

MLflow has no unique key for runs, but no two experiments have one name, those that were deleted included, and an
experiment's tags are set by the very request that makes it. So the making of an experiment with a given name is a
compare-and-set: the first one stays, and whoever comes later reads in its tag which run was elected. Nothing is held
meanwhile, so a host that dies in the middle is waited for by nobody.

A run that stands for election carries ``artifactd.election`` (key and round) and no key, so that it is not found as
the folder's run. The one that is elected gets the key; the others are deleted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from artifactd import failpoint
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking.classify import classify

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "artifactd.key"
"""What the run of a folder is known by."""
ELECTION_TAG = "artifactd.election"
"""On every run that stood for election: the key and the round, ``KEY.1``."""
ELECTED_TAG = "artifactd.run"
"""On an election's experiment: the id of the run that was elected."""


def elect(
    client: MlflowClient, experiment: str, key: str, *, find: Callable[[], Any],
    create: Callable[[Mapping[str, str]], Any],
) -> tuple[Any, bool]:  # fmt: skip
    """The one run of this key in this experiment, for all who ask at the same time.

    Args:
        client: Of the server.
        experiment: Id of the experiment that the run is in.
        key: What the run is known by.
        find: Searches for the run that carries the key; None where there is none.
        create: Creates a run with these tags besides its own.

    Returns:
        The run, which may stand deleted, and whether it was made here. One that can be used is to be crowned.

    Raises:
        DeliveryError: This user may create no experiments.
    """
    for number in itertools.count(1):
        name, mark = _name(experiment, key, number), f"{key}.{number}"
        candidate = made = None
        winner = _elected(client, name)
        if winner is None:
            candidate = _standing(client, experiment, mark)
            if candidate is None:
                failpoint.reach("candidate.before")
                candidate = made = create({ELECTION_TAG: mark})
                failpoint.reach("candidate.after")
            winner = _vote(client, name, candidate.info.run_id)
            failpoint.reach("vote.after")
        won = candidate is not None and candidate.info.run_id == winner
        run = candidate if won else _run(client, winner)
        if made is not None and not won:
            _delete(client.delete_run, made.info.run_id)
        if run is None:
            continue  # it was purged, and its round with it
        # An election whose experiment was purged can be won once more by a host that slept through all of it. But its
        # experiment is deleted only when its run has the key: whoever looks for the key after the vote finds that run.
        keyed = find()
        return (run, won and made is not None) if keyed is None else (keyed, False)
    raise AssertionError("rounds have no end")


def crown(client: MlflowClient, run: Any, key: str) -> None:
    """Give the elected run its key: from now on the first search finds it. All who know the result do so."""
    failpoint.reach("crown.before")
    client.set_tag(run.info.run_id, KEY_TAG, key)
    failpoint.reach("crown.after")


def tidy(client: MlflowClient, run: Any) -> None:
    """Remove what the election of a run has left: its experiment, and the runs that were not elected.

    Args:
        client: Of the server.
        run: One that carries its key.
    """
    key, _, last = run.data.tags.get(ELECTION_TAG, "").rpartition(".")
    if not key:
        return  # it was made without an election
    experiment = run.info.experiment_id
    election = client.get_experiment_by_name(_name(experiment, key, int(last)))
    if election is not None and election.lifecycle_stage == "active":
        _delete(client.delete_experiment, election.experiment_id)
    failpoint.reach("election.tidied")
    for other in client.search_runs([experiment], f"tags.`{ELECTION_TAG}` LIKE '{key}.%'"):
        number = int(other.data.tags[ELECTION_TAG].rpartition(".")[2])
        # One of a later round may be elected at this very moment, since this run was purged.
        if other.info.run_id != run.info.run_id and number <= int(last):
            _delete(client.delete_run, other.info.run_id)


def _name(experiment: str, key: str, number: int) -> str:
    # A folder that moves to another experiment, by a change of the layout, has another run there.
    return f"artifactd-election-{experiment}-{key}-{number}"


def _standing(client: MlflowClient, experiment: str, mark: str) -> Any:
    """A run that stands already, whoever made it: one whose maker died or never heard of it is as good as a new one."""
    runs = client.search_runs([experiment], f"tags.`{ELECTION_TAG}` = '{mark}'", max_results=1)
    return runs[0] if runs else None


def _vote(client: MlflowClient, name: str, run_id: str) -> str:
    """The id of the run that is elected: this one, unless another one is already."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        failpoint.reach("vote.before")
        client.create_experiment(name, tags={ELECTED_TAG: run_id})
    except MlflowException as exc:
        if exc.error_code == "PERMISSION_DENIED":
            raise DeliveryError(_may_not_vote(classify(exc, target=client.tracking_uri, scope=Scope.RUN))) from exc
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        winner = _elected(client, name)
        if winner is None:  # purged at this very moment
            raise
        return winner
    return run_id


def _elected(client: MlflowClient, name: str) -> str | None:
    """The id of the run that was elected; None while there is none."""
    election = client.get_experiment_by_name(name)  # a deleted one, too
    if election is None:
        return None
    if ELECTED_TAG not in election.tags:
        raise DeliveryError(
            Failure(
                Kind.PAUSED, Scope.RUN,
                f"the experiment {name!r}, which shall say which run the hosts have elected, names none",
                "Delete it for good (mlflow gc), and see that the server is MLflow 2.0 or newer; it is tried again by "
                "itself",
            )
        )  # fmt: skip
    return str(election.tags[ELECTED_TAG])


def _may_not_vote(said: Failure) -> Failure:
    return Failure(
        Kind.PAUSED, Scope.RUN,
        f'{said.error}; run_scope = "fleet" needs an experiment of its own to elect the hosts\' run, as {{parent}} in a'
        " layout does, and may make none",
        "Let this user create experiments; or make the run by hand and name it on all hosts (run_id in the folder's "
        "artifactd.toml); it is tried again by itself",
    )  # fmt: skip


def _run(client: MlflowClient, run_id: str) -> Any:
    """The run, also a deleted one; None where it was purged."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        return client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _delete(delete: Callable[[str], None], ident: str) -> None:
    """Delete what may be gone by now, or what only its maker may delete: it stays then, which does no harm."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        delete(ident)
    except MlflowException as exc:
        if exc.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"):
            raise
