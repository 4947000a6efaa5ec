"""Writing a run's history through the one write path, and into the ledger beside it.

What happens between two of its events is for `live_states`. Every function opens its own
transactions, may be called again, here or in another process, with what it was called
with before, and raises what `executions.recording` raises.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from executions import ledger
from executions.attempts import AttemptNote, AttemptOutcome
from executions.batches import batches
from executions.document import rfc3339
from executions.models import Activity, Execution
from executions.recording import Change as Changing
from executions.recording import (
    NewActivity,
    UnacceptableValueError,
    changing,
    ensure_execution,
)
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from executions.temporal.history.changes import (
    ActivityCancelRequested,
    ActivityChange,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    PointReached,
    RunClosed,
    RunLinked,
    RunStarted,
)
from executions.temporal.history.failures import error_document, failed_attempt, failure_document
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.live.precedence import Source, Standing, standing_after
from executions.temporal.mirroring.activity_rows import (
    begin_attempt,
    has_ended,
    standing_of,
    take,
)
from executions.temporal.mirroring.definitions import definition_for, plan_of, stored_definition
from executions.temporal.models import FollowedRun

log = structlog.get_logger(__name__)

CHANGES_PER_EVENT: Final = 500
"""Keeps a patch, and with it every message to a viewer, at a size that travels well."""


def record_start(execution_id: str, told: RunStarted) -> tuple[PlannedActivity, ...]:
    """Create the run's execution if there is none; what its definition plans.

    The definition is the one given with the run's start, else the one registered for its
    workflow type; once the execution exists, the one that it was created with.
    """
    definition = definition_for(told)
    plan = plan_of(execution_id, definition)
    try:
        _, is_created = _create(execution_id, told, definition, plan)
    except UnacceptableValueError as error:
        if definition is None:
            raise
        log.warning("definition_refused", execution_id=execution_id, problem=str(error))
        plan = ()
        _, is_created = _create(execution_id, told, None, plan)
    if is_created:
        return plan
    return plan_of(execution_id, stored_definition(execution_id))


def record_history(
    execution_id: str, changes: Sequence[Change], position: int | None = None
) -> None:
    """Record what history said, as few events as may be.

    `position` is the id of the history's event up to which this is; it is kept for
    whoever follows the run next.
    """
    if changes and isinstance(changes[0], RunStarted):
        record_start(execution_id, changes[0])
        changes = changes[1:]
    for part in batches(changes, CHANGES_PER_EVENT):
        with changing(execution_id) as change:
            if not ExecutionStatus(change.execution.status).is_final:
                _HistoryPart(change, part).apply()
            if position is not None and part[-1] is changes[-1]:
                _note_position(execution_id, position, is_the_end=isinstance(part[-1], RunClosed))


def not_mirrored_to_the_end(execution_ids: Collection[str]) -> set[str]:
    """Those of the executions that do not exist or have no final status yet."""
    final = [status.value for status in ExecutionStatus if status.is_final]
    missing = set(execution_ids)
    for part in batches(sorted(missing)):
        rows = Execution.objects.filter(pk__in=part, status__in=final)
        missing.difference_update(rows.values_list("pk", flat=True))
    return missing


def _create(
    execution_id: str, told: RunStarted, definition: Any, plan: Sequence[PlannedActivity]
) -> tuple[Execution, bool]:
    return ensure_execution(
        execution_id=execution_id,
        workflow_id=told.workflow_id,
        workflow_type=told.workflow_type,
        run_id=told.run_id,
        status=ExecutionStatus.RUNNING,
        # The run's own time: whoever mirrors it, whenever, arrives at the same document.
        created_at=told.started_at,
        started_at=told.started_at,
        parent_execution_id=told.parent_run_id,
        previous_execution_id=told.previous_run_id,
        workflow_definition=definition,
        activities=[
            NewActivity(
                activity_id=planned.activity_id,
                activity_name=planned.activity_name,
                depends_on=planned.depends_on,
            )
            for planned in plan
        ],
    )


def _note_position(execution_id: str, position: int, *, is_the_end: bool) -> None:
    run = FollowedRun.objects.filter(pk=execution_id)
    if is_the_end:
        run.delete()
    else:
        run.filter(position__lt=position).update(position=position)


class _HistoryPart:
    """Some changes of one run's history, applied to its execution within one transaction."""

    def __init__(self, change: Changing, told: Sequence[Change]) -> None:
        self._change = change
        self._execution_id = change.execution.execution_id
        self._told = told
        self._attempts: list[AttemptNote] = []
        self._details: list[ledger.DetailsNote] = []
        self._outputs: list[ActivityClosed] = []
        self._points: list[ledger.PointNote] = []

    def apply(self) -> None:
        self._change.load_activities(
            {told.activity_id for told in self._told if isinstance(told, ActivityChange)}
        )
        for told in self._told:
            self._apply(told)
        ledger.note_details(self._execution_id, self._details)
        ledger.note_attempts(self._execution_id, self._attempts)
        self._note_points()
        for closed in self._outputs:
            ledger.note_output(self._execution_id, closed.activity_id, closed.output or [])

    def _apply(self, told: Change) -> None:
        execution = self._change.execution
        match told:
            case ActivityScheduled():
                self._schedule(told)
            case ActivityStarted():
                self._start(told)
            case ActivityCancelRequested():
                activity = self._change.activity(told.activity_id)
                recorded = standing_of(activity)
                asked = replace(recorded, pending_state=PendingState.CANCEL_REQUESTED)
                take(activity, standing_after(recorded, asked, Source.HISTORY))
            case ActivityClosed():
                self._close(told)
            case PointReached():
                self._points.append(
                    ledger.PointNote(
                        engine_event_id=told.engine_event_id,
                        at=told.at,
                        kind=told.kind,
                        name=told.name,
                        details=told.details,
                    )
                )
            case RunLinked():
                execution.previous_execution_id = told.previous_run_id
            case RunClosed():
                execution.status = told.status
                execution.completed_at = told.completed_at
                execution.error_details = error_document(told.error)
                execution.next_execution_id = told.next_run_id

    def _schedule(self, told: ActivityScheduled) -> None:
        activity = self._change.find_activity(told.activity_id)
        if activity is None:
            self._change.add_activity(
                NewActivity(
                    activity_id=told.activity_id,
                    activity_name=told.activity_name,
                    activity_type=told.activity_type,
                    scheduled_at=told.scheduled_at,
                    depends_on=told.depends_on,
                )
            )
        elif activity.scheduled_at is None:
            # Planned until here. Its real dependencies replace the planned ones.
            activity.activity_name = told.activity_name
            activity.activity_type = told.activity_type
            activity.scheduled_at = told.scheduled_at
            activity.depends_on = list(told.depends_on)
        self._details.append(
            ledger.DetailsNote(
                activity_id=told.activity_id,
                engine_activity_id=told.engine_activity_id,
                task_queue=told.task_queue,
                options=told.options,
                input=told.input,
            )
        )

    def _start(self, told: ActivityStarted) -> None:
        activity = self._change.activity(told.activity_id)
        if told.child_run_id is not None:
            activity.child_execution_id = told.child_run_id
        if not has_ended(activity):
            recorded = standing_of(activity)
            begun = Standing(told.attempt, ActivityStatus.RUNNING)
            stands = standing_after(recorded, begun, Source.HISTORY)
            if stands != recorded:
                begin_attempt(activity, stands, told.started_at)
            elif told.attempt == activity.attempt:
                activity.started_at = told.started_at
            if told.last_failure is not None and activity.status == ActivityStatus.RUNNING:
                activity.error_details = error_document(told.last_failure)
        if _is_tried(activity):
            self._note_started(activity, told)

    def _note_started(self, activity: Activity, told: ActivityStarted) -> None:
        if told.last_failure is not None and told.attempt > 1:
            self._attempts.append(
                replace(
                    failed_attempt(told.activity_id, told.attempt - 1, told.last_failure),
                    is_true=True,
                )
            )
        self._attempts.append(
            AttemptNote(
                activity_id=told.activity_id,
                number=told.attempt,
                worker_identity=told.worker_identity,
                scheduled_at=activity.scheduled_at if told.attempt == 1 else None,
                started_at=told.started_at,
                is_true=True,
            )
        )

    def _close(self, told: ActivityClosed) -> None:
        activity = self._change.activity(told.activity_id)
        if told.output is not None:
            self._outputs.append(told)
        if has_ended(activity):
            return
        recorded = standing_of(activity)
        ended = Standing(recorded.attempt, told.status)
        take(activity, standing_after(recorded, ended, Source.HISTORY))
        activity.completed_at = told.completed_at
        activity.error_details = error_document(told.error)
        activity.progress = None
        if _is_tried(activity):
            self._note_closed(activity, told, recorded.status)

    def _note_closed(
        self, activity: Activity, told: ActivityClosed, before: ActivityStatus
    ) -> None:
        if told.outcome is None and before is not ActivityStatus.RUNNING:
            return
        error = told.error if told.outcome is not None else None
        self._attempts.append(
            AttemptNote(
                activity_id=told.activity_id,
                number=activity.attempt,
                outcome=told.outcome or AttemptOutcome.UNKNOWN,
                ended_at=told.completed_at if told.outcome is not None else None,
                failure=failure_document(error),
                is_true=True,
            )
        )

    def _note_points(self) -> None:
        """A point that was told before, perhaps by another follower, is no longer the latest."""
        if not self._points:
            return
        known = ledger.newest_point(self._execution_id)
        ledger.note_points(self._execution_id, self._points)
        latest = self._points[-1]
        if latest.engine_event_id > known:
            self._change.execution.latest_point = {
                "kind": latest.kind,
                "name": latest.name or None,
                "at": rfc3339(latest.at),
            }


def _is_tried(activity: Activity) -> bool:
    """Whether it is something that is tried: timers and child workflows have no attempts."""
    return activity.activity_type in ("activity", "local_activity", "nexus_operation")
