"""How a run ends that several hosts end, whatever comes between the requests of one of them."""

from __future__ import annotations

import pytest

from artifactd.tracking.election import ELECTION_TAG, KEY_TAG
from artifactd.tracking.runs import FAILED_TAG, end_run
from test_tracking_election import Poll, before


@pytest.fixture(scope="module")
def poll(tmp_path_factory: pytest.TempPathFactory) -> Poll:
    return Poll(tmp_path_factory.mktemp("ends"))


@pytest.fixture
def run_id(poll: Poll) -> str:
    return str(poll.client.create_run(poll.experiment).info.run_id)


def status(poll: Poll, run_id: str) -> str:
    return str(poll.client.get_run(run_id).info.status)


@pytest.mark.parametrize(
    ("ends", "last"),
    [
        (["FINISHED"], "FINISHED"),
        (["FINISHED", "FINISHED"], "FINISHED"),
        (["FINISHED", "FAILED"], "FAILED"),
        (["FAILED", "FINISHED"], "FAILED"),
        (["FAILED", "FAILED", "FINISHED"], "FAILED"),
    ],
)
def test_what_failed_for_one_host_is_not_finished_by_another(
    poll: Poll, run_id: str, ends: list[str], last: str
) -> None:
    said = [end_run(poll.client, run_id, end, poll.uri, fleet=True) for end in ends]
    assert (said[-1], status(poll, run_id)) == (last, last)


def test_the_last_host_that_finishes_gives_the_end(poll: Poll, run_id: str) -> None:
    end_run(poll.client, run_id, "FINISHED", poll.uri, fleet=True)
    poll.client.set_terminated(run_id, end_time=1)
    end_run(poll.client, run_id, "FINISHED", poll.uri, fleet=True)
    assert poll.client.get_run(run_id).info.end_time > 1


def test_a_status_that_a_person_gave_counts_as_much(poll: Poll, run_id: str) -> None:
    poll.client.set_terminated(run_id, "FAILED")
    assert end_run(poll.client, run_id, "FINISHED", poll.uri, fleet=True) == "FAILED"
    assert status(poll, run_id) == "FAILED"


@pytest.mark.parametrize("call", ["set_terminated", "get_run"])
@pytest.mark.parametrize("whole", [True, False], ids=["ended", "about to end"])
def test_a_failure_that_comes_in_between_stays(poll: Poll, run_id: str, call: str, whole: bool) -> None:
    """The other host is through with it, or has only written down that it is about to."""
    slow, fast = poll.new_client(), poll.new_client()

    def fail() -> None:
        if whole:
            end_run(fast, run_id, "FAILED", poll.uri, fleet=True)
        else:
            fast.set_tag(run_id, FAILED_TAG, "h2")

    before(slow, call, fail)
    assert end_run(slow, run_id, "FINISHED", poll.uri, fleet=True) == "FAILED"
    assert status(poll, run_id) == "FAILED"


def test_the_end_sweeps_what_an_election_left(poll: Poll) -> None:
    """A host that died as the last one in it is followed by nobody who looks for the run."""
    tags = {KEY_TAG: "k", ELECTION_TAG: "k.1"}
    run_id, left = (poll.client.create_run(poll.experiment, tags=t).info.run_id for t in (tags, {ELECTION_TAG: "k.1"}))
    end_run(poll.client, run_id, "FINISHED", poll.uri, fleet=True)
    assert poll.client.get_run(left).info.lifecycle_stage == "deleted"
    assert poll.client.get_run(run_id).info.lifecycle_stage == "active"


def test_a_host_that_has_its_run_to_itself_says_how_it_ends(poll: Poll, run_id: str) -> None:
    assert end_run(poll.client, run_id, "FAILED", poll.uri) == "FAILED"
    assert end_run(poll.client, run_id, "FINISHED", poll.uri) == "FINISHED"
    assert FAILED_TAG not in poll.client.get_run(run_id).data.tags
