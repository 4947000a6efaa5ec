"""Executions for tests to act on, made through the write path."""

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
