"""Whatever is told in whatever order, a run ends with what its history says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowHistory

from executions.models import ActivityDetails, Attempt, Execution, Point
from executions.statuses import ActivityStatus, PendingState
from executions.temporal.history.changes import ActivityScheduled, ActivityStarted, Change
from executions.temporal.history.fold import HistoryFold
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.live.hints import ActivityHint
from executions.temporal.live.precedence import Standing
from executions.temporal.mirroring.histories import record_history
from executions.temporal.mirroring.live_states import record_descriptions, record_hints
from tests.integration.telling import LATER, began, description, failed, progress
from tests.truth import assert_log_is_whole, assert_same_document, document_of_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

HISTORIES = Path(__file__).parents[1] / "histories"
# Of an activity that history does not see end, hints know more than history.
WHOLE = [
    "children",
    "compensating",
    "continued-from",
    "failing",
    "fan-out",
    "local-activities",
    "pipeline",
    "planned",
    "repeated-ids",
    "talking",
    "timeouts",
    "timers",
    "two-chains",
]


@dataclass(frozen=True)
class Tried:
    """An activity of a recorded history and how often it was tried."""

    activity_id: str
    engine_activity_id: str
    scheduled_at: datetime
    attempts: int


def tried_in(changes: Sequence[Change]) -> list[Tried]:
    attempts = {told.activity_id: told.attempt for told in changes if type(told) is ActivityStarted}
    return [
        Tried(
            told.activity_id,
            told.engine_activity_id,
            told.scheduled_at,
            attempts[told.activity_id],
        )
        for told in changes
        if type(told) is ActivityScheduled
        and told.engine_activity_id
        and told.activity_id in attempts
    ]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(WHOLE), data=st.data())
def test_sources_in_any_order_end_with_what_history_says(name: str, data: st.DataObject) -> None:
    events = WorkflowHistory.from_json(name, (HISTORIES / f"{name}.json").read_text()).events
    changes = HistoryFold(name, "r").feed(events)
    tried = tried_in(changes)
    execution_id = str(uuid4())
    folds = [HistoryFold(name, "r"), HistoryFold(name, "r")]
    read = [0, 0]

    def read_on(which: int, begin: int, end: int) -> None:
        read[which] = max(read[which], end)
        record_history(execution_id, folds[which].feed(events[min(begin, end) : end]))

    for which in data.draw(st.lists(st.integers(0, 1), max_size=10)):
        begin, end = data.draw(st.tuples(st.integers(0, read[which]), st.integers(1, len(events))))
        read_on(which, begin, end)
        if tried:
            record_hints(execution_id, data.draw(st.lists(hints_of(tried), max_size=6)))
            described = data.draw(st.lists(descriptions_of(tried), max_size=3))
            record_descriptions(execution_id, dict(described))
    for which in (0, 1):
        read_on(which, read[which], len(events))
    assert_log_is_whole(execution_id)
    fresh_id = str(uuid4())
    record_history(fresh_id, changes)
    mirrored = document_of_rows(execution_id)
    assert_same_document(mirrored | {"execution_id": fresh_id}, document_of_rows(fresh_id))
    assert ledger_of(execution_id) >= ledger_of(fresh_id)
    head = Execution.objects.get(pk=fresh_id).head
    record_history(fresh_id, HistoryFold(name, "r").feed(events))
    assert Execution.objects.get(pk=fresh_id).head == head


def ledger_of(execution_id: str) -> set[tuple[Any, ...]]:
    """What history alone says of attempts, details and points."""
    attempts = Attempt.objects.filter(execution_id=execution_id).exclude(outcome="running")
    details = ActivityDetails.objects.filter(execution_id=execution_id)
    points = Point.objects.filter(execution_id=execution_id)
    return {
        *attempts.values_list("activity_id", "number", "outcome"),
        *details.values_list("activity_id", "engine_activity_id", "task_queue"),
        *points.values_list("engine_event_id", "kind", "name", "at"),
    }


def hints_of(tried: list[Tried]) -> st.SearchStrategy[ActivityHint]:
    """Hints about attempts that there were."""

    def of(activity: Tried, attempt: int) -> st.SearchStrategy[ActivityHint]:
        name = activity.engine_activity_id
        hints: list[ActivityHint] = [began(attempt, name), progress(0.3, attempt, name)]
        if attempt < activity.attempts:
            hints.append(failed(attempt, name))
        return st.sampled_from(
            [replace(hint, scheduled_at=activity.scheduled_at) for hint in hints]
        )

    return attempts_of(tried).flatmap(lambda drawn: of(*drawn))


def descriptions_of(tried: list[Tried]) -> st.SearchStrategy[tuple[str, DescribedActivity]]:
    """What Temporal may have said, at some time, of attempts that there were."""

    def of(activity: Tried, attempt: int) -> st.SearchStrategy[tuple[str, DescribedActivity]]:
        standings = [Standing(attempt, ActivityStatus.RUNNING)]
        if attempt == 1:
            standings.append(Standing(1, ActivityStatus.PENDING, PendingState.PAUSED))
        if attempt < activity.attempts:
            standings.append(Standing(attempt, ActivityStatus.RETRYING, None, LATER))
        return st.sampled_from(
            [
                (activity.activity_id, description(standing, activity.engine_activity_id))
                for standing in standings
            ]
        )

    return attempts_of(tried).flatmap(lambda drawn: of(*drawn))


def attempts_of(tried: list[Tried]) -> st.SearchStrategy[tuple[Tried, int]]:
    return st.sampled_from(tried).flatmap(
        lambda activity: st.tuples(st.just(activity), st.integers(1, activity.attempts))
    )
