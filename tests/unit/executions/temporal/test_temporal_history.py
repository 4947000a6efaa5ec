"""What the fold makes of histories: recorded ones, and events put together for rarer cases."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from executions.statuses import ActivityStatus, ExecutionStatus
from executions.temporal.changes import (
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    ErrorDetails,
    RunClosed,
    RunStarted,
)
from executions.temporal.history import HistoryFold

HISTORIES = Path(__file__).parents[3] / "histories"
NAMES = sorted(path.stem for path in HISTORIES.glob("*.json"))
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def recorded(name: str) -> Sequence[HistoryEvent]:
    text = (HISTORIES / f"{name}.json").read_text(encoding="utf-8")
    return WorkflowHistory.from_json(name, text).events


def changes_of(events: Sequence[HistoryEvent]) -> list[Change]:
    return HistoryFold("workflow", "run").feed(events)


def depends_on(changes: Sequence[Change]) -> dict[str, tuple[str, ...]]:
    return {
        told.activity_id: told.depends_on for told in changes if type(told) is ActivityScheduled
    }


def ends(changes: Sequence[Change]) -> dict[str, ActivityStatus]:
    return {told.activity_id: told.status for told in changes if type(told) is ActivityClosed}


def at(event_id: int) -> datetime:
    return START + timedelta(seconds=event_id)


def history(*kinds: tuple[str, dict[str, Any]]) -> list[HistoryEvent]:
    """Events 1, 2, 3 …, a second apart, each given by its kind and attributes."""
    events = []
    for event_id, (kind, attributes) in enumerate(kinds, 1):
        told: Any = {f"{kind}_event_attributes": attributes}
        event = HistoryEvent(event_id=event_id, **told)
        event.event_time.FromDatetime(at(event_id))
        events.append(event)
    return events


def started() -> tuple[str, dict[str, Any]]:
    return "workflow_execution_started", {"workflow_type": {"name": "W"}}


def task_completed(task_started: int) -> tuple[str, dict[str, Any]]:
    return "workflow_task_completed", {"started_event_id": task_started}


def task_started() -> tuple[str, dict[str, Any]]:
    return "workflow_task_started", {}


def scheduled(activity_id: str) -> tuple[str, dict[str, Any]]:
    kind = "activity_task_scheduled"
    return kind, {"activity_id": activity_id, "activity_type": {"name": "do"}}


def completed(scheduled_id: int) -> tuple[str, dict[str, Any]]:
    return "activity_task_completed", {"scheduled_event_id": scheduled_id}


def test_pipeline_is_told_step_by_step() -> None:
    changes = changes_of(recorded("pipeline"))
    first, last = changes[0], changes[-1]
    assert isinstance(first, RunStarted)
    assert (first.workflow_id, first.run_id) == ("workflow", "run")
    assert first.workflow_type == "PipelineWorkflow"
    assert isinstance(last, RunClosed)
    assert (last.status, last.error, last.next_run_id) == (ExecutionStatus.COMPLETED, None, None)
    names = [told.activity_name for told in changes if isinstance(told, ActivityScheduled)]
    steps = ["fetch_data", "validate_input", "process_data", "send_notification", "cleanup"]
    assert names == steps
    attempts = {told.activity_id: told.attempt for told in changes if type(told) is ActivityStarted}
    assert attempts == {"1": 1, "2": 1, "3": 2, "4": 1, "5": 1}
    assert set(ends(changes).values()) == {ActivityStatus.COMPLETED}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pipeline", {"1": (), "2": ("1",), "3": ("2",), "4": ("3",), "5": ("4",)}),
        ("fan-out", {**{str(n): () for n in range(1, 6)}, "6": ("1", "2", "3", "4", "5")}),
        (
            "two-chains",
            {"a1": (), "b1": (), "a2": ("a1",), "b2": ("b1",), "c": ("a2", "b2")},
        ),
        ("signalled", {"before": (), "chosen": ("before",)}),
        ("compensating", {"1": (), "2": ("1",), "clean-up": ("2",)}),
        ("repeated-ids", {"again": (), "again~2": ("again",), "again~3": ("again~2",)}),
    ],
)
def test_activities_depend_on_what_the_workflow_had_seen_end(
    name: str, expected: dict[str, tuple[str, ...]]
) -> None:
    assert depends_on(changes_of(recorded(name))) == expected


def test_failing_run_has_the_reason_of_the_activity_inside() -> None:
    changes = changes_of(recorded("failing"))
    reason = ErrorDetails("CardDeclined", "The card was declined")
    failed = [told for told in changes if type(told) is ActivityClosed and told.error]
    assert [(told.activity_id, told.status) for told in failed] == [("2", ActivityStatus.FAILED)]
    assert failed[0].error == reason
    assert isinstance(changes[-1], RunClosed)
    assert (changes[-1].status, changes[-1].error) == (ExecutionStatus.FAILED, reason)


def test_cancelled_run_and_activity_have_no_error() -> None:
    changes = changes_of(recorded("cancelled"))
    assert ends(changes) == {"1": ActivityStatus.CANCELLED}
    assert isinstance(changes[-1], RunClosed)
    assert (changes[-1].status, changes[-1].error) == (ExecutionStatus.CANCELLED, None)


def test_timed_out_and_refused_activities_are_failed() -> None:
    closed = [told for told in changes_of(recorded("compensating")) if type(told) is ActivityClosed]
    assert [told.error for told in closed] == [
        ErrorDetails("TimeoutError", "activity StartToClose timeout"),
        ErrorDetails("UnknownCustomer", "No such customer"),
        None,
    ]
    assert [told.status.value for told in closed] == ["failed", "failed", "completed"]


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("terminated", ExecutionStatus.TERMINATED, "terminated: Out of budget"),
        ("abandoning", ExecutionStatus.COMPLETED, "completed"),
    ],
)
def test_activities_open_at_the_end_are_cancelled_with_the_runs_reason(
    name: str, status: ExecutionStatus, told: str
) -> None:
    changes = changes_of(recorded(name))
    closed = [told for told in changes if type(told) is ActivityClosed]
    assert ends(changes) == dict.fromkeys(("running", "queued"), ActivityStatus.CANCELLED)
    reason = ErrorDetails("RunClosed", f"Still open when the run ended as {told}")
    assert [end.error for end in closed] == [reason, reason]
    assert isinstance(changes[-1], RunClosed)
    assert changes[-1].status is status


def test_continued_run_names_the_next() -> None:
    end = changes_of(recorded("continued-as-new"))[-1]
    assert isinstance(end, RunClosed)
    assert end.status is ExecutionStatus.CONTINUED_AS_NEW
    assert end.next_run_id


def test_run_without_activities_or_workflow_task_can_end() -> None:
    kinds = "workflow_execution_timed_out", {"new_execution_run_id": "next"}
    changes = changes_of(history(started(), kinds))
    assert changes == [
        RunStarted("workflow", "W", "run", at(1)),
        RunClosed(
            ExecutionStatus.TIMED_OUT,
            at(2),
            ErrorDetails("TimeoutError", "The run took longer than its timeout allows"),
            "next",
        ),
    ]


def test_termination_without_a_reason_tells_by_whom() -> None:
    end = changes_of(history(started(), ("workflow_execution_terminated", {"identity": "ops"})))[-1]
    assert isinstance(end, RunClosed)
    assert end.error == ErrorDetails("TerminatedError", "The run was terminated by ops")


def test_activity_cancelled_before_it_started_is_cancelled() -> None:
    cancelled = "activity_task_canceled", {"scheduled_event_id": 2}
    requested = "activity_task_cancel_requested", {"scheduled_event_id": 2}
    changes = changes_of(history(started(), scheduled("a"), requested, cancelled))
    assert changes[2:] == [ActivityClosed("a", ActivityStatus.CANCELLED, at(4))]


def test_timeout_after_failed_attempts_names_the_last_failure() -> None:
    failure = Failure(message="activity ScheduleToClose timeout")
    failure.timeout_failure_info.SetInParent()
    failure.cause.message = "connection refused"
    failure.cause.application_failure_info.type = "ConnectionError"
    timed_out = "activity_task_timed_out", {"scheduled_event_id": 2, "failure": failure}
    end = changes_of(history(started(), scheduled("a"), timed_out))[-1]
    assert isinstance(end, ActivityClosed)
    assert end.error == ErrorDetails(
        "TimeoutError",
        "activity ScheduleToClose timeout (last failure: ConnectionError: connection refused)",
    )


def test_what_ended_during_a_workflow_task_is_delivered_to_the_next() -> None:
    changes = changes_of(
        history(
            started(),
            task_started(),
            task_completed(2),
            scheduled("a"),
            task_started(),
            completed(4),
            task_completed(5),
            scheduled("unrelated"),
            task_started(),
            task_completed(9),
            scheduled("after a"),
        )
    )
    assert depends_on(changes) == {"a": (), "unrelated": (), "after a": ("a",)}


def test_what_was_delivered_to_a_failed_workflow_task_counts_when_it_is_repeated() -> None:
    changes = changes_of(
        history(
            started(),
            scheduled("a"),
            completed(2),
            task_started(),
            ("workflow_task_failed", {"started_event_id": 4}),
            task_started(),
            task_completed(6),
            scheduled("b"),
        )
    )
    assert depends_on(changes)["b"] == ("a",)


def test_activities_of_one_task_depend_on_the_same() -> None:
    changes = changes_of(
        history(
            started(),
            scheduled("a"),
            completed(2),
            task_started(),
            task_completed(4),
            scheduled("b"),
            scheduled("c"),
        )
    )
    assert depends_on(changes) == {"a": (), "b": ("a",), "c": ("a",)}


def test_ids_that_look_like_repeated_ones_stay_apart() -> None:
    changes = changes_of(history(started(), scheduled("a"), scheduled("a~2"), scheduled("a")))
    assert list(depends_on(changes)) == ["a", "a~2", "a~3"]


def test_repeated_id_of_full_length_is_cut_to_fit() -> None:
    changes = changes_of(history(started(), scheduled("ä" * 500), scheduled("ä" * 500)))
    assert list(depends_on(changes)) == ["ä" * 500, "ä" * 499 + "~2"]


def test_events_of_unknown_activities_and_kinds_change_nothing() -> None:
    strangers = history(
        started(),
        completed(77),
        ("activity_task_started", {"scheduled_event_id": 77}),
        ("timer_started", {"timer_id": "t"}),
        ("marker_recorded", {"marker_name": "m"}),
    )
    assert len(changes_of([*strangers, HistoryEvent(event_id=6)])) == 1


def test_open_activity_is_found_by_temporals_id_while_it_is_open() -> None:
    events = history(started(), scheduled("a"), completed(2), scheduled("a"), completed(4))
    fold = HistoryFold("workflow", "run")
    found = []
    for event in events:
        fold.feed([event])
        found.append(fold.open_activity("a"))
    assert found == [None, "a", None, "a~2", None]


def test_activity_may_yet_open_until_history_has_passed_its_scheduling() -> None:
    fold = HistoryFold("workflow", "run")
    events = history(started(), scheduled("a"), completed(2), ("workflow_execution_completed", {}))
    assert fold.may_yet_open("a", at(2))
    fold.feed(events[:3])
    assert not fold.may_yet_open("a", at(2))
    assert fold.may_yet_open("a", at(5))
    assert not fold.is_closed
    fold.feed(events)
    assert fold.is_closed
    assert not fold.may_yet_open("a", at(5))


@pytest.mark.parametrize("name", NAMES)
def test_recorded_histories_tell_nothing_of_the_machine(name: str) -> None:
    text = (HISTORIES / f"{name}.json").read_text(encoding="utf-8")
    assert not re.search(r"\d@|stackTrace|\.py\b", text)


@given(name=st.sampled_from(NAMES), data=st.data())
def test_pages_of_any_size_and_repeated_ones_tell_the_same(name: str, data: st.DataObject) -> None:
    events = recorded(name)
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=8).map(sorted))
    fold = HistoryFold("workflow", "run")
    told: list[Change] = []
    for begin, end in pairwise([0, *cuts, len(events)]):
        again = data.draw(st.integers(0, begin))
        told += fold.feed(events[again:end])
    assert told == changes_of(events)
    assert fold.feed(events) == []
