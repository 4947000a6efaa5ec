"""Child workflows, timers and Nexus operations as activities of the document."""

from typing import Any

import pytest
from temporalio.api.sdk.v1 import UserMetadata

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import (
    ActivityCancelRequested,
    ActivityChange,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    ErrorDetails,
)
from tests.histories.reading import (
    Kind,
    at,
    changes_in,
    changes_of,
    closed_in,
    declined,
    failure,
    history,
    payload,
    payloads,
    points_in,
    recorded,
    run_completed,
    scheduled_in,
    shown,
    started,
    started_in,
)


def told(*kinds: Kind, **metadata: Any) -> list[ActivityChange]:
    """What a run's history with these events from event 2 on changes of its activities."""
    changes = changes_of(history(started(), *kinds, **metadata))
    return [change for change in changes if isinstance(change, ActivityChange)]


def child(workflow_id: str = "c", **attributes: Any) -> Kind:
    kind = "start_child_workflow_execution_initiated"
    return kind, {"workflow_id": workflow_id, "workflow_type": {"name": "Child"}} | attributes


def test_child_workflow_is_scheduled_with_its_options_and_input() -> None:
    scheduled = scheduled_in(changes_in("children"))["child:children/timed-out"]
    assert scheduled.activity_type == "child_workflow"
    assert scheduled.activity_name == "ChildWorkflow"
    assert scheduled.engine_activity_id == ""
    assert scheduled.task_queue == "histories"
    assert scheduled.options == {
        "workflow_run_timeout_seconds": 1,
        "parent_close_policy": "terminate",
    }
    assert scheduled.input == [shown("wait")]


def test_child_workflow_with_a_schedule_and_no_policy_tells_what_it_has() -> None:
    scheduled = scheduled_in(told(child(cron_schedule="@daily")))["child:c"]
    assert scheduled.options == {"cron_schedule": "@daily"}
    assert scheduled.input is None


def test_child_workflow_that_has_begun_names_its_run() -> None:
    begun = started_in(changes_in("children"))["child:children/completed"]
    run_id = recorded("children")[5].child_workflow_execution_started_event_attributes
    assert begun.child_run_id == run_id.workflow_execution.run_id
    assert begun.child_run_id
    assert begun.attempt == 1


def test_child_workflows_end_in_every_way() -> None:
    closed = closed_in(changes_in("children"))
    seen = {
        name.removeprefix("child:"): (end.status.value, end.outcome, end.error)
        for name, end in closed.items()
    }
    assert seen == {
        "children/completed": ("completed", AttemptOutcome.COMPLETED, None),
        "children/failed": (
            "failed",
            AttemptOutcome.FAILED,
            ErrorDetails("ToldToFail", "The child was told to fail"),
        ),
        "children": (
            "failed",
            None,
            ErrorDetails(
                "StartChildWorkflowError",
                "The child workflow could not be started: workflow already exists",
            ),
        ),
        "children/timed-out": (
            "failed",
            AttemptOutcome.TIMED_OUT,
            ErrorDetails(
                "TimeoutError",
                "The child workflow took longer than its timeout allows",
                is_timeout=True,
            ),
        ),
        "children/cancelled": ("cancelled", AttemptOutcome.CANCELLED, None),
        "children/abandoned": (
            "cancelled",
            None,
            ErrorDetails(
                "RunClosed",
                "Still open when the run ended as completed; "
                "the child workflow may go on: its policy is abandon",
            ),
        ),
    }
    assert closed["child:children/completed"].output == [shown("complete")]


def test_terminated_child_workflow_is_failed() -> None:
    ended = "child_workflow_execution_terminated", {"initiated_event_id": 2}
    begun = "child_workflow_execution_started", {"initiated_event_id": 2}
    error = ErrorDetails("TerminatedError", "The child workflow was terminated")
    assert told(child(), begun, ended)[-1] == ActivityClosed(
        "child:c", ActivityStatus.FAILED, at(4), error, AttemptOutcome.FAILED
    )


def test_child_workflow_without_that_policy_does_not_go_on() -> None:
    closed = closed_in(told(child(), run_completed()))["child:c"]
    assert closed.error == ErrorDetails("RunClosed", "Still open when the run ended as completed")


def test_child_workflow_that_is_asked_to_cancel_is_told_of_as_an_activity() -> None:
    changes = changes_in("children")
    assert ActivityCancelRequested("child:children/cancelled") in changes
    assert points_in(changes) == []


def cancel_request(workflow_id: str, *, child_only: bool = True) -> Kind:
    return "request_cancel_external_workflow_execution_initiated", {
        "workflow_execution": {"workflow_id": workflow_id},
        "child_workflow_only": child_only,
    }


def test_request_to_cancel_a_child_that_has_ended_changes_nothing() -> None:
    ended = "child_workflow_execution_completed", {"initiated_event_id": 2}
    changes = changes_of(history(started(), child(), ended, cancel_request("c")))
    assert isinstance(changes[-1], ActivityClosed)


@pytest.mark.parametrize("asked", [cancel_request("d"), cancel_request("c", child_only=False)])
def test_request_to_cancel_what_is_no_child_is_a_point(asked: Kind) -> None:
    changes = changes_of(history(started(), child(), asked))
    assert [point.kind for point in points_in(changes)] == ["external_cancel_requested"]


def test_child_workflow_id_that_is_used_again_is_told_apart() -> None:
    failed = "start_child_workflow_execution_failed", {"initiated_event_id": 2, "cause": 99}
    changes = told(child(), failed, child(), cancel_request("c"))
    assert list(scheduled_in(changes)) == ["child:c", "child:c~2"]
    assert changes[-1] == ActivityCancelRequested("child:c~2")
    error = closed_in(changes)["child:c"].error
    assert error == ErrorDetails(
        "StartChildWorkflowError", "The child workflow could not be started: 99"
    )


def test_timer_runs_from_the_start_and_has_its_summary_as_name() -> None:
    changes = changes_in("timers")
    timer = scheduled_in(changes)["timer:1"]
    assert (timer.activity_type, timer.activity_name) == ("timer", "Cooling down")
    assert timer.options == {"seconds": 0.05}
    assert timer.engine_activity_id == ""
    begun = started_in(changes)["timer:1"]
    assert (begun.attempt, begun.started_at) == (1, timer.scheduled_at)
    fired, cancelled = closed_in(changes)["timer:1"], closed_in(changes)["timer:2"]
    assert (fired.status.value, fired.outcome, fired.error) == ("completed", "completed", None)
    assert (cancelled.status.value, cancelled.outcome) == ("cancelled", "cancelled")
    assert cancelled.error is None


@pytest.mark.parametrize(
    "metadata",
    [{}, {"summary": payload("")}, {"summary": payload({"no": "text"})}, {"summary": {}}],
)
def test_timer_without_a_summary_that_is_text_is_named_timer(metadata: dict[str, Any]) -> None:
    assert UserMetadata(**metadata) is not None
    timer = "timer_started", {"timer_id": "7", "start_to_fire_timeout": {"seconds": 3}}
    scheduled = scheduled_in(told(timer, **metadata))["timer:7"]
    assert (scheduled.activity_name, scheduled.options) == ("timer", {"seconds": 3})


def test_workflow_does_not_react_to_a_timer_that_it_cancelled_itself() -> None:
    changes = told(
        ("timer_started", {"timer_id": "1"}),
        ("timer_canceled", {"started_event_id": 2}),
        ("workflow_task_started", {}),
        ("workflow_task_completed", {"started_event_id": 4}),
        ("timer_started", {"timer_id": "2"}),
    )
    assert scheduled_in(changes)["timer:2"].depends_on == ()


OPERATION: Kind = (
    "nexus_operation_scheduled",
    {
        "endpoint": "payments",
        "service": "cards",
        "operation": "charge",
        "input": payload(12),
        "schedule_to_close_timeout": {"seconds": 5},
    },
)


def nexus(kind: str, **attributes: Any) -> Kind:
    return f"nexus_operation_{kind}", {"scheduled_event_id": 2} | attributes


def test_nexus_operation_is_told_from_end_to_end() -> None:
    result = payload("done")
    changes = told(
        OPERATION, nexus("started"), nexus("cancel_requested"), nexus("completed", result=result)
    )
    assert changes == [
        ActivityScheduled(
            "nexus:2",
            "cards/charge",
            "nexus_operation",
            (),
            at(2),
            options={"schedule_to_close_timeout_seconds": 5, "endpoint": "payments"},
            input=[shown(12)],
        ),
        ActivityStarted("nexus:2", 1, at(3)),
        ActivityCancelRequested("nexus:2"),
        ActivityClosed(
            "nexus:2",
            ActivityStatus.COMPLETED,
            at(5),
            outcome=AttemptOutcome.COMPLETED,
            output=[shown("done")],
        ),
    ]


def test_nexus_operation_that_ends_at_once_was_tried() -> None:
    closed = told(OPERATION, nexus("failed", failure=declined()))[-1]
    assert closed == ActivityClosed(
        "nexus:2",
        ActivityStatus.FAILED,
        at(3),
        ErrorDetails("CardDeclined", "declined"),
        AttemptOutcome.FAILED,
    )


def test_nexus_operation_may_time_out_or_be_cancelled_before_it_starts() -> None:
    late = failure("operation timed out", timeout_failure_info={"timeout_type": 3})
    closed = told(OPERATION, nexus("timed_out", failure=late))[-1]
    assert closed == ActivityClosed(
        "nexus:2",
        ActivityStatus.FAILED,
        at(3),
        ErrorDetails(
            "TimeoutError", "operation timed out (ScheduleToClose timeout)", is_timeout=True
        ),
    )
    cancelled = told(OPERATION, nexus("canceled"))[-1]
    assert cancelled == ActivityClosed("nexus:2", ActivityStatus.CANCELLED, at(3))


def test_nexus_operation_of_nothing_has_a_stand_in() -> None:
    scheduled = scheduled_in(told(("nexus_operation_scheduled", {})))["nexus:2"]
    assert (scheduled.activity_name, scheduled.options) == ("(unnamed)", {})
    assert scheduled.input is None


def test_result_of_nothing_is_shown_as_none() -> None:
    ended = "child_workflow_execution_completed", {"initiated_event_id": 2, "result": payloads()}
    assert closed_in(told(child(), ended))["child:c"].output is None
