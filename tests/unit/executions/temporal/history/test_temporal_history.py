"""What the fold makes of runs: recorded ones, and events put together for rarer cases."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.history.v1 import HistoryEvent

from executions.statuses import ActivityStatus, ExecutionStatus
from executions.temporal.history.changes import (
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    ErrorDetails,
    RunClosed,
    RunLinked,
    RunStarted,
)
from executions.temporal.history.fold import HistoryFold
from tests.histories.reading import (
    DIRECTORY,
    NAMES,
    at,
    changes_in,
    changes_of,
    closed_in,
    completed,
    depends_on,
    ends,
    history,
    payload,
    points_in,
    recorded,
    run_completed,
    scheduled,
    scheduled_in,
    started,
)


def test_pipeline_is_told_step_by_step() -> None:
    changes = changes_in("pipeline")
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
        ("planned", {"check": (), "refund": ("check",), "report": ("refund",)}),
        ("cron", {"check": (), "pack-and-ship": ("check",), "report": ("pack-and-ship",)}),
        (
            "talking",
            {
                "opening": (),
                "answer-1": (),
                "said": (),
                "answer-13": ("opening", "answer-1", "said"),
            },
        ),
        (
            "timers",
            {"timer:1": (), "after-the-wait": ("timer:1",), "timer:2": ("timer:1",)},
        ),
        (
            "children",
            {
                "child:children/completed": (),
                "child:children/failed": ("child:children/completed",),
                "child:children": ("child:children/failed",),
                "child:children/timed-out": ("child:children",),
                "child:children/cancelled": ("child:children/timed-out",),
                "child:children/abandoned": ("child:children/cancelled",),
            },
        ),
        (
            "local-activities",
            {
                "local:first": (),
                "local:left": ("local:first",),
                "local:right": ("local:first",),
                "local:flaky": ("local:left", "local:right"),
                "after": ("local:flaky",),
                "local:refused": ("after",),
                "local:slow": ("local:refused",),
            },
        ),
        ("reset", {"opening": (), "said": ()}),
    ],
)
def test_activities_depend_on_what_the_workflow_had_seen_end(
    name: str, expected: dict[str, tuple[str, ...]]
) -> None:
    assert depends_on(changes_in(name)) == expected


def test_failing_run_has_the_reason_of_the_activity_inside() -> None:
    changes = changes_in("failing")
    reason = ErrorDetails("CardDeclined", "The card was declined")
    failed = [told for told in changes if type(told) is ActivityClosed and told.error]
    assert [(told.activity_id, told.status) for told in failed] == [("2", ActivityStatus.FAILED)]
    assert failed[0].error == reason
    assert isinstance(changes[-1], RunClosed)
    assert (changes[-1].status, changes[-1].error) == (ExecutionStatus.FAILED, reason)


def test_cancelled_run_and_activity_have_no_error() -> None:
    changes = changes_in("cancelled")
    assert ends(changes) == {"1": ActivityStatus.CANCELLED}
    assert isinstance(changes[-1], RunClosed)
    assert (changes[-1].status, changes[-1].error) == (ExecutionStatus.CANCELLED, None)


@pytest.mark.parametrize(
    ("name", "status", "told", "open_steps"),
    [
        (
            "terminated",
            ExecutionStatus.TERMINATED,
            "terminated: Out of budget",
            {"running", "queued", "timer:1"},
        ),
        ("abandoning", ExecutionStatus.COMPLETED, "completed", {"running", "queued"}),
        ("reset-base", ExecutionStatus.TERMINATED, "terminated: Try again", {"opening"}),
    ],
)
def test_steps_open_at_the_end_are_cancelled_with_the_runs_reason(
    name: str, status: ExecutionStatus, told: str, open_steps: set[str]
) -> None:
    changes = changes_in(name)
    reason = ErrorDetails("RunClosed", f"Still open when the run ended as {told}")
    cancelled = {name: end for name, end in closed_in(changes).items() if end.error}
    assert set(cancelled) == open_steps
    for end in cancelled.values():
        assert (end.status, end.error, end.outcome) == (ActivityStatus.CANCELLED, reason, None)
    assert isinstance(changes[-1], RunClosed)
    assert changes[-1].status is status


@pytest.mark.parametrize(
    ("name", "following"),
    [("continued-as-new", "continued-from"), ("retried", "retried-from"), ("cron", "cron-from")],
)
def test_runs_that_go_on_from_one_another_name_each_other(name: str, following: str) -> None:
    first, last = changes_in(name)[0], changes_in(name)[-1]
    begun = changes_in(following)[0]
    told = recorded(name)[0].workflow_execution_started_event_attributes
    assert isinstance(first, RunStarted)
    assert isinstance(last, RunClosed)
    assert isinstance(begun, RunStarted)
    assert first.previous_run_id is None
    assert begun.previous_run_id == told.original_execution_run_id
    goes_on = recorded(following)[0].workflow_execution_started_event_attributes
    assert last.next_run_id == goes_on.original_execution_run_id


def test_continued_as_new_run_ends_so() -> None:
    end = changes_in("continued-as-new")[-1]
    assert isinstance(end, RunClosed)
    assert (end.status, end.error) == (ExecutionStatus.CONTINUED_AS_NEW, None)


def test_child_run_names_its_parent() -> None:
    begun = changes_in("child")[0]
    told = recorded("child")[0].workflow_execution_started_event_attributes
    assert isinstance(begun, RunStarted)
    assert begun.parent_run_id == told.parent_workflow_execution.run_id
    assert begun.parent_run_id


def test_ids_that_cannot_be_executions_link_nothing() -> None:
    changes = changes_of(
        history(
            started(
                parent_workflow_execution={"run_id": "not an id"},
                continued_execution_run_id="nor/this",
            ),
            ("workflow_execution_failed", {"new_execution_run_id": "nor that"}),
        )
    )
    assert isinstance(changes[0], RunStarted)
    assert (changes[0].parent_run_id, changes[0].previous_run_id) == (None, None)
    assert isinstance(changes[-1], RunClosed)
    assert changes[-1].next_run_id is None


def reset_run_id() -> str:
    return next(
        event.workflow_task_failed_event_attributes.new_run_id
        for event in recorded("reset")
        if event.HasField("workflow_task_failed_event_attributes")
    )


def test_reset_run_goes_on_from_its_base_and_ends_what_was_open() -> None:
    changes = HistoryFold("reset", reset_run_id()).feed(recorded("reset"))
    base = recorded("reset-base")[0].workflow_execution_started_event_attributes
    links = [told for told in changes if isinstance(told, RunLinked)]
    assert links == [RunLinked(base.original_execution_run_id)]
    assert [point.kind for point in points_in(changes)] == ["signal", "reset", "signal"]
    assert ends(changes) == dict.fromkeys(("opening", "said"), ActivityStatus.COMPLETED)


def test_reset_of_another_run_is_none_of_this_one() -> None:
    """A run that was reset twice begins with a copy of the first reset."""
    changes = HistoryFold("reset", "another").feed(recorded("reset"))
    assert not [told for told in changes if isinstance(told, RunLinked)]
    assert [point.kind for point in points_in(changes)] == ["signal", "signal"]


def test_reset_without_a_base_is_a_point_without_a_link() -> None:
    told = {"cause": "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW", "new_run_id": "run"}
    changes = changes_of(history(started(), ("workflow_task_failed", told)))
    assert [point.kind for point in points_in(changes)] == ["reset"]
    assert len(changes) == 2


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


def test_empty_names_have_a_stand_in() -> None:
    changes = HistoryFold("", "run").feed(
        history(("workflow_execution_started", {}), scheduled("", ""))
    )
    assert isinstance(changes[0], RunStarted)
    assert (changes[0].workflow_id, changes[0].workflow_type) == ("(unnamed)", "(unnamed)")
    told = scheduled_in(changes)["(unnamed)"]
    assert (told.activity_name, told.engine_activity_id) == ("(unnamed)", "")


@pytest.mark.parametrize(
    ("memo", "definition"),
    [
        ({}, None),
        ({"nexus_workflow_definition": payload({"a": 1})}, {"a": 1}),
        ({"nexus_workflow_definition": {"data": b"{}"}}, None),
    ],
)
def test_definition_is_the_memos_where_it_is_json(memo: object, definition: object) -> None:
    begun = changes_of(history(started(memo={"fields": memo})))[0]
    assert isinstance(begun, RunStarted)
    assert begun.definition == definition


def test_events_of_unknown_activities_and_kinds_change_nothing() -> None:
    strangers = history(
        started(),
        completed(77),
        ("activity_task_started", {"scheduled_event_id": 77}),
        ("timer_fired", {"started_event_id": 77}),
        ("activity_task_cancel_requested", {"scheduled_event_id": 77}),
        ("marker_recorded", {"marker_name": "m"}),
    )
    assert len(changes_of([*strangers, HistoryEvent(event_id=7)])) == 1


def test_nothing_follows_the_runs_end() -> None:
    changes = changes_of(history(started(), run_completed(), scheduled("a"), run_completed()))
    assert len(changes) == 2


@pytest.mark.parametrize("name", NAMES)
def test_recorded_histories_tell_nothing_of_the_machine(name: str) -> None:
    text = (DIRECTORY / f"{name}.json").read_text(encoding="utf-8")
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
