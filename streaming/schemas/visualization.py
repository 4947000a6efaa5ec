"""The messages of an execution's stream: encode, decode, validate. Pure.

The three events are those of the event log (`executions.events`), text and all; a
connection adds heartbeats, and snapshots that say why they were sent. The protocol
document describes each field (specs/024-execution-visualizer/protocol.md).
"""

import re
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from executions.events import ActivityPatch, FinalSnapshot, encode
from executions.events import InitialSnapshot as InitialSnapshotEvent
from executions.identifiers import EventId, MalformedEventIdError, is_execution_id

__all__ = [
    "ActivityPatch",
    "Envelope",
    "FinalSnapshot",
    "Heartbeat",
    "InitialSnapshot",
    "InvalidMessageError",
    "Message",
    "Resync",
    "ResyncReason",
    "decode",
    "encode",
    "is_event_of",
    "read_envelope",
    "validate",
]

ResyncReason = Literal["trimmed", "unknown", "slow"]

_OPERATIONS: Final = ("add", "remove", "replace", "move", "copy", "test")
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)


class InvalidMessageError(ValueError):
    """The text is no message of this protocol; says what is wrong with it."""


class Resync(msgspec.Struct):
    """Why continuity could not be kept: `trimmed`, `unknown` cursor, or `slow` reader."""

    reason: ResyncReason


class InitialSnapshot(InitialSnapshotEvent, tag_field="type", tag="initial_snapshot", kw_only=True):
    """The document at an event_id; with `resync`, in place of events that were missed."""

    resync: Resync | msgspec.UnsetType = msgspec.UNSET


class Heartbeat(msgspec.Struct, tag_field="type", tag="heartbeat", kw_only=True):
    """Nothing happened. With `event_id`: the receiver is caught up to there."""

    timestamp: str
    event_id: str | msgspec.UnsetType = msgspec.UNSET


Message = InitialSnapshot | ActivityPatch | FinalSnapshot | Heartbeat


class Envelope(msgspec.Struct):
    """What routing an event needs of its message."""

    type: Literal["initial_snapshot", "activity_patch", "final_snapshot"]
    execution_id: str
    event_id: str


_message_decoder = msgspec.json.Decoder(Message)
_envelope_decoder = msgspec.json.Decoder(Envelope)


def decode(text: str | bytes) -> Message:
    """The message in `text`, validated; unknown fields are ignored.

    Raises InvalidMessageError.
    """
    try:
        message: Message = _message_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidMessageError(f"not a message: {error}") from error
    validate(message)
    return message


def read_envelope(text: str | bytes) -> tuple[str, EventId]:
    """The execution and the id of an event's message; the rest is not decoded.

    Raises InvalidMessageError.
    """
    try:
        envelope = _envelope_decoder.decode(text)
        return envelope.execution_id, EventId.parse(envelope.event_id)
    except (msgspec.DecodeError, UnicodeError, RecursionError, MalformedEventIdError) as error:
        raise InvalidMessageError(f"not an event message: {error}") from error


def is_event_of(text: str, execution_id: str, event_id: str) -> bool:
    """Whether the text is the message of this very event; the rest is not decoded."""
    try:
        envelope = _envelope_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return envelope.event_id == event_id and envelope.execution_id == execution_id


def validate(message: Message) -> None:
    """Check what types alone do not say; raises InvalidMessageError."""
    _validate_timestamp(message.timestamp)
    if isinstance(message, Heartbeat):
        if message.event_id is not msgspec.UNSET:
            _validate_event_id(message.event_id)
        return
    if not is_execution_id(message.execution_id):
        raise InvalidMessageError(f"{message.execution_id[:80]!r} is not an execution id")
    _validate_event_id(message.event_id)
    if isinstance(message, ActivityPatch):
        if not message.ops:
            raise InvalidMessageError("a patch has at least one operation")
        for operation in message.ops:
            _validate_operation(operation)
    else:
        _validate_document(message.execution_id, message.execution)


def _validate_timestamp(text: str) -> None:
    try:
        if _TIMESTAMP.fullmatch(text) is None:
            raise ValueError("it is not of the form YYYY-MM-DDThh:mm:ssZ")
        datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidMessageError(f"{text[:80]!r} is not a timestamp: {error}") from error


def _validate_event_id(text: str) -> None:
    try:
        EventId.parse(text)
    except MalformedEventIdError as error:
        raise InvalidMessageError(str(error)) from error


def _validate_operation(operation: dict[str, Any]) -> None:
    if operation.get("op") not in _OPERATIONS:
        raise InvalidMessageError(f"{operation.get('op')!r} is not an operation of RFC 6902")
    path = operation.get("path")
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise InvalidMessageError(f"{path!r} is not a JSON Pointer (RFC 6901)")
    if operation["op"] in ("add", "replace", "test") and "value" not in operation:
        raise InvalidMessageError(f"{operation['op']} {path} lacks its value")
    if operation["op"] in ("move", "copy") and not isinstance(operation.get("from"), str):
        raise InvalidMessageError(f"{operation['op']} {path} lacks its from")


def _validate_document(execution_id: str, document: dict[str, Any]) -> None:
    if document.get("execution_id") != execution_id:
        raise InvalidMessageError("the document is of another execution than the message")
    if not isinstance(document.get("status"), str):
        raise InvalidMessageError("the document lacks its status")
    if not isinstance(document.get("activities"), list):
        raise InvalidMessageError("the document lacks its activities")
