"""Which status may follow which: every pair, as a table."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.errors import RecordingError
from executions.statuses import (
    ActivityStatus,
    ExecutionStatus,
    TransitionRefusedError,
    check_activity_transition,
    check_execution_transition,
)

FINAL_EXECUTION = (
    "completed", "failed", "cancelled", "terminated", "timed_out", "continued_as_new",
)  # fmt: skip
FINAL_ACTIVITY = ("completed", "failed", "cancelled", "skipped")

EXECUTION_MAY_BECOME = {
    "pending": {"pending", "running", *FINAL_EXECUTION},
    "running": {"running", *FINAL_EXECUTION},
} | {status: {status} for status in FINAL_EXECUTION}

SAME_ATTEMPT_MAY_BECOME = {
    "pending": {"pending", "running", "retrying", "completed", "failed", "cancelled", "skipped"},
    "running": {"running", "retrying", "completed", "failed", "cancelled"},
    "retrying": {"retrying", "completed", "failed", "cancelled"},
} | {status: {status} for status in FINAL_ACTIVITY}

LATER_ATTEMPT_MAY_BECOME: dict[str, set[str]] = {
    "pending": {"running", "retrying", "completed", "failed", "cancelled", "skipped"},
    "running": {"running", "retrying", "completed", "failed", "cancelled"},
    "retrying": {"running", "retrying", "completed", "failed", "cancelled"},
} | {status: set() for status in FINAL_ACTIVITY}


def execution_may(before: str, after: str) -> bool:
    told = ""
    try:
        check_execution_transition(ExecutionStatus(before), ExecutionStatus(after))
    except TransitionRefusedError as refused:
        told = str(refused)
    assert not told or (before in told and after in told)
    return not told


def activity_may(before: tuple[int, str], after: tuple[int, str]) -> bool:
    told = ""
    try:
        check_activity_transition(
            (before[0], ActivityStatus(before[1])), (after[0], ActivityStatus(after[1]))
        )
    except TransitionRefusedError as refused:
        told = str(refused)
    assert not told or f"{before[0]} {before[1]} to attempt {after[0]} {after[1]}" in told
    return not told


def test_the_statuses_are_those_of_the_document() -> None:
    assert {status.value for status in ExecutionStatus} == set(EXECUTION_MAY_BECOME)
    assert {status.value for status in ActivityStatus} == set(SAME_ATTEMPT_MAY_BECOME)


@pytest.mark.parametrize("status", list(ExecutionStatus))
def test_final_executions_are_all_but_pending_and_running(status: ExecutionStatus) -> None:
    assert status.is_final == (status.value in FINAL_EXECUTION)


@pytest.mark.parametrize("status", list(ActivityStatus))
def test_final_activities_are_all_but_pending_running_and_retrying(status: ActivityStatus) -> None:
    assert status.is_final == (status.value in FINAL_ACTIVITY)
    order = ["pending", "running", "retrying"]
    assert status.rank == (3 if status.is_final else order.index(status.value))


@pytest.mark.parametrize(("before", "after"), list(product(ExecutionStatus, repeat=2)))
def test_execution_transition(before: ExecutionStatus, after: ExecutionStatus) -> None:
    assert execution_may(before, after) == (after.value in EXECUTION_MAY_BECOME[before])


@pytest.mark.parametrize(("before", "after"), list(product(ActivityStatus, repeat=2)))
def test_activity_transition_within_an_attempt(
    before: ActivityStatus, after: ActivityStatus
) -> None:
    assert activity_may((3, before), (3, after)) == (after.value in SAME_ATTEMPT_MAY_BECOME[before])


@pytest.mark.parametrize(("before", "after"), list(product(ActivityStatus, repeat=2)))
@pytest.mark.parametrize("later", [4, 9])
def test_activity_transition_to_a_later_attempt(
    before: ActivityStatus, after: ActivityStatus, later: int
) -> None:
    allowed = after.value in LATER_ATTEMPT_MAY_BECOME[before]
    assert activity_may((3, before), (later, after)) == allowed


@pytest.mark.parametrize(("before", "after"), list(product(ActivityStatus, repeat=2)))
def test_no_activity_goes_back_to_an_earlier_attempt(
    before: ActivityStatus, after: ActivityStatus
) -> None:
    assert not activity_may((3, before), (2, after))


def test_a_refused_transition_is_a_refused_change() -> None:
    assert issubclass(TransitionRefusedError, RecordingError)


states = st.tuples(st.integers(1, 3), st.sampled_from(ActivityStatus))


@given(st.lists(states, min_size=1, max_size=30))
def test_on_any_path_attempt_and_rank_only_grow_and_the_end_is_the_end(
    asked: list[tuple[int, ActivityStatus]],
) -> None:
    now = (1, ActivityStatus.PENDING)
    path = [now]
    for state in asked:
        if activity_may(now, state) and state != now:
            now = state
            path.append(now)
    ranked = [(attempt, status.rank) for attempt, status in path]
    assert ranked == sorted(set(ranked))
    assert all(not status.is_final for _, status in path[:-1])
