"""What the admin shows of one execution's parts and of its activities': a bounded part of each.

Texts are plain: whoever puts them on a page escapes them.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db.models import QuerySet
from django.db.models.functions import Left

from executions.api.activity_details import backoff_seconds, details_of, newest_attempts_of
from executions.events import event_timestamp
from executions.identifiers import EventId
from executions.models import Activity, Attempt, Event, Point

ACTIVITIES_SHOWN: Final = 200
ATTEMPTS_SHOWN: Final = 50
EVENTS_SHOWN: Final = 100
POINTS_SHOWN: Final = 50
PAYLOAD_CHARACTERS: Final = 20_000
"""Longest text that is shown in a table; of a longer one only its beginning."""

_VALUE_CHARACTERS: Final = 60
_OPERATIONS_SHOWN: Final = 4
_DEPENDENCIES_SHOWN: Final = 5
_KIND = re.compile(r'"type":"([a-z_]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRow:
    pk: int
    position: int
    activity_id: str
    activity_name: str
    activity_type: str
    status: str
    attempt: int
    pending_state: str
    next_attempt: str
    progress: str
    started: str
    completed: str
    error: str
    depends_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    pk: int
    event_id: str
    time: str
    kind: str
    summary: str
    payload: str
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    engine_event_id: int
    time: str
    kind: str
    name: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    number: int
    outcome: str
    worker: str
    scheduled: str
    started: str
    ended: str
    next_attempt: str
    backoff: str
    heartbeat: str
    heartbeat_details: str
    failure: str
    stack_trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailsShown:
    """Each is JSON over several lines, or empty where it is not known."""

    task_queue: str
    options: str
    input: str
    output: str


def first_activities(execution_id: str) -> tuple[list[ActivityRow], bool]:
    """The first ACTIVITIES_SHOWN in the order of their positions, and whether there are more."""
    rows = Activity.objects.filter(execution_id=execution_id).order_by("position")
    found = list(rows[: ACTIVITIES_SHOWN + 1])
    return [_activity_row(row) for row in found[:ACTIVITIES_SHOWN]], len(found) > ACTIVITIES_SHOWN


def last_events(execution_id: str) -> tuple[list[EventRow], bool]:
    """The last EVENTS_SHOWN, newest first, and whether there are more."""
    rows = Event.objects.filter(execution_id=execution_id).order_by("-sequence")
    found = list(with_beginnings(rows)[: EVENTS_SHOWN + 1])
    return [_event_row(row) for row in found[:EVENTS_SHOWN]], len(found) > EVENTS_SHOWN


def latest_points(execution_id: str) -> tuple[list[PointRow], bool]:
    """The last POINTS_SHOWN of the story, newest first, and whether there are more."""
    rows = Point.objects.filter(execution_id=execution_id).order_by("-engine_event_id")
    found = list(rows[: POINTS_SHOWN + 1])
    return [_point_row(row) for row in found[:POINTS_SHOWN]], len(found) > POINTS_SHOWN


def newest_attempts(activity: Activity) -> tuple[list[AttemptRow], int]:
    """The newest ATTEMPTS_SHOWN, newest first, and how many there are besides."""
    found, omitted = newest_attempts_of(activity, ATTEMPTS_SHOWN)
    return [_attempt_row(row) for row in reversed(found)], omitted


def shown_details(activity: Activity) -> DetailsShown:
    """What the activity was scheduled with, and what it returned."""
    details = details_of(activity)
    return DetailsShown(
        task_queue=details.task_queue,
        options=_shown_json(details.options or None),
        input=_shown_json(details.input),
        output=_shown_json(details.output),
    )


def with_beginnings(events: QuerySet[Event]) -> QuerySet[Any]:
    """The events without their messages, but with `beginning`: at most what a table shows."""
    return events.defer("message").annotate(beginning=Left("message", PAYLOAD_CHARACTERS + 1))


def kind_of(beginning: str) -> str:
    """The type of the message that begins so."""
    match = _KIND.search(beginning, 0, 100)
    return match[1] if match else "unknown"


def pretty(message: str) -> str:
    """The message's JSON over several lines."""
    return msgspec.json.format(message, indent=2)


def shown_moment(moment: datetime | None) -> str:
    """UTC to the millisecond; empty for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def shown_event_time(event_id: EventId) -> str:
    return event_timestamp(event_id).replace("T", " ").removesuffix("Z")


def shown_error(error_details: dict[str, Any] | None) -> str:
    """`type: message`, or what there is of it."""
    if error_details is None:
        return ""
    parts = (error_details.get("type"), error_details.get("message"))
    return ": ".join(part for part in parts if part)


def shown_dependencies(depends_on: list[str]) -> str:
    more = len(depends_on) - _DEPENDENCIES_SHOWN
    named = ", ".join(depends_on[:_DEPENDENCIES_SHOWN])
    return f"{named} and {more} more" if more > 0 else named


def _activity_row(row: Activity) -> ActivityRow:
    return ActivityRow(
        pk=row.pk,
        position=row.position,
        activity_id=row.activity_id,
        activity_name=row.activity_name,
        activity_type=row.activity_type,
        status=row.status,
        attempt=row.attempt,
        pending_state=row.pending_state or "",
        next_attempt=shown_moment(row.next_attempt_at),
        progress="" if row.progress is None else f"{row.progress:.0%}",
        started=shown_moment(row.started_at),
        completed=shown_moment(row.completed_at),
        error=shown_error(row.error_details),
        depends_on=shown_dependencies(row.depends_on),
    )


def _point_row(row: Point) -> PointRow:
    return PointRow(
        engine_event_id=row.engine_event_id,
        time=shown_moment(row.at),
        kind=row.kind,
        name=row.name,
        details=_shown_json(row.details),
    )


def _attempt_row(row: Attempt) -> AttemptRow:
    backoff = backoff_seconds(row.ended_at, row.next_attempt_at)
    return AttemptRow(
        number=row.number,
        outcome=row.outcome,
        worker=row.worker_identity,
        scheduled=shown_moment(row.scheduled_at),
        started=shown_moment(row.started_at),
        ended=shown_moment(row.ended_at),
        next_attempt=shown_moment(row.next_attempt_at),
        backoff="" if backoff is None else f"{backoff:.3f} s",
        heartbeat=shown_moment(row.heartbeat_at),
        heartbeat_details=_shown_json(row.heartbeat_details),
        failure=shown_error(row.failure),
        stack_trace=_cut((row.failure or {}).get("stack_trace", "")),
    )


def _shown_json(value: Any) -> str:
    return "" if value is None else _cut(pretty(msgspec.json.encode(value).decode()))


def _cut(text: str) -> str:
    return text if len(text) <= PAYLOAD_CHARACTERS else f"{text[:PAYLOAD_CHARACTERS]}…"


def _event_row(row: Any) -> EventRow:
    is_cut = len(row.beginning) > PAYLOAD_CHARACTERS
    kind = kind_of(row.beginning)
    return EventRow(
        pk=row.pk,
        event_id=str(row.event_id),
        time=shown_event_time(row.event_id),
        kind=kind,
        summary=_summary(kind, None if is_cut else row.beginning),
        payload=f"{row.beginning[:-1]}…" if is_cut else pretty(row.beginning),
        is_cut=is_cut,
    )


def _summary(kind: str, message: str | None) -> str:
    if kind != "activity_patch":
        return "the whole document"
    if message is None:
        return "a large patch"
    operations = msgspec.json.decode(message)["ops"]
    told = [_operation(operation) for operation in operations[:_OPERATIONS_SHOWN]]
    more = len(operations) - _OPERATIONS_SHOWN
    return "\n".join([*told, f"and {more} more"] if more > 0 else told)


def _operation(operation: dict[str, Any]) -> str:
    value = operation["value"]
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    cut = text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 1]}…"
    sign = "+" if operation["op"] == "add" else "="
    return f"{operation['path']} {sign} {cut}"
