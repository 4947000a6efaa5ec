"""Simulated lives are legal, repeatable, and end."""

from collections import Counter
from itertools import groupby

import pytest

from executions import simulation
from executions.simulation import (
    ActivityState,
    Change,
    Creation,
    PlannedExecution,
    Step,
    execution_ids,
    steps,
)
from executions.statuses import (
    ActivityStatus,
    ExecutionStatus,
    PendingState,
    check_activity_transition,
    check_execution_transition,
)

MANY = 300


def lives(all_steps: list[Step]) -> dict[str, list[Step]]:
    by_execution: dict[str, list[Step]] = {}
    for step in all_steps:
        by_execution.setdefault(step.execution_id, []).append(step)
    return by_execution


class Followed:
    """What an execution has come to, step by step; fails at a step that is not legal."""

    def __init__(self, planned: PlannedExecution) -> None:
        self.status = ExecutionStatus.PENDING
        self.depends_on = {each.activity_id: each.depends_on for each in planned.activities}
        self.states = dict.fromkeys(self.depends_on, (1, ActivityStatus.PENDING))
        self.shown: dict[str, ActivityState] = {}

    def follow(self, change: Change) -> None:
        assert not self.status.is_final, "a step after the end"
        for state in change.activities:
            before, after = self.states[state.activity_id], (state.attempt, state.status)
            check_activity_transition(before, after)
            self.states[state.activity_id] = after
            needed = [self.states[name][1] for name in self.depends_on[state.activity_id]]
            if state.status is ActivityStatus.SKIPPED:
                assert change.status is ExecutionStatus.CANCELLED or (
                    {ActivityStatus.FAILED, ActivityStatus.SKIPPED} & set(needed)
                )
            elif state.is_scheduled:
                assert set(needed) <= {ActivityStatus.COMPLETED}
            self.follow_what_is_beside_the_status(state)
        assert change.activities or change.status is not None or change.point is not None
        if change.status is not None:
            check_execution_transition(self.status, change.status)
            self.status = change.status
            assert (change.status is ExecutionStatus.FAILED) == (change.error_details is not None)

    def follow_what_is_beside_the_status(self, state: ActivityState) -> None:
        before = self.shown.get(state.activity_id)
        assert state != before, "a step that changes nothing"
        self.shown[state.activity_id] = state
        begun = state.status not in (ActivityStatus.PENDING, ActivityStatus.SKIPPED)
        assert state.is_scheduled or not begun
        assert before is None or state.is_scheduled >= before.is_scheduled
        if state.progress is not None:
            assert state.status is ActivityStatus.RUNNING
            assert 0 < state.progress < 1
            assert before is not None
            assert before.status is ActivityStatus.RUNNING, "an attempt begins without progress"
        if state.backoff_seconds is not None:
            assert state.status is ActivityStatus.RETRYING
            assert state.backoff_seconds == 2 ** (state.attempt - 1)
        if state.status.is_final:
            assert state.pending_state is None
        if state.status is ActivityStatus.COMPLETED:
            assert state.error_details is None
        elif state.status is ActivityStatus.FAILED:
            assert state.error_details is not None
        else:
            retrying = ActivityStatus.RETRYING in (state.status, before and before.status)
            failed = state.attempt > 1 or retrying
            assert failed == (state.error_details is not None), "it stays while it is retried"


def follow(life: list[Step]) -> Followed:
    creation = life[0]
    assert isinstance(creation, Creation)
    followed = Followed(creation.execution)
    for step in life[1:]:
        assert isinstance(step, Change)
        followed.follow(step)
    return followed


def test_every_life_is_legal_and_ends_with_everything_final() -> None:
    by_execution = lives(list(steps(1, MANY, 7)))
    assert list(by_execution) != list(execution_ids(1, MANY)), "they are to begin in any order"
    assert set(by_execution) == set(execution_ids(1, MANY))
    ends: Counter[ExecutionStatus] = Counter()
    statuses: Counter[ActivityStatus] = Counter()
    for life in by_execution.values():
        followed = follow(life)
        assert followed.status.is_final
        assert all(status.is_final for _, status in followed.states.values())
        failed = any(status is ActivityStatus.FAILED for _, status in followed.states.values())
        assert failed <= (followed.status is not ExecutionStatus.COMPLETED)
        ends[followed.status] += 1
        statuses.update(status for _, status in followed.states.values())
    assert set(ends) == {
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    }
    assert set(statuses) == {status for status in ActivityStatus if status.is_final}


def test_retries_and_progress_are_part_of_life() -> None:
    states = [
        state for step in steps(2, 50, 5) if isinstance(step, Change) for state in step.activities
    ]
    assert any(state.status is ActivityStatus.RETRYING for state in states)
    assert any(state.attempt == 3 for state in states)
    assert any(state.pending_state is PendingState.PAUSED for state in states)
    retrying = [state for state in states if state.status is ActivityStatus.RETRYING]
    assert {state.backoff_seconds for state in retrying} == {1.0, 2.0, None}
    assert any(
        state.status is ActivityStatus.RUNNING and state.progress is not None for state in states
    )


def test_signals_come_and_what_runs_is_asked_to_stop_before_it_is_cancelled() -> None:
    changes = [step for step in steps(2, 50, 5) if isinstance(step, Change)]
    points = Counter(step.point.kind for step in changes if step.point is not None)
    ends = Counter(step.status for step in changes)
    assert points["signal"] > 10
    assert points["cancel_requested"] == ends[ExecutionStatus.CANCELLED] > 0
    asked = [
        state
        for step in changes
        if step.point is not None and step.point.kind == "cancel_requested"
        for state in step.activities
    ]
    assert asked
    assert {(state.status, state.pending_state) for state in asked} == {
        (ActivityStatus.RUNNING, PendingState.CANCEL_REQUESTED)
    }


def test_activities_depend_on_earlier_ones_only() -> None:
    (creation,) = [step for step in steps(3, 1, 40) if isinstance(step, Creation)]
    known: set[str] = set()
    for activity in creation.execution.activities:
        assert set(activity.depends_on) <= known
        known.add(activity.activity_id)
    assert len(known) == 40
    assert any(len(activity.depends_on) > 1 for activity in creation.execution.activities)


def test_the_same_seed_tells_the_same_and_another_one_something_else() -> None:
    assert list(steps(4, 5, 5)) == list(steps(4, 5, 5))
    assert set(execution_ids(4, 5)).isdisjoint(execution_ids(5, 5))
    assert set(execution_ids(4, 5)).isdisjoint(execution_ids(-4, 5))


def test_a_life_does_not_depend_on_those_beside_it() -> None:
    alone = lives(list(steps(6, 1, 9)))
    among_others = lives(list(steps(6, 20, 9)))
    ((execution_id, life),) = alone.items()
    assert among_others[execution_id] == life


def test_lives_are_interleaved() -> None:
    turns = [execution_id for execution_id, _ in groupby(steps(7, 5, 8), lambda s: s.execution_id)]
    assert len(turns) > 5 * 8


def test_no_more_than_the_limit_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "OPEN_EXECUTIONS", 3)
    is_open: set[str] = set()
    most = 0
    ended = 0
    for step in steps(8, 12, 4):
        if isinstance(step, Creation):
            is_open.add(step.execution_id)
        elif step.status is not None and step.status.is_final:
            is_open.remove(step.execution_id)
            ended += 1
        most = max(most, len(is_open))
    assert (most, ended) == (3, 12)


def test_an_execution_without_activities_begins_and_ends() -> None:
    for seed in range(30):
        followed = follow(list(steps(seed, 1, 0)))
        assert followed.status is ExecutionStatus.COMPLETED


def test_a_given_execution_id_is_used() -> None:
    assert {step.execution_id for step in steps(9, 1, 3, execution_id="mine")} == {"mine"}


def test_one_execution_id_for_several_executions_is_refused() -> None:
    with pytest.raises(ValueError, match="executions must be 1"):
        next(steps(9, 2, 3, execution_id="mine"))
