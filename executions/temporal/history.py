"""Folding a run's history, event by event, into changes of its execution. Pure.

History is the truth about what was scheduled and how it ended; what happens between the
two (running, retrying) it tells late or never, see `hints`. Facts about the events:
https://docs.temporal.io/references/events and temporal/api/history/v1/message.proto.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from temporalio.api.history.v1 import HistoryEvent

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
from executions.temporal.failures import error_of_failure
from executions.temporal.names import fitted

ACTIVITY: Final = "activity"
"""The activity_type of what a workflow runs as an ordinary activity."""


_ACTIVITY_ENDS: Final = {
    "activity_task_completed_event_attributes": ActivityStatus.COMPLETED,
    "activity_task_failed_event_attributes": ActivityStatus.FAILED,
    "activity_task_timed_out_event_attributes": ActivityStatus.FAILED,
    "activity_task_canceled_event_attributes": ActivityStatus.CANCELLED,
}
_RUN_ENDS: Final = {
    "workflow_execution_completed_event_attributes": ExecutionStatus.COMPLETED,
    "workflow_execution_failed_event_attributes": ExecutionStatus.FAILED,
    "workflow_execution_timed_out_event_attributes": ExecutionStatus.TIMED_OUT,
    "workflow_execution_canceled_event_attributes": ExecutionStatus.CANCELLED,
    "workflow_execution_terminated_event_attributes": ExecutionStatus.TERMINATED,
    "workflow_execution_continued_as_new_event_attributes": ExecutionStatus.CONTINUED_AS_NEW,
}


@dataclass(slots=True)
class _Scheduled:
    """An activity as far as history has told it."""

    activity_id: str
    scheduled_at: datetime
    is_open: bool = True


class _Ended(NamedTuple):
    event_id: int
    scheduled_event_id: int
    activity_id: str


@dataclass(slots=True)
class _Reactions:
    """What a workflow had seen end when it scheduled something: where `depends_on` comes from.

    A workflow task is given everything that happened before it started. What ended is
    held against the next activities to be scheduled, by that task or, where it schedules
    none (it waits for a second activity, a timer, a signal), by the next that does.
    """

    undelivered: list[_Ended] = field(default_factory=list)
    seen: list[_Ended] = field(default_factory=list)
    used: bool = False

    def ended(self, ended: _Ended) -> None:
        self.undelivered.append(ended)

    def task_completed(self, task_started_event_id: int) -> None:
        if self.used:
            self.seen, self.used = [], False
        waiting, self.undelivered = self.undelivered, []
        for ended in waiting:
            delivered = ended.event_id < task_started_event_id
            (self.seen if delivered else self.undelivered).append(ended)

    def scheduling(self) -> tuple[str, ...]:
        """The ids of what was seen to end, in the order in which it was scheduled."""
        self.used = True
        in_order = sorted(self.seen, key=lambda ended: ended.scheduled_event_id)
        return tuple(ended.activity_id for ended in in_order)


class HistoryFold:
    """One run's history, fed in order from event 1; events that were fed before are skipped.

    An activity id that the run uses again becomes `<id>~2`, `<id>~3` … in the order of
    scheduling, so that every reader of the history arrives at the same ids.
    """

    def __init__(self, workflow_id: str, run_id: str) -> None:
        # Not read from the history: a reset run begins with a copy of another run's events.
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._last_event_id = 0
        self._closed = False
        self._open: dict[int, _Scheduled] = {}
        self._latest: dict[str, _Scheduled] = {}
        self._ids: set[str] = set()
        self._uses: Counter[str] = Counter()
        self._reactions = _Reactions()

    @property
    def is_closed(self) -> bool:
        """Whether the run's end has been fed."""
        return self._closed

    def open_activity(self, activity_id: str) -> str | None:
        """The document's id of the open activity Temporal calls by this id, if there is one."""
        latest = self._latest.get(activity_id)
        return latest.activity_id if latest and latest.is_open else None

    def may_yet_open(self, activity_id: str, scheduled_at: datetime) -> bool:
        """Whether an activity scheduled at that time may still come in what was not fed yet."""
        latest = self._latest.get(activity_id)
        return not self._closed and (latest is None or latest.scheduled_at < scheduled_at)

    def feed(self, events: Iterable[HistoryEvent]) -> list[Change]:
        """What these events change, in order."""
        changes: list[Change] = []
        for event in events:
            if event.event_id > self._last_event_id:
                self._last_event_id = event.event_id
                changes += self._changes_of(event)
        return changes

    def _changes_of(self, event: HistoryEvent) -> Iterable[Change]:
        kind = event.WhichOneof("attributes") or ""
        told: Any = getattr(event, kind, None)
        if kind in _ACTIVITY_ENDS:
            return self._activity_closed(event, told, _ACTIVITY_ENDS[kind])
        if kind in _RUN_ENDS:
            return self._run_closed(event, told, _RUN_ENDS[kind])
        match kind:
            case "workflow_execution_started_event_attributes":
                return [self._run_started(event, told)]
            case "workflow_task_completed_event_attributes":
                self._reactions.task_completed(told.started_event_id)
            case "activity_task_scheduled_event_attributes":
                return [self._activity_scheduled(event, told)]
            case "activity_task_started_event_attributes":
                return self._activity_started(event, told)
        return []

    def _run_started(self, event: HistoryEvent, told: Any) -> Change:
        return RunStarted(
            workflow_id=fitted(self._workflow_id),
            workflow_type=fitted(told.workflow_type.name),
            run_id=self._run_id,
            started_at=_moment(event),
        )

    def _activity_scheduled(self, event: HistoryEvent, told: Any) -> Change:
        activity = _Scheduled(self._unused_id(told.activity_id), _moment(event))
        self._ids.add(activity.activity_id)
        self._latest[told.activity_id] = self._open[event.event_id] = activity
        return ActivityScheduled(
            activity_id=activity.activity_id,
            activity_name=fitted(told.activity_type.name),
            activity_type=ACTIVITY,
            depends_on=self._reactions.scheduling(),
        )

    def _unused_id(self, activity_id: str) -> str:
        while True:
            self._uses[activity_id] += 1
            uses = self._uses[activity_id]
            name = fitted(activity_id, "" if uses == 1 else f"~{uses}")
            if name not in self._ids:
                return name

    def _activity_started(self, event: HistoryEvent, told: Any) -> Iterable[Change]:
        activity = self._open.get(told.scheduled_event_id)
        if activity is not None:
            yield ActivityStarted(activity.activity_id, max(1, told.attempt), _moment(event))

    def _activity_closed(
        self, event: HistoryEvent, told: Any, status: ActivityStatus
    ) -> Iterable[Change]:
        activity = self._open.pop(told.scheduled_event_id, None)
        if activity is None:
            return
        activity.is_open = False
        self._reactions.ended(_Ended(event.event_id, told.scheduled_event_id, activity.activity_id))
        error = error_of_failure(told.failure) if status is ActivityStatus.FAILED else None
        yield ActivityClosed(activity.activity_id, status, _moment(event), error)

    def _run_closed(
        self, event: HistoryEvent, told: Any, status: ExecutionStatus
    ) -> Iterable[Change]:
        self._closed = True
        error = _run_error(told, status)
        reason = ErrorDetails(
            "RunClosed",
            f"Still open when the run ended as {status}" + (f": {error.message}" if error else ""),
        )
        for activity in self._open.values():
            activity.is_open = False
            yield ActivityClosed(
                activity.activity_id, ActivityStatus.CANCELLED, _moment(event), reason
            )
        self._open.clear()
        next_run_id = getattr(told, "new_execution_run_id", "")
        yield RunClosed(status, _moment(event), error, next_run_id or None)


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


def _moment(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
