"""Events and their text: encoded here once, and the same text ever after. Pure.

The log, the stream, the announcement and the socket carry what `encode` returns.
Field by field the messages are described in the protocol (specs/024-execution-visualizer).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from executions.document import JsonObject
from executions.identifiers import EventId
from executions.patches import Operation


class InitialSnapshot(msgspec.Struct, tag_field="type", tag="initial_snapshot", kw_only=True):
    """The whole document at an event_id: the first event, and what a viewer starts from."""

    execution_id: str
    event_id: str
    timestamp: str
    execution: JsonObject


class ActivityPatch(msgspec.Struct, tag_field="type", tag="activity_patch", kw_only=True):
    """One committed change: RFC 6902 operations, applied in order and atomically."""

    execution_id: str
    event_id: str
    timestamp: str
    ops: list[Operation]


class FinalSnapshot(msgspec.Struct, tag_field="type", tag="final_snapshot", kw_only=True):
    """The whole document at the end: equals the fold of everything before it."""

    execution_id: str
    event_id: str
    timestamp: str
    execution: JsonObject


EventMessage = InitialSnapshot | ActivityPatch | FinalSnapshot


class CommittedEvent(NamedTuple):
    """An event as the log holds it: its id and its message's text."""

    event_id: EventId
    message: str


def event_timestamp(event_id: EventId) -> str:
    """The event's time, RFC 3339 with milliseconds."""
    moment = datetime.fromtimestamp(event_id.milliseconds / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{event_id.milliseconds % 1000:03d}Z"


def initial_snapshot(execution_id: str, event_id: EventId, document: JsonObject) -> InitialSnapshot:
    return InitialSnapshot(
        execution_id=execution_id,
        event_id=str(event_id),
        timestamp=event_timestamp(event_id),
        execution=document,
    )


def activity_patch(
    execution_id: str, event_id: EventId, operations: Sequence[Operation]
) -> ActivityPatch:
    return ActivityPatch(
        execution_id=execution_id,
        event_id=str(event_id),
        timestamp=event_timestamp(event_id),
        ops=list(operations),
    )


def final_snapshot(execution_id: str, event_id: EventId, document: JsonObject) -> FinalSnapshot:
    return FinalSnapshot(
        execution_id=execution_id,
        event_id=str(event_id),
        timestamp=event_timestamp(event_id),
        execution=document,
    )


def is_final(event_text: str) -> bool:
    """Whether the text, as `encode` made it, is of the event that closes its log."""
    return event_text.startswith('{"type":"final_snapshot"')


def encode(message: msgspec.Struct) -> str:
    """The message's JSON text."""
    return msgspec.json.encode(message).decode()
