"""Elections step by step on the embedded store: what others do at the worst moment, what is deleted, what is purged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.tracking.election import ELECTED_TAG, ELECTION_TAG, KEY_TAG
from artifactd.tracking.runs import RunInfo, RunSpec, prepare_run
from artifactd.tracking.server import connect
from fleet_rounds import new_key
from fleet_support import Seen, seen


class Poll:
    """One key in one experiment of a store, and a client for each host."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.uri = f"sqlite:///{base}/mlflow.db"
        self.client = self.new_client()
        self.key = new_key()
        self.experiment = self.client.create_experiment(f"e-{self.key}", self.location)

    @property
    def location(self) -> str:
        return (self.base / "artifacts").as_uri()

    def new_client(self) -> Any:
        return connect(self.uri, embedded_artifacts=self.base / "artifacts")

    def spec(self, host: str = "h", **more: Any) -> RunSpec:
        known: dict[str, Any] = {
            "key": self.key, "run_id": None, "experiment": f"e-{self.key}", "artifact_location": self.location,
            "name": "r", "tags": {"artifactd.host": host}, "fleet": True,
        }  # fmt: skip
        return RunSpec(**{**known, **more})

    def prepare(self, client: Any = None, host: str = "h", **more: Any) -> RunInfo:
        return prepare_run(client or self.client, self.spec(host, **more), self.uri)

    def stand(self, number: int = 1) -> str:
        """A run that stands, whose maker is heard of no more."""
        run = self.client.create_run(self.experiment, tags={ELECTION_TAG: f"{self.key}.{number}"}, run_name="r")
        return str(run.info.run_id)

    def election(self, number: int = 1) -> Any:
        return self.client.get_experiment_by_name(f"artifactd-election-{self.experiment}-{self.key}-{number}")

    def elect_without_a_crown(self) -> str:
        """As a host leaves it that dies right after the vote."""
        run_id = self.stand()
        self.client.create_experiment(f"artifactd-election-{self.experiment}-{self.key}-1", tags={ELECTED_TAG: run_id})
        return run_id

    def purge_run(self, run_id: str) -> None:
        self.client._tracking_client.store._hard_delete_run(run_id)

    def purge_election(self, number: int = 1) -> None:
        self.client._tracking_client.store._hard_delete_experiment(self.election(number).experiment_id)

    def seen(self) -> Seen:
        return seen(self.client, self.key, f"e-{self.key}")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elections")


@pytest.fixture
def poll(base: Path) -> Poll:
    return Poll(base)


def before(client: Any, call: str, act: Callable[[], object]) -> None:
    """Have something happen right before the client's next call of that name."""
    original = getattr(client, call)

    def and_then(*args: Any, **more: Any) -> Any:
        setattr(client, call, original)
        act()
        return original(*args, **more)

    setattr(client, call, and_then)


def test_one_host_alone_elects_its_run_and_leaves_nothing(poll: Poll) -> None:
    made = poll.prepare()
    assert not made.found
    run = poll.client.get_run(made.run_id)
    assert (run.data.tags[KEY_TAG], run.info.run_name, run.info.status) == (poll.key, "r", "RUNNING")
    assert poll.election().lifecycle_stage == "deleted"
    again = poll.prepare(host="other")
    assert again == RunInfo(made.run_id, "RUNNING", made.artifact_uri, True, run.info.experiment_id)
    assert poll.client.get_run(made.run_id).data.tags["artifactd.host"] == "h", "the host that made it"
    assert poll.seen() == Seen([made.run_id], [made.run_id], 0, [])


@pytest.mark.parametrize("call", ["get_experiment_by_name", "create_run", "create_experiment", "set_tag"])
def test_another_host_that_is_through_with_it_at_any_moment(poll: Poll, call: str) -> None:
    slow, others = poll.new_client(), []
    before(slow, call, lambda: others.append(poll.prepare(host="fast").run_id))
    mine = poll.prepare(slow)
    assert [mine.run_id] == others
    shown = poll.seen()
    assert shown == Seen(others, others, shown.deleted, [])


def test_a_run_that_a_dead_host_or_a_lost_answer_left_is_taken(poll: Poll) -> None:
    left = poll.stand()
    assert poll.prepare().run_id == left
    assert poll.seen() == Seen([left], [left], 0, [])


def test_an_elected_run_whose_host_died_before_it_had_its_key(poll: Poll) -> None:
    left = poll.elect_without_a_crown()
    info = poll.client.get_run(left).info
    assert poll.prepare() == RunInfo(left, "RUNNING", info.artifact_uri, True, info.experiment_id)
    assert poll.seen() == Seen([left], [left], 0, [])


@pytest.mark.parametrize("crowned", [True, False])
def test_an_elected_run_that_a_person_deleted_is_told_with_the_command_that_restores_it(
    poll: Poll, crowned: bool
) -> None:
    run_id = poll.prepare().run_id if crowned else poll.elect_without_a_crown()
    poll.client.delete_run(run_id)
    for _ in range(2):
        with pytest.raises(DeliveryError) as caught:
            poll.prepare()
        assert (caught.value.failure.kind, caught.value.failure.scope) == (Kind.PERMANENT, Scope.RUN)
        assert f"mlflow runs restore --run-id {run_id}" in caught.value.failure.cure
    poll.client.restore_run(run_id)
    assert poll.prepare().run_id == run_id
    assert poll.seen() == Seen([run_id], [run_id], 0, [])


def _prepared(poll: Poll, others: list[str]) -> None:
    others.append(poll.prepare().run_id)


def test_a_purged_run_blocks_nobody_and_the_next_round_is_one_for_all(poll: Poll) -> None:
    first = poll.prepare().run_id
    for number in (2, 3):
        poll.purge_run(first)
        slow, others = poll.new_client(), list[str]()
        before(slow, "create_experiment", partial(_prepared, poll, others))
        second = poll.prepare(slow, run_id=first)
        assert [second.run_id] == others
        assert second.run_id != first
        assert poll.client.get_run(second.run_id).data.tags[ELECTION_TAG] == f"{poll.key}.{number}"
        assert poll.prepare().run_id == second.run_id
        assert poll.seen().elections == []
        first = second.run_id


def test_a_purge_of_run_and_election_begins_anew(poll: Poll) -> None:
    first = poll.prepare().run_id
    poll.purge_run(first)
    poll.purge_election()
    second = poll.prepare().run_id
    assert second != first
    assert poll.client.get_run(second).data.tags[ELECTION_TAG] == f"{poll.key}.1"
    assert poll.seen() == Seen([second], [second], 0, [])


def test_a_host_that_sleeps_while_the_election_is_over_and_purged_makes_no_second_run(poll: Poll) -> None:
    """The name is free again when it wakes, so its vote is taken."""
    slow, others = poll.new_client(), []

    def meanwhile() -> None:
        others.append(poll.prepare(host="fast").run_id)
        poll.purge_election()

    before(slow, "create_run", meanwhile)
    assert poll.prepare(slow).run_id == others[0]
    shown = poll.seen()
    assert (shown.keyed, shown.active, shown.elections) == (others, others, [])


def test_what_stands_for_a_later_round_is_not_swept(poll: Poll) -> None:
    """It may be elected at this moment, by a host that found this run purged."""
    run_id = poll.prepare().run_id
    old, later = poll.stand(1), poll.stand(2)
    poll.prepare()
    assert set(poll.seen().active) == {run_id, later}
    assert poll.client.get_run(old).info.lifecycle_stage == "deleted"


def test_a_folder_that_goes_to_another_experiment_has_another_run_there(poll: Poll) -> None:
    here = poll.prepare()
    there = poll.prepare(experiment=f"other-{poll.key}")
    assert here.run_id != there.run_id
    assert not there.found


def test_an_election_that_names_no_run_is_told(poll: Poll) -> None:
    """As a server leaves it that takes no tags with a new experiment."""
    poll.client.create_experiment(f"artifactd-election-{poll.experiment}-{poll.key}-1")
    with pytest.raises(DeliveryError, match="names none") as caught:
        poll.prepare()
    assert "MLflow 2.0 or newer" in caught.value.failure.cure
    assert poll.seen().active == []


def test_a_run_that_is_known_or_adopted_has_no_election(poll: Poll) -> None:
    run_id = poll.prepare().run_id
    before(poll.client, "get_experiment_by_name", lambda: pytest.fail("nobody is to be elected"))
    assert poll.prepare(run_id=run_id).run_id == run_id
    assert poll.prepare(run_id=run_id, key=None).run_id == run_id
