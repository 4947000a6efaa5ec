"""Which process follows which run: claimed once, taken over when its process is gone."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from executions.statuses import ExecutionStatus
from executions.temporal.following import leases
from executions.temporal.history.changes import ActivityScheduled, RunClosed, RunStarted
from executions.temporal.mirroring.histories import record_history
from executions.temporal.models import FollowedRun, FollowerProcess
from tests.samples import an_execution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUNS = {f"run-{number}": f"workflow-{number}" for number in range(3)}


def lapse(process_id: UUID) -> None:
    """As if the process had not been heard of for longer than its lease."""
    FollowerProcess.objects.filter(pk=process_id).update(expires_at=Now() - timedelta(seconds=1))


def test_runs_that_one_process_follows_are_nobody_elses() -> None:
    first, second = uuid4(), uuid4()
    assert leases.claim(first, "ns", RUNS) == dict.fromkeys(RUNS, 0)
    assert leases.claim(second, "ns", {**RUNS, "another": "w"}) == {"another": 0}
    assert leases.take_over(second, "ns", 10) == []
    assert leases.hold(first) == set(RUNS)
    assert leases.hold(second) == {"another"}


def test_own_runs_may_be_claimed_again() -> None:
    process = uuid4()
    leases.claim(process, "ns", RUNS)
    assert leases.claim(process, "ns", RUNS) == dict.fromkeys(RUNS, 0)


def test_lapsed_lease_is_taken_over_from_the_recorded_position() -> None:
    first, second = uuid4(), uuid4()
    leases.claim(first, "ns", RUNS)
    started = RunStarted("workflow-0", "W", "run-0", NOW)
    record_history("run-0", [started, ActivityScheduled("a", "do", "activity", (), NOW)], 7)
    lapse(first)
    taken = {
        run.run_id: (run.workflow_id, run.position) for run in leases.take_over(second, "ns", 9)
    }
    assert taken == {
        "run-0": ("workflow-0", 7),
        "run-1": ("workflow-1", 0),
        "run-2": ("workflow-2", 0),
    }
    assert leases.hold(first) == frozenset()
    assert leases.claim(first, "ns", RUNS) == {}


def test_lapsed_run_may_be_claimed_by_whoever_is_told_of_it() -> None:
    first, second = uuid4(), uuid4()
    leases.claim(first, "ns", RUNS)
    lapse(first)
    assert leases.claim(second, "ns", {"run-1": "workflow-1"}) == {"run-1": 0}
    assert leases.hold(first) == {"run-0", "run-2"}


def test_lease_that_is_held_does_not_lapse() -> None:
    first, second = uuid4(), uuid4()
    leases.claim(first, "ns", RUNS)
    lapse(first)
    leases.hold(first)
    assert leases.take_over(second, "ns", 9) == []


def test_released_runs_are_free_at_once_and_taken_only_as_far_as_there_is_room() -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    leases.claim(first, "ns", RUNS)
    leases.release(first)
    assert leases.take_over(second, "ns", 0) == []
    assert len(leases.take_over(second, "ns", 2)) == 2
    assert len(leases.take_over(third, "ns", 2)) == 1


def test_other_namespaces_runs_are_left_alone() -> None:
    first, second = uuid4(), uuid4()
    leases.claim(first, "ns", RUNS)
    leases.release(first)
    assert leases.take_over(second, "another", 9) == []


def test_runs_that_are_mirrored_to_their_end_are_not_followed() -> None:
    ended = an_execution(status=ExecutionStatus.COMPLETED)
    running = an_execution()
    assert leases.claim(uuid4(), "ns", {ended: "w", running: "w"}) == {running: 0}


def test_end_of_a_run_ends_its_following() -> None:
    process = uuid4()
    leases.claim(process, "ns", RUNS)
    closed = RunClosed(ExecutionStatus.COMPLETED, NOW)
    record_history("run-0", [RunStarted("w", "W", "run-0", NOW), closed], 9)
    assert leases.hold(process) == {"run-1", "run-2"}
    leases.let_go("run-1")
    assert leases.hold(process) == {"run-2"}


def test_position_never_goes_back() -> None:
    leases.claim(uuid4(), "ns", RUNS)
    started = RunStarted("workflow-0", "W", "run-0", NOW)
    for position in (9, 4):
        name = f"at {position}"
        record_history(
            "run-0", [started, ActivityScheduled(name, "do", "activity", (), NOW)], position
        )
    assert FollowedRun.objects.get(pk="run-0").position == 9


def test_many_processes_that_claim_at_once_share_the_runs() -> None:
    runs = {f"run-{number:03}": "w" for number in range(120)}
    processes = [uuid4() for _ in range(4)]

    def claim_all(process: UUID) -> set[str]:
        try:
            return set(leases.claim(process, "ns", runs))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        claimed = list(threads.map(claim_all, processes))
    held = [leases.hold(process) for process in processes]
    assert sum(map(len, held)) == len(set().union(*held))
    if connection.vendor == "sqlite":
        assert set().union(*claimed) == set(runs)
    for process_claimed, process_held in zip(claimed, held, strict=True):
        assert process_claimed == process_held
    left = leases.claim(processes[0], "ns", runs)
    assert set(left) | set().union(*held) == set(runs)
