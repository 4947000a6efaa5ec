"""The execution document: the JSON that REST and every snapshot show. Pure.

One place says which fields it has and how each is written, so that a snapshot, a
REST answer and the value in a patch can only agree.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

JsonObject = dict[str, Any]


class ExecutionFields(Protocol):
    """What the document needs of an execution: the model's row, or a query's."""

    execution_id: str
    workflow_id: str
    workflow_type: str
    run_id: str | None
    status: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error_details: JsonObject | None
    parent_execution_id: str | None
    previous_execution_id: str | None
    next_execution_id: str | None
    latest_point: JsonObject | None


class ActivityFields(Protocol):
    """What the document needs of an activity: the model's row, or a query's."""

    activity_id: str
    activity_name: str
    activity_type: str
    status: str
    pending_state: str | None
    attempt: int
    next_attempt_at: datetime | None
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    error_details: JsonObject | None
    depends_on: list[str]
    progress: float | None
    child_execution_id: str | None


def rfc3339(moment: datetime | None) -> str | None:
    """The moment as `YYYY-MM-DDThh:mm:ss.ffffffZ` (RFC 3339, UTC); None stays None."""
    if moment is None:
        return None
    # Not strftime: its %Y has fewer than four digits in the years before 1000.
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


def execution_fields(execution: ExecutionFields) -> JsonObject:
    """The document's own fields, without `activities`: what the list of executions shows."""
    return {
        "execution_id": execution.execution_id,
        "workflow_id": execution.workflow_id,
        "workflow_type": execution.workflow_type,
        "run_id": execution.run_id,
        "status": str(execution.status),
        "created_at": rfc3339(execution.created_at),
        "started_at": rfc3339(execution.started_at),
        "completed_at": rfc3339(execution.completed_at),
        "error_details": execution.error_details and dict(execution.error_details),
        "parent_execution_id": execution.parent_execution_id,
        "previous_execution_id": execution.previous_execution_id,
        "next_execution_id": execution.next_execution_id,
        "latest_point": execution.latest_point and dict(execution.latest_point),
    }


def activity_document(activity: ActivityFields) -> JsonObject:
    """One entry of `activities`."""
    return {
        "activity_id": activity.activity_id,
        "activity_name": activity.activity_name,
        "activity_type": activity.activity_type,
        "status": str(activity.status),
        "pending_state": activity.pending_state and str(activity.pending_state),
        "scheduled_at": rfc3339(activity.scheduled_at),
        "started_at": rfc3339(activity.started_at),
        "completed_at": rfc3339(activity.completed_at),
        "error_details": activity.error_details and dict(activity.error_details),
        "retry_count": activity.attempt - 1,
        "next_attempt_at": rfc3339(activity.next_attempt_at),
        "depends_on": list(activity.depends_on),
        "progress": activity.progress,
        "child_execution_id": activity.child_execution_id,
    }


def execution_document(
    execution: ExecutionFields, activities: Iterable[ActivityFields]
) -> JsonObject:
    """The whole document; `activities` in the order of their positions."""
    return execution_fields(execution) | {
        "activities": [activity_document(activity) for activity in activities]
    }
