"""Executions for tests to act on, made through the write path, and what is shown of them."""

from typing import Any

from executions.recording import NewActivity, create_execution
from executions.statuses import ExecutionStatus


def an_execution(*activity_ids: str, **fields: Any) -> str:
    """Create a running execution with pending activities of these ids; its execution_id.

    `fields` are those of create_execution.
    """
    activities = [
        NewActivity(activity_id=activity_id, activity_name=f"name of {activity_id}")
        for activity_id in activity_ids
    ]
    defaults: dict[str, Any] = {
        "workflow_id": "sample-workflow",
        "workflow_type": "Sample",
        "status": ExecutionStatus.RUNNING,
        "activities": activities,
    }
    return create_execution(**(defaults | fields)).execution_id


def shown_activity(activity_id: str, activity_name: str, **fields: Any) -> dict[str, Any]:
    """What the document shows of an activity of which only these are known."""
    return {
        "activity_id": activity_id,
        "activity_name": activity_name,
        "activity_type": "activity",
        "status": "pending",
        "pending_state": None,
        "scheduled_at": None,
        "started_at": None,
        "completed_at": None,
        "error_details": None,
        "retry_count": 0,
        "next_attempt_at": None,
        "depends_on": [],
        "progress": None,
        "child_execution_id": None,
    } | fields
