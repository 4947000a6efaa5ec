"""Where events that follow a cursor are read from: the stream, or the event log.

Both answer the same question with the same contract; the stream is the fast one, the
log the one that is always whole.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import redis.asyncio
from channels.db import database_sync_to_async

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId, MalformedEventIdError
from streaming.stream import stream_key
from streaming.valkey import READING_SECONDS

EVENTS_PER_READ: Final = 500


class EventSource(Protocol):
    """Reads events in order."""

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        """The events strictly after `cursor` (None: from the first), EVENTS_PER_READ at most.

        What is returned is dense and begins with the cursor's successor; it is empty where
        the source has no such event, or cannot continue the cursor without a gap.
        """
        ...

    async def close(self) -> None:
        """Give up the connections that reading keeps open."""
        ...


class StreamSource:
    """Reads the Valkey Stream. Raises `valkey.UNREACHABLE` when Valkey is away."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client = client

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        async with asyncio.timeout(READING_SECONDS):
            entries: Any = await self._client.xrange(
                stream_key(execution_id),
                min="-" if cursor is None else f"({cursor}",
                count=EVENTS_PER_READ,
            )
        return _dense(cursor, [_event(entry_id, fields) for entry_id, fields in entries])

    async def close(self) -> None:
        await self._client.aclose()


class EventLogSource:
    """Reads the event log in the database, in a thread."""

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        after = -1 if cursor is None else cursor.sequence
        events = await _read_events(execution_id, after, EVENTS_PER_READ)
        return _dense(cursor, events)

    async def close(self) -> None:
        return None


_read_events = database_sync_to_async(read_events, thread_sensitive=False)


def _event(entry_id: str, fields: dict[str, str]) -> CommittedEvent | None:
    """The event in a stream's entry; None for an entry that none of our publishers wrote."""
    try:
        return CommittedEvent(EventId.parse(entry_id), fields["message"])
    except (MalformedEventIdError, KeyError):
        return None


def _dense(cursor: EventId | None, events: Sequence[CommittedEvent | None]) -> list[CommittedEvent]:
    """The events as long as each follows its predecessor."""
    dense: list[CommittedEvent] = []
    sequence = -1 if cursor is None else cursor.sequence
    for event in events:
        sequence += 1
        if event is None or event.event_id.sequence != sequence:
            break
        dense.append(event)
    return dense
