"""How history tells of what the document shows as activities. Pure.

Ordinary activities, child workflows, timers and Nexus operations are told alike: an event
schedules them, later ones point back to it. Local activities are told by one marker
instead, see `local_activities`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NamedTuple

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import ParentClosePolicy, StartChildWorkflowExecutionFailedCause
from temporalio.api.history.v1 import HistoryEvent

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import ErrorDetails, ShownPayloads
from executions.temporal.history.failures import error_of_failure
from executions.temporal.history.message_values import json_of, seconds_of, words_of
from executions.temporal.history.names import fitted
from executions.temporal.history.payloads import shown_payloads

ACTIVITY: Final = "activity"
CHILD_WORKFLOW: Final = "child_workflow"
LOCAL_ACTIVITY: Final = "local_activity"
NEXUS_OPERATION: Final = "nexus_operation"
TIMER: Final = "timer"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """What an event schedules; `engine_id` is what Temporal calls it.

    A plan may have it where `is_plannable`; it runs from the start where `is_running`;
    where `may_go_on`, the run's end does not end it.
    """

    activity_type: str
    engine_id: str
    name: str
    is_plannable: bool = False
    is_running: bool = False
    may_go_on: bool = False
    task_queue: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    input: ShownPayloads | None = None


class End(NamedTuple):
    """`scheduled_by` is the field that names the scheduling event.

    The workflow is told of every end but those that it brought about itself.
    """

    scheduled_by: str
    status: ActivityStatus
    outcome: AttemptOutcome | None
    is_delivered: bool = True


def _activity(event: HistoryEvent, told: Any) -> NewStep:
    return NewStep(
        activity_type=ACTIVITY,
        engine_id=told.activity_id,
        name=told.activity_type.name,
        is_plannable=True,
        task_queue=fitted(told.task_queue.name),
        options=_timeouts(told) | _retry_policy(told),
        input=_shown(told.input.payloads),
    )


def _child_workflow(event: HistoryEvent, told: Any) -> NewStep:
    policy = told.parent_close_policy
    options = _timeouts(told) | _retry_policy(told)
    if policy != ParentClosePolicy.PARENT_CLOSE_POLICY_UNSPECIFIED:
        options["parent_close_policy"] = words_of(ParentClosePolicy, policy)
    if told.cron_schedule:
        options["cron_schedule"] = fitted(told.cron_schedule)
    return NewStep(
        activity_type=CHILD_WORKFLOW,
        engine_id=told.workflow_id,
        name=told.workflow_type.name,
        is_plannable=True,
        may_go_on=policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON,
        task_queue=fitted(told.task_queue.name),
        options=options,
        input=_shown(told.input.payloads),
    )


def _timer(event: HistoryEvent, told: Any) -> NewStep:
    summary = json_of(event.user_metadata.summary)
    return NewStep(
        activity_type=TIMER,
        engine_id=told.timer_id,
        name=summary if summary and isinstance(summary, str) else TIMER,
        is_running=True,
        options={"seconds": seconds_of(told.start_to_fire_timeout)},
    )


def _nexus_operation(event: HistoryEvent, told: Any) -> NewStep:
    options = _timeouts(told)
    if told.endpoint:
        options["endpoint"] = fitted(told.endpoint)
    return NewStep(
        activity_type=NEXUS_OPERATION,
        engine_id=str(event.event_id),
        name="/".join(filter(None, (told.service, told.operation))),
        options=options,
        input=_shown([told.input]) if told.HasField("input") else None,
    )


SCHEDULING: Final[Mapping[str, Callable[[HistoryEvent, Any], NewStep]]] = {
    "activity_task_scheduled_event_attributes": _activity,
    "start_child_workflow_execution_initiated_event_attributes": _child_workflow,
    "timer_started_event_attributes": _timer,
    "nexus_operation_scheduled_event_attributes": _nexus_operation,
}

STARTING: Final = {
    "activity_task_started_event_attributes": "scheduled_event_id",
    "child_workflow_execution_started_event_attributes": "initiated_event_id",
    "nexus_operation_started_event_attributes": "scheduled_event_id",
}
"""The field that names the scheduling event."""

CANCELLING: Final = {
    "activity_task_cancel_requested_event_attributes": "scheduled_event_id",
    "nexus_operation_cancel_requested_event_attributes": "scheduled_event_id",
}
"""The field that names the scheduling event."""

_COMPLETED: Final = (ActivityStatus.COMPLETED, AttemptOutcome.COMPLETED)
_FAILED: Final = (ActivityStatus.FAILED, AttemptOutcome.FAILED)
_TIMED_OUT: Final = (ActivityStatus.FAILED, AttemptOutcome.TIMED_OUT)
_CANCELLED: Final = (ActivityStatus.CANCELLED, AttemptOutcome.CANCELLED)

_START_FAILED: Final = "start_child_workflow_execution_failed_event_attributes"
_CHILD_TIMED_OUT: Final = "child_workflow_execution_timed_out_event_attributes"
_CHILD_TERMINATED: Final = "child_workflow_execution_terminated_event_attributes"

ENDING: Final[Mapping[str, End]] = {
    "activity_task_completed_event_attributes": End("scheduled_event_id", *_COMPLETED),
    "activity_task_failed_event_attributes": End("scheduled_event_id", *_FAILED),
    "activity_task_timed_out_event_attributes": End("scheduled_event_id", *_TIMED_OUT),
    "activity_task_canceled_event_attributes": End("scheduled_event_id", *_CANCELLED),
    _START_FAILED: End("initiated_event_id", ActivityStatus.FAILED, None),
    "child_workflow_execution_completed_event_attributes": End("initiated_event_id", *_COMPLETED),
    "child_workflow_execution_failed_event_attributes": End("initiated_event_id", *_FAILED),
    "child_workflow_execution_canceled_event_attributes": End("initiated_event_id", *_CANCELLED),
    _CHILD_TIMED_OUT: End("initiated_event_id", *_TIMED_OUT),
    _CHILD_TERMINATED: End("initiated_event_id", *_FAILED),
    "timer_fired_event_attributes": End("started_event_id", *_COMPLETED),
    "timer_canceled_event_attributes": End("started_event_id", *_CANCELLED, is_delivered=False),
    "nexus_operation_completed_event_attributes": End("scheduled_event_id", *_COMPLETED),
    "nexus_operation_failed_event_attributes": End("scheduled_event_id", *_FAILED),
    "nexus_operation_timed_out_event_attributes": End("scheduled_event_id", *_TIMED_OUT),
    "nexus_operation_canceled_event_attributes": End("scheduled_event_id", *_CANCELLED),
}


def error_of_end(kind: str, told: Any) -> ErrorDetails | None:
    """Why something did not complete; None where it did, or was cancelled."""
    if ENDING[kind].status is not ActivityStatus.FAILED:
        return None
    if kind == _START_FAILED:
        cause = words_of(StartChildWorkflowExecutionFailedCause, told.cause)
        message = f"The child workflow could not be started: {cause}"
        return ErrorDetails("StartChildWorkflowError", message)
    if kind == _CHILD_TIMED_OUT:
        message = "The child workflow took longer than its timeout allows"
        return ErrorDetails("TimeoutError", message, is_timeout=True)
    if kind == _CHILD_TERMINATED:
        return ErrorDetails("TerminatedError", "The child workflow was terminated")
    return error_of_failure(told.failure)


def output_of_end(told: Any) -> ShownPayloads | None:
    """What it returned, if anything."""
    result = getattr(told, "result", None)
    if result is None or not told.HasField("result"):
        return None
    return _shown(getattr(result, "payloads", [result]))


def _shown(payloads: Any) -> ShownPayloads | None:
    return shown_payloads(payloads) if payloads else None


_TIMEOUTS: Final = (
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
    "workflow_execution_timeout",
    "workflow_run_timeout",
)


def _timeouts(told: Any) -> dict[str, Any]:
    return _seconds({name: getattr(told, name) for name in _TIMEOUTS if hasattr(told, name)})


def _retry_policy(told: Any) -> dict[str, Any]:
    """`{"retry_policy": {…}}` with what is set of it, or nothing."""
    policy = told.retry_policy
    options = _seconds(
        {"initial_interval": policy.initial_interval, "maximum_interval": policy.maximum_interval}
    )
    if policy.maximum_attempts:
        options["maximum_attempts"] = policy.maximum_attempts
    if policy.backoff_coefficient and isfinite(policy.backoff_coefficient):
        options["backoff_coefficient"] = policy.backoff_coefficient
    if policy.non_retryable_error_types:
        options["non_retryable_error_types"] = [
            fitted(name) for name in policy.non_retryable_error_types
        ]
    return {"retry_policy": options} if options else {}


def _seconds(durations: Mapping[str, Duration]) -> dict[str, Any]:
    seconds = {f"{name}_seconds": seconds_of(duration) for name, duration in durations.items()}
    return {name: value for name, value in seconds.items() if value}
