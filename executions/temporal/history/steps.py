"""What a run does, step by step, as far as its history has told: the document's activities. Pure.

How the events are read is in `step_events` and `local_activities`, what they are called in
`document_ids`, what each was a reaction to in `reactions`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from temporalio.api.history.v1 import HistoryEvent

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
from executions.temporal.history.document_ids import DocumentIds
from executions.temporal.history.failures import error_of_failure
from executions.temporal.history.local_activities import LocalActivity
from executions.temporal.history.message_values import moment_of
from executions.temporal.history.names import fitted, linked, named
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.history.reactions import Ended, Reactions, later
from executions.temporal.history.step_events import (
    ACTIVITY,
    CANCELLING,
    CHILD_WORKFLOW,
    ENDING,
    LOCAL_ACTIVITY,
    NEXUS_OPERATION,
    SCHEDULING,
    STARTING,
    TIMER,
    NewStep,
    error_of_end,
    output_of_end,
)

_ID_PREFIXES: Final = {
    ACTIVITY: "",
    CHILD_WORKFLOW: "child:",
    LOCAL_ACTIVITY: "local:",
    NEXUS_OPERATION: "nexus:",
    TIMER: "timer:",
}
_ENDS_OF_ATTEMPTS: Final = (AttemptOutcome.COMPLETED, AttemptOutcome.FAILED)


@dataclass(slots=True)
class _Step:
    activity_id: str
    engine_id: str
    scheduled_by: int
    scheduled_at: datetime
    may_go_on: bool
    is_open: bool = True
    has_started: bool = False
    last_failure: ErrorDetails | None = None


class Steps:
    """Those of one run; what it is told of must come in the history's order."""

    def __init__(self) -> None:
        self.reactions = Reactions()
        self._ids = DocumentIds()
        self._open: dict[int, _Step] = {}
        self._open_activities: dict[str, str] = {}
        self._children: dict[str, _Step] = {}
        self._retried_locally: dict[tuple[str, datetime | None], int] = {}

    def adopt(self, plan: Sequence[PlannedActivity]) -> None:
        """Take these for planned; before anything is told."""
        self._ids.adopt(plan)

    @property
    def open_activities(self) -> Mapping[str, str]:
        """The document's ids of the open activities by what Temporal calls them: a live view."""
        return self._open_activities

    def told(self, event: HistoryEvent, kind: str, told: Any) -> Iterator[ActivityChange]:
        """What an event of an activity, child workflow, timer or Nexus operation changes."""
        if kind in SCHEDULING:
            yield from self._scheduled(event, SCHEDULING[kind](event, told))
        elif kind in STARTING:
            yield from self._started(event, told, getattr(told, STARTING[kind]))
        elif kind in CANCELLING:
            yield from _cancel_requested(self._open.get(getattr(told, CANCELLING[kind])))
        elif kind in ENDING:
            yield from self._ended(event, kind, told)

    def child_cancel_requested(self, workflow_id: str) -> list[ActivityChange] | None:
        """What it changes that a child is asked to cancel; None where there is no such child."""
        child = self._children.get(workflow_id)
        return None if child is None else list(_cancel_requested(child))

    def local_activity(self, event: HistoryEvent, local: LocalActivity) -> Iterator[ActivityChange]:
        """What it changes that a local activity has ended, or waits for its next attempt."""
        retried = (local.name, local.scheduled_at)
        step = self._open.get(self._retried_locally.pop(retried, 0))
        # A further attempt is scheduled by a timer, at a time that is not told.
        scheduled_at = None if step else local.scheduled_at
        reaction = self.reactions.local_activity(scheduled_at, local.completed_at)
        ended_at = moment_of(event.event_time)
        started_at = later(ended_at, -reaction.ran)
        if step is None:
            new = NewStep(
                activity_type=LOCAL_ACTIVITY,
                engine_id=local.engine_id,
                name=local.name,
                is_plannable=True,
                input=local.input,
            )
            step = self._new_step(event.event_id, new, reaction.scheduled_at)
            yield _scheduling(step, new, reaction.depends_on)
            if local.attempt == 1:
                started_at, ended_at = step.scheduled_at, later(step.scheduled_at, reaction.ran)
        yield ActivityStarted(
            step.activity_id, local.attempt, started_at, last_failure=step.last_failure
        )
        if local.will_retry:
            step.last_failure = local.error
            self._retried_locally[retried] = step.scheduled_by
            return
        del self._open[step.scheduled_by]
        yield ActivityClosed(
            step.activity_id, local.status, ended_at, local.error, local.outcome, local.output
        )
        ended = Ended(
            event.event_id, step.scheduled_by, step.activity_id, local.completed_at or ended_at
        )
        self.reactions.local_activity_ended(ended, scheduled_at, reaction.ran)

    def run_closed(self, at: datetime, reason: ErrorDetails) -> Iterator[ActivityChange]:
        """What it changes that the run has closed: what is open, and what never came."""
        going_on = replace(
            reason, message=f"{reason.message}; the child workflow may go on: its policy is abandon"
        )
        for step in self._open.values():
            step.is_open = False
            why = going_on if step.may_go_on else reason
            yield ActivityClosed(step.activity_id, ActivityStatus.CANCELLED, at, why)
        self._open.clear()
        self._open_activities.clear()
        for activity_id in self._ids.never_taken():
            yield ActivityClosed(activity_id, ActivityStatus.SKIPPED, at)

    def _scheduled(self, event: HistoryEvent, new: NewStep) -> Iterator[ActivityChange]:
        step = self._new_step(event.event_id, new, moment_of(event.event_time))
        if new.activity_type == ACTIVITY:
            self._open_activities[fitted(new.engine_id)] = step.activity_id
        elif new.activity_type == CHILD_WORKFLOW:
            self._children[new.engine_id] = step
        yield _scheduling(step, new, self.reactions.scheduling())
        if new.is_running:
            step.has_started = True
            yield ActivityStarted(step.activity_id, 1, step.scheduled_at)

    def _new_step(self, event_id: int, new: NewStep, at: datetime) -> _Step:
        activity_id = self._ids.planned(new.engine_id, new.name) if new.is_plannable else None
        if activity_id is None:
            prefix = _ID_PREFIXES[new.activity_type]
            activity_id = self._ids.unplanned(prefix + named(new.engine_id))
        step = self._open[event_id] = _Step(activity_id, new.engine_id, event_id, at, new.may_go_on)
        return step

    def _started(
        self, event: HistoryEvent, told: Any, scheduled_by: int
    ) -> Iterator[ActivityChange]:
        step = self._open.get(scheduled_by)
        if step is None:
            return
        step.has_started = True
        child = getattr(told, "workflow_execution", None)
        failure = getattr(told, "last_failure", None)
        yield ActivityStarted(
            step.activity_id,
            max(1, getattr(told, "attempt", 1)),
            moment_of(event.event_time),
            worker_identity=fitted(getattr(told, "identity", "")),
            last_failure=error_of_failure(failure) if failure and failure.ByteSize() else None,
            child_run_id=linked(child.run_id) if child else None,
        )

    def _ended(self, event: HistoryEvent, kind: str, told: Any) -> Iterator[ActivityChange]:
        end = ENDING[kind]
        step = self._open.pop(getattr(told, end.scheduled_by), None)
        if step is None:
            return
        at = moment_of(event.event_time)
        step.is_open = False
        engine_id = fitted(step.engine_id)
        if self._open_activities.get(engine_id) == step.activity_id:
            del self._open_activities[engine_id]
        if end.is_delivered:
            ended = Ended(event.event_id, step.scheduled_by, step.activity_id, at)
            self.reactions.ended(ended)
        # What has not started can be cancelled and time out; nothing tells the start of a
        # Nexus operation that ends at once.
        ends_attempt = step.has_started or end.outcome in _ENDS_OF_ATTEMPTS
        yield ActivityClosed(
            step.activity_id,
            end.status,
            at,
            error_of_end(kind, told),
            end.outcome if ends_attempt else None,
            output_of_end(told),
        )


def _scheduling(step: _Step, new: NewStep, depends_on: tuple[str, ...]) -> ActivityScheduled:
    return ActivityScheduled(
        activity_id=step.activity_id,
        activity_name=named(new.name),
        activity_type=new.activity_type,
        depends_on=depends_on,
        scheduled_at=step.scheduled_at,
        engine_activity_id=fitted(new.engine_id) if new.activity_type == ACTIVITY else "",
        task_queue=new.task_queue,
        options=new.options,
        input=new.input,
    )


def _cancel_requested(step: _Step | None) -> Iterator[ActivityChange]:
    if step is not None and step.is_open:
        yield ActivityCancelRequested(step.activity_id)
