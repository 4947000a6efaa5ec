"""Recorded histories, and ones put together event by event, for the tests of what reads them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from executions.statuses import ActivityStatus
from executions.temporal.history.changes import (
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    PointReached,
)
from executions.temporal.history.fold import HistoryFold

DIRECTORY = Path(__file__).parent
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Kind = tuple[str, dict[str, Any]]


def recorded(name: str) -> Sequence[HistoryEvent]:
    text = (DIRECTORY / f"{name}.json").read_text(encoding="utf-8")
    return WorkflowHistory.from_json(name, text).events


def changes_of(events: Sequence[HistoryEvent]) -> list[Change]:
    return HistoryFold("workflow", "run").feed(events)


def changes_in(name: str) -> list[Change]:
    return changes_of(recorded(name))


def scheduled_in(changes: Sequence[Change]) -> dict[str, ActivityScheduled]:
    return {told.activity_id: told for told in changes if isinstance(told, ActivityScheduled)}


def started_in(changes: Sequence[Change]) -> dict[str, ActivityStarted]:
    return {told.activity_id: told for told in changes if isinstance(told, ActivityStarted)}


def closed_in(changes: Sequence[Change]) -> dict[str, ActivityClosed]:
    return {told.activity_id: told for told in changes if isinstance(told, ActivityClosed)}


def points_in(changes: Sequence[Change]) -> list[PointReached]:
    return [told for told in changes if isinstance(told, PointReached)]


def depends_on(changes: Sequence[Change]) -> dict[str, tuple[str, ...]]:
    return {name: told.depends_on for name, told in scheduled_in(changes).items()}


def ends(changes: Sequence[Change]) -> dict[str, ActivityStatus]:
    return {name: told.status for name, told in closed_in(changes).items()}


def at(event_id: float) -> datetime:
    return START + timedelta(seconds=event_id)


def history(*kinds: Kind, **metadata: Any) -> list[HistoryEvent]:
    """Events 1, 2, 3 …, a second apart, each given by its kind and attributes.

    `metadata` is the user's metadata of the last one.
    """
    events = []
    for event_id, (kind, attributes) in enumerate(kinds, 1):
        told: Any = {f"{kind}_event_attributes": attributes}
        event = HistoryEvent(event_id=event_id, **told)
        event.event_time.FromDatetime(at(event_id))
        events.append(event)
    if metadata:
        events[-1].user_metadata.MergeFrom(type(events[-1].user_metadata)(**metadata))
    return events


def started(**attributes: Any) -> Kind:
    return "workflow_execution_started", {"workflow_type": {"name": "W"}} | attributes


def task_started() -> Kind:
    return "workflow_task_started", {}


def task_completed(task_started: int) -> Kind:
    return "workflow_task_completed", {"started_event_id": task_started}


def scheduled(activity_id: str, name: str = "do", **attributes: Any) -> Kind:
    kind = "activity_task_scheduled"
    return kind, {"activity_id": activity_id, "activity_type": {"name": name}} | attributes


def completed(scheduled_id: int) -> Kind:
    return "activity_task_completed", {"scheduled_event_id": scheduled_id}


def run_completed() -> Kind:
    return "workflow_execution_completed", {}


def payload(value: Any) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


def payloads(*values: Any) -> dict[str, Any]:
    return {"payloads": [payload(value) for value in values]}


def shown(value: Any) -> dict[str, Any]:
    """What is shown of `payload(value)`."""
    return {
        "encoding": "json/plain",
        "size_bytes": len(json.dumps(value)),
        "value": value,
        "is_cut": False,
        "problem": None,
    }


def failure(message: str, cause: Failure | None = None, **info: Any) -> Failure:
    return Failure(message=message, cause=cause, **info)


def declined(**also: Any) -> Failure:
    return failure("declined", application_failure_info={"type": "CardDeclined"}, **also)
