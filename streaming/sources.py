"""Where events that follow a cursor are read from: the stream, or the event log.

Both answer the same question with the same contract; the stream is the fast one, the
log the one that is always whole.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import redis.asyncio
from channels.db import database_sync_to_async

from executions.event_log import find_event_id, read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId, MalformedEventIdError
from streaming.schemas.visualization import is_event_of
from streaming.stream import stream_key
from streaming.valkey.clients import READING_SECONDS

EVENTS_PER_READ: Final = 200
"""More would be replayed faster, by a tenth with 500; but a viewer that does not read on holds
them all meanwhile, and other viewers wait for as many to be taken apart.
"""


class UnknownCursorError(LookupError):
    """The cursor is, or is no longer, of none of the execution's events."""


class EventSource(Protocol):
    """Reads events in order."""

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        """The events strictly after `cursor` (None: from the first), EVENTS_PER_READ at most.

        What is returned is dense and begins with the cursor's successor; it is empty where
        the source has no such event, or no longer has the cursor's own: another may have
        been in its place.
        """
        ...

    async def close(self) -> None:
        """Give up the connections that reading keeps open."""
        ...


class StreamSource:
    """Reads the Valkey Stream. Raises `clients.UNREACHABLE` when Valkey is away.

    What it reads is what somebody wrote there: `EventLogSource.has` tells whether it is true.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client = client

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        async with asyncio.timeout(READING_SECONDS):
            entries: Any = await self._client.xrange(
                stream_key(execution_id),
                min="-" if cursor is None else str(cursor),
                count=EVENTS_PER_READ + (cursor is not None),
            )
        return _following(cursor, [_event(execution_id, *entry) for entry in entries])

    async def close(self) -> None:
        await self._client.aclose()


class EventLogSource:
    """Reads the event log in the database, in a thread.

    Raises UnknownCursorError where the log has another event in the cursor's place, or
    ends before it.
    """

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        if cursor is None:
            return _following(None, await _read_events(execution_id, -1, EVENTS_PER_READ))
        events = await _read_events(execution_id, cursor.sequence - 1, EVENTS_PER_READ + 1)
        if not events or (events[0].event_id != cursor and events[0].event_id.contradicts(cursor)):
            raise UnknownCursorError(f"execution {execution_id} has no event {cursor}")
        return _following(cursor, events)

    async def has(self, execution_id: str, event_id: EventId) -> bool:
        """Whether the log has the event."""
        return await _find_event_id(execution_id, event_id.sequence) == event_id

    async def close(self) -> None:
        return None


_read_events = database_sync_to_async(read_events, thread_sensitive=False)
_find_event_id = database_sync_to_async(find_event_id, thread_sensitive=False)


def _event(execution_id: str, entry_id: str, fields: dict[str, str]) -> CommittedEvent | None:
    """The event in a stream's entry; None for an entry that none of our publishers wrote."""
    text = fields.get("message")
    if text is None or not is_event_of(text, execution_id, entry_id):
        return None
    try:
        return CommittedEvent(EventId.parse(entry_id), text)
    except MalformedEventIdError:
        return None


def _following(
    cursor: EventId | None, events: Sequence[CommittedEvent | None]
) -> list[CommittedEvent]:
    """The events after the cursor's own, which is to be the first; as long as they are dense."""
    if cursor is not None:
        if not events or events[0] is None or events[0].event_id != cursor:
            return []
        events = events[1:]
    dense: list[CommittedEvent] = []
    sequence = -1 if cursor is None else cursor.sequence
    for event in events:
        sequence += 1
        if event is None or event.event_id.sequence != sequence:
            break
        dense.append(event)
    return dense
