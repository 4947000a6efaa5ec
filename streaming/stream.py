"""The Valkey Stream of an execution: its key, appending to it, its top, filling it up.

Synchronous, for writers. Valkey's absence shows as one of `valkey.UNREACHABLE`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import redis

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId, MalformedEventIdError

EVENTS_PER_FILL: Final = 500

_SCRIPT_TEXT: Final = Path(__file__).with_name("append.lua").read_text()


def stream_key(execution_id: str) -> str:
    """The key of the execution's stream, which is also its announcements' channel."""
    return f"execution:{execution_id}:events"


class Appended(NamedTuple):
    """A stream's last sequence (-1 for none), and whether events before the given were missing."""

    last_sequence: int
    stopped_at_gap: bool


class StreamWriter:
    """Appends to streams through the append script, which keeps each event once, in order."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = client.register_script(_SCRIPT_TEXT)

    def append(self, execution_id: str, events: Sequence[CommittedEvent]) -> Appended:
        """Append the events that the stream does not hold yet, and announce each."""
        arguments = [text for event in events for text in (str(event.event_id), event.message)]
        last, gap = cast(
            tuple[int, int], self._script(keys=[stream_key(execution_id)], args=arguments)
        )
        return Appended(last, bool(gap))

    def fill(self, execution_id: str) -> None:
        """Append from the event log whatever the stream lacks. Reads the database.

        Ends where the log no longer keeps what would come next.
        """
        last = self.append(execution_id, ()).last_sequence
        while events := read_events(execution_id, last, EVENTS_PER_FILL):
            if events[0].event_id.sequence > last + 1:
                return
            last = self.append(execution_id, events).last_sequence

    def tops(self, execution_ids: Sequence[str]) -> list[EventId | None]:
        """Each stream's last entry's id; None for a stream that is empty, missing or foreign."""
        pipeline = self._client.pipeline(transaction=False)
        for execution_id in execution_ids:
            pipeline.xrevrange(stream_key(execution_id), count=1)
        return [_top(reply) for reply in pipeline.execute(raise_on_error=False)]


def _top(reply: object) -> EventId | None:
    if not isinstance(reply, list) or not reply:
        return None
    try:
        return EventId.parse(reply[0][0])
    except MalformedEventIdError:
        return None
