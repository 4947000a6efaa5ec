"""Writing a run's changes and hints through the one write path.

Every function opens its own transactions and may be called again, here or in another
process, with what it was called with before: what is there already is left alone.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from executions.models import Activity, Execution
from executions.recording import Change as Changing
from executions.recording import NewActivity, changing, ensure_execution
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
from executions.temporal.hints import (
    ActivityHint,
    AttemptBegan,
    AttemptFailed,
    ProgressMade,
    one_status_each,
)

ItemT = TypeVar("ItemT")

CHANGES_PER_EVENT: Final = 500
"""Keeps a patch, and with it every message to a viewer, at a size that travels well."""

_IDS_PER_QUERY: Final = 500


def record_history(execution_id: str, changes: Sequence[Change]) -> None:
    """Record what history said, as few events as may be; creates the execution when told its start.

    Raises what `executions.recording` raises.
    """
    for part in _parts(changes, CHANGES_PER_EVENT):
        if isinstance(part[0], RunStarted):
            _ensure_started(execution_id, part[0])
            part = part[1:]
        if part:
            with changing(execution_id) as change:
                if not ExecutionStatus(change.execution.status).is_final:
                    for told in part:
                        _apply(change, told)


def record_hints(execution_id: str, hints: Sequence[ActivityHint]) -> None:
    """Record hints, each status they tell as an event of its own; their ids are the document's.

    What is no news by now, or tells of an activity or execution that has ended, is
    ignored. Raises what `executions.recording` raises.
    """
    for group in one_status_each(hints):
        with changing(execution_id) as change:
            if ExecutionStatus(change.execution.status).is_final:
                return
            for hint in group:
                activity = change.find_activity(hint.activity_id)
                if activity is not None:
                    _apply_hint(activity, hint)


def not_mirrored_to_the_end(execution_ids: Collection[str]) -> set[str]:
    """Those of the executions that do not exist or have no final status yet."""
    final = [status.value for status in ExecutionStatus if status.is_final]
    missing = set(execution_ids)
    for part in _parts(sorted(missing), _IDS_PER_QUERY):
        rows = Execution.objects.filter(pk__in=part, status__in=final)
        missing.difference_update(rows.values_list("pk", flat=True))
    return missing


def _ensure_started(execution_id: str, told: RunStarted) -> None:
    ensure_execution(
        execution_id=execution_id,
        workflow_id=told.workflow_id,
        workflow_type=told.workflow_type,
        run_id=told.run_id,
        status=ExecutionStatus.RUNNING,
        # The run's own time: whoever mirrors it, whenever, arrives at the same document.
        created_at=told.started_at,
        started_at=told.started_at,
    )


def _apply(change: Changing, told: Change) -> None:
    match told:
        case ActivityScheduled():
            if change.find_activity(told.activity_id) is None:
                change.add_activity(
                    NewActivity(
                        activity_id=told.activity_id,
                        activity_name=told.activity_name,
                        activity_type=told.activity_type,
                        depends_on=told.depends_on,
                    )
                )
        case ActivityStarted():
            activity = change.activity(told.activity_id)
            if _is_news(activity, told.attempt, ActivityStatus.RUNNING):
                _begin_attempt(activity, told)
            elif told.attempt == activity.attempt:
                activity.started_at = told.started_at
        case ActivityClosed():
            activity = change.activity(told.activity_id)
            if not ActivityStatus(activity.status).is_final:
                activity.status = told.status
                activity.completed_at = told.completed_at
                activity.error_details = _document(told.error)
                activity.progress = None
        case RunClosed():
            change.execution.status = told.status
            change.execution.completed_at = told.completed_at
            change.execution.error_details = _document(told.error)


def _apply_hint(activity: Activity, hint: ActivityHint) -> None:
    match hint:
        case AttemptBegan() if _is_news(activity, hint.attempt, ActivityStatus.RUNNING):
            _begin_attempt(activity, hint)
        case AttemptFailed() if _is_news(activity, hint.attempt, ActivityStatus.RETRYING):
            activity.status = ActivityStatus.RETRYING
            activity.attempt = hint.attempt
            activity.error_details = _document(hint.error)
            activity.progress = None
        case ProgressMade() if _is_running(activity, hint.attempt):
            activity.progress = hint.progress


def _is_news(activity: Activity, attempt: int, status: ActivityStatus) -> bool:
    """Whether (attempt, status) is ahead of what is recorded, which has not ended."""
    recorded = ActivityStatus(activity.status)
    return not recorded.is_final and (attempt, status.rank) > (activity.attempt, recorded.rank)


def _is_running(activity: Activity, attempt: int) -> bool:
    return (activity.attempt, activity.status) == (attempt, ActivityStatus.RUNNING)


def _begin_attempt(activity: Activity, told: ActivityStarted | AttemptBegan) -> None:
    """Progress and error are those of the attempt, so a new one has none."""
    activity.status = ActivityStatus.RUNNING
    activity.attempt = told.attempt
    activity.started_at = told.started_at
    activity.error_details = None
    activity.progress = None


def _document(error: ErrorDetails | None) -> dict[str, Any] | None:
    return None if error is None else asdict(error)


def _parts(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
