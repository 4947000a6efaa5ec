"""Folding a run's history, event by event, into changes of its execution. Pure.

History is the truth about what was scheduled and how it ended; what happens between the
two (running, retrying) it tells late or never, see `hints`. Facts about the events:
https://docs.temporal.io/references/events and temporal/api/history/v1/message.proto.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from executions.statuses import ExecutionStatus
from executions.temporal.history.changes import (
    Change,
    ErrorDetails,
    RunClosed,
    RunLinked,
    RunStarted,
)
from executions.temporal.history.failures import error_of_failure
from executions.temporal.history.local_activities import local_activity_of
from executions.temporal.history.message_values import json_of, moment_of
from executions.temporal.history.names import linked, named
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.history.points import Points
from executions.temporal.history.steps import Steps

DEFINITION_MEMO: Final = "nexus_workflow_definition"
"""The field of a run's memo that may hold its workflow definition, as JSON."""

_RUN_ENDS: Final = {
    "workflow_execution_completed_event_attributes": ExecutionStatus.COMPLETED,
    "workflow_execution_failed_event_attributes": ExecutionStatus.FAILED,
    "workflow_execution_timed_out_event_attributes": ExecutionStatus.TIMED_OUT,
    "workflow_execution_canceled_event_attributes": ExecutionStatus.CANCELLED,
    "workflow_execution_terminated_event_attributes": ExecutionStatus.TERMINATED,
    "workflow_execution_continued_as_new_event_attributes": ExecutionStatus.CONTINUED_AS_NEW,
}


class HistoryFold:
    """One run's history, fed in order from event 1; events that were fed before are skipped.

    Every reader of a history arrives at the same ids, see `document_ids`. Never raises,
    whatever the events say.
    """

    def __init__(self, workflow_id: str, run_id: str) -> None:
        # Not read from the history: a reset run begins with a copy of another run's events.
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._last_event_id = 0
        self._closed = False
        self._steps = Steps()
        self._points = Points()

    @property
    def is_closed(self) -> bool:
        """Whether the run's end has been fed."""
        return self._closed

    def adopt(self, plan: Sequence[PlannedActivity]) -> None:
        """Take these for what the execution's document holds as pending from its start.

        To be called once the run's start has been fed, and before anything else is.
        """
        self._steps.adopt(plan)

    @property
    def open_activities(self) -> Mapping[str, str]:
        """The document's ids of the open activities by their fitted Temporal ids: a live view."""
        return self._steps.open_activities

    def feed(self, events: Iterable[HistoryEvent]) -> list[Change]:
        """What these events change, in order; nothing follows the run's end."""
        changes: list[Change] = []
        for event in events:
            if event.event_id > self._last_event_id and not self._closed:
                self._last_event_id = event.event_id
                changes += self._changes_of(event)
        return changes

    def _changes_of(self, event: HistoryEvent) -> Iterator[Change]:
        kind = event.WhichOneof("attributes") or ""
        told: Any = getattr(event, kind, None)
        if kind in _RUN_ENDS:
            yield from self._run_closed(event, told, _RUN_ENDS[kind])
            return
        yield from self._steps.told(event, kind, told)
        match kind.removesuffix("_event_attributes"):
            case "workflow_execution_started":
                yield self._run_started(event, told)
            case "workflow_task_started":
                self._steps.reactions.task_started(moment_of(event.event_time))
            case "workflow_task_completed":
                self._steps.reactions.task_completed(told.started_event_id)
            case "marker_recorded" if local := local_activity_of(told):
                yield from self._steps.local_activity(event, local)
            case "request_cancel_external_workflow_execution_initiated" if told.child_workflow_only:
                child = told.workflow_execution.workflow_id
                if (changes := self._steps.child_cancel_requested(child)) is not None:
                    yield from changes
                    return
            case "workflow_task_failed" if _is_reset(told):
                if told.new_run_id != self._run_id:
                    # It came with the copy of another run's events.
                    return
                if base_run_id := linked(told.base_run_id):
                    yield RunLinked(base_run_id)
        if point := self._points.reached(event):
            yield point

    def _run_started(self, event: HistoryEvent, told: Any) -> Change:
        memo = told.memo.fields
        return RunStarted(
            workflow_id=named(self._workflow_id),
            workflow_type=named(told.workflow_type.name),
            run_id=self._run_id,
            started_at=moment_of(event.event_time),
            parent_run_id=linked(told.parent_workflow_execution.run_id),
            previous_run_id=linked(told.continued_execution_run_id),
            definition=json_of(memo[DEFINITION_MEMO]) if DEFINITION_MEMO in memo else None,
        )

    def _run_closed(
        self, event: HistoryEvent, told: Any, status: ExecutionStatus
    ) -> Iterator[Change]:
        self._closed = True
        at = moment_of(event.event_time)
        error = _run_error(told, status)
        reason = f"Still open when the run ended as {status}"
        if error:
            reason += f": {error.message}"
        yield from self._steps.run_closed(at, ErrorDetails("RunClosed", reason))
        yield RunClosed(status, at, error, linked(getattr(told, "new_execution_run_id", "")))


def _is_reset(told: Any) -> bool:
    cause: int = told.cause
    return cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW


def _run_error(told: Any, status: ExecutionStatus) -> ErrorDetails | None:
    """Why a run ended otherwise than by its own return, request of cancellation or successor."""
    match status:
        case ExecutionStatus.FAILED:
            return error_of_failure(told.failure)
        case ExecutionStatus.TERMINATED:
            by = f" by {told.identity}" if told.identity else ""
            return ErrorDetails("TerminatedError", told.reason or f"The run was terminated{by}")
        case ExecutionStatus.TIMED_OUT:
            return ErrorDetails("TimeoutError", "The run took longer than its timeout allows")
    return None
