"""How a run ends: by one host, and by several, whatever comes between the requests of one of them."""

from __future__ import annotations

import time

import pytest

from artifactd.errors import DeliveryError
from artifactd.runfolder import End
from artifactd.tracking.election import ELECTION_TAG, KEY_TAG
from artifactd.tracking.ends import FAILED_TAG, REASON_TAG, end_run
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
    said = [end_run(poll.client, run_id, End(end), poll.uri, fleet=True) for end in ends]
    assert (said[-1], status(poll, run_id)) == (last, last)


def test_the_last_host_that_finishes_gives_the_end(poll: Poll, run_id: str) -> None:
    end_run(poll.client, run_id, End("FINISHED"), poll.uri, fleet=True)
    poll.client.set_terminated(run_id, end_time=1)
    end_run(poll.client, run_id, End("FINISHED"), poll.uri, fleet=True)
    assert poll.client.get_run(run_id).info.end_time > 1


def test_a_status_that_a_person_gave_counts_as_much(poll: Poll, run_id: str) -> None:
    poll.client.set_terminated(run_id, "FAILED")
    assert end_run(poll.client, run_id, End("FINISHED"), poll.uri, fleet=True) == "FAILED"
    assert status(poll, run_id) == "FAILED"


@pytest.mark.parametrize("call", ["set_terminated", "get_run"])
@pytest.mark.parametrize("whole", [True, False], ids=["ended", "about to end"])
def test_a_failure_that_comes_in_between_stays(poll: Poll, run_id: str, call: str, whole: bool) -> None:
    """The other host is through with it, or has only written down that it is about to."""
    slow, fast = poll.new_client(), poll.new_client()

    def fail() -> None:
        if whole:
            end_run(fast, run_id, End("FAILED"), poll.uri, fleet=True)
        else:
            fast.set_tag(run_id, FAILED_TAG, "h2")

    before(slow, call, fail)
    assert end_run(slow, run_id, End("FINISHED"), poll.uri, fleet=True) == "FAILED"
    assert status(poll, run_id) == "FAILED"


def test_the_end_sweeps_what_an_election_left(poll: Poll) -> None:
    """A host that died as the last one in it is followed by nobody who looks for the run."""
    tags = {KEY_TAG: "k", ELECTION_TAG: "k.1"}
    run_id, left = (poll.client.create_run(poll.experiment, tags=t).info.run_id for t in (tags, {ELECTION_TAG: "k.1"}))
    end_run(poll.client, run_id, End("FINISHED"), poll.uri, fleet=True)
    assert poll.client.get_run(left).info.lifecycle_stage == "deleted"
    assert poll.client.get_run(run_id).info.lifecycle_stage == "active"


# -- a host that has its run to itself ---------------------------------------------------------------------------


def end(poll: Poll, run_id: str, status: str, at: int | None = None, reason: str = "", before: str = "") -> str:
    return end_run(poll.client, run_id, End(status, at, reason, before), poll.uri)


def test_a_run_ends_when_its_files_say_and_says_why(poll: Poll, run_id: str) -> None:
    began = poll.client.get_run(run_id).info.start_time
    assert end(poll, run_id, "FAILED", began + 5, "out of memory") == "FAILED"
    run = poll.client.get_run(run_id)
    assert (run.info.end_time, run.data.tags[REASON_TAG]) == (began + 5, "out of memory")
    assert end(poll, run_id, "FAILED", began + 9, "out of memory") == "FAILED"
    assert poll.client.get_run(run_id).info.end_time == began + 5, "a repeat changes nothing"


@pytest.mark.parametrize("at", [1, 9_000_000_000_000], ids=["before its begin", "in the future"])
def test_no_run_ends_before_its_begin_or_in_the_future(poll: Poll, run_id: str, at: int) -> None:
    began = poll.client.get_run(run_id).info.start_time
    end(poll, run_id, "FINISHED", at)
    assert began <= poll.client.get_run(run_id).info.end_time <= time.time() * 1000


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "FAILED"])
def test_what_the_job_has_ended_itself_keeps_its_status_and_time(poll: Poll, run_id: str, status: str) -> None:
    poll.client.set_terminated(run_id, status, 4_000_000_000_000)
    for other in {"FINISHED", "KILLED", "RUNNING"} - {status}:
        assert end(poll, run_id, other, 5_000_000_000_000, "mine") == status
    assert end(poll, run_id, "KILLED", 5_000_000_000_000, "quiet") == status, "it comes to the same"
    if status != "FINISHED":
        assert end(poll, run_id, "FINISHED", 5_000_000_000_000, before=status) == status, "which is still not ours"
    run = poll.client.get_run(run_id)
    assert (run.info.status, run.info.end_time) == (status, 4_000_000_000_000)
    assert REASON_TAG not in run.data.tags


def test_a_failure_is_added_to_what_finished(poll: Poll, run_id: str) -> None:
    """MLflow's client ends a run as FINISHED when its process ends, whatever the exit code."""
    poll.client.set_terminated(run_id, "FINISHED")
    assert end(poll, run_id, "FAILED", None, "exit code 1") == status(poll, run_id) == "FAILED"


def test_what_artifactd_has_ended_it_may_end_otherwise(poll: Poll, run_id: str) -> None:
    end(poll, run_id, "FAILED", None, "boom")
    assert end(poll, run_id, "FINISHED", before="FAILED") == status(poll, run_id) == "FINISHED"
    assert REASON_TAG not in poll.client.get_run(run_id).data.tags


@pytest.mark.parametrize("before", ["KILLED", ""], ids=["by the ledger", "by the tag"])
def test_a_run_is_reopened_by_what_came_after_its_end(poll: Poll, run_id: str, before: str) -> None:
    began = poll.client.get_run(run_id).info.start_time
    end(poll, run_id, "KILLED", began + 5, "quiet")
    assert end(poll, run_id, "RUNNING", began + 5, before=before) == "KILLED", "nothing has changed since"
    assert end(poll, run_id, "RUNNING", began + 6, before=before) == status(poll, run_id) == "RUNNING"
    assert REASON_TAG not in poll.client.get_run(run_id).data.tags
    assert end(poll, run_id, "KILLED", began + 6, "quiet") == "KILLED"
    assert poll.client.get_run(run_id).info.end_time == began + 6


def test_a_run_that_lived_on_though_it_was_given_up_ends_later(poll: Poll, run_id: str) -> None:
    """Its end was set and the answer lost, and nobody was there as it lived and was given up again."""
    began = poll.client.get_run(run_id).info.start_time
    end(poll, run_id, "KILLED", began + 1, "quiet since 1")
    end(poll, run_id, "KILLED", began + 2, "quiet since 2", before="KILLED")
    run = poll.client.get_run(run_id)
    assert (run.info.end_time, run.data.tags[REASON_TAG]) == (began + 2, "quiet since 2")


@pytest.mark.parametrize("call", ["set_terminated", "update_run"])
def test_a_run_that_was_deleted_is_not_ended(poll: Poll, run_id: str, call: str) -> None:
    poll.client.delete_run(run_id)
    with pytest.raises(DeliveryError, match="is deleted"):
        end(poll, run_id, "FINISHED" if call == "set_terminated" else "RUNNING")
