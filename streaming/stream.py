"""The Valkey Stream of an execution: its key, appending to it, its top, filling it up.

Synchronous, for writers. Valkey's absence shows as one of `clients.UNREACHABLE`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import redis
import structlog

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId, MalformedEventIdError

EVENTS_PER_FILL: Final = 500

_SCRIPT_TEXT: Final = Path(__file__).with_name("append.lua").read_text()
_SCRIPT_SHA: Final = hashlib.sha1(_SCRIPT_TEXT.encode(), usedforsecurity=False).hexdigest()

log = structlog.get_logger(__name__)


def stream_key(execution_id: str) -> str:
    """The key of the execution's stream, which is also its announcements' channel."""
    return f"execution:{execution_id}:events"


class Appended(NamedTuple):
    """What an append made of a stream."""

    last_id: str
    """The id of its last entry, trimmed or not, whoever wrote it; empty without a stream."""

    stopped_at_gap: bool
    """Whether events before the given are missing."""

    deleted: bool
    """Whether a stream was deleted because it was no copy of this log."""

    @property
    def last_sequence(self) -> int:
        """The sequence of the last id; -1 without a stream."""
        return int(self.last_id.partition("-")[2]) if self.last_id else -1


class StreamWriter:
    """Appends to streams through the append script, which keeps each event once, in order."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def append(
        self, execution_id: str, events: Sequence[CommittedEvent], previous: EventId | None
    ) -> Appended:
        """Append the events that the stream does not hold yet, and announce each.

        `previous` is the event before them; None where the event log keeps none before
        them, and so only they may begin a stream.
        """
        arguments = ["none" if previous is None else str(previous)]
        for event in events:
            arguments += (str(event.event_id), event.message)
        last_id, gap, deleted = self._run_script(stream_key(execution_id), arguments)
        if deleted:
            log.warning("stream_was_no_copy", execution_id=execution_id)
        return Appended(last_id, bool(gap), bool(deleted))

    def fill(self, execution_id: str) -> None:
        """Append from the event log whatever the stream lacks. Reads the database.

        A stream that is no copy of the log, or ends before what the log keeps, is deleted
        and begun anew; one of an execution that has no events, deleted. Ends, too, where
        the log itself has a gap.
        """
        appended = self.append(execution_id, (), None)
        while True:
            # With the stream's last event, which must be the log's.
            last = appended.last_sequence
            events = read_events(execution_id, last - 1, EVENTS_PER_FILL)
            if not events:
                if last < 0:
                    return
                self.delete(execution_id)
                appended = self.append(execution_id, (), None)
            elif events[0].event_id.sequence > last:
                appended = self.append(execution_id, events, None)
            else:
                before = appended.last_id
                appended = self.append(execution_id, events[1:], events[0].event_id)
                if appended.last_id == before:
                    return

    def delete(self, execution_id: str) -> None:
        """Delete the stream: whoever needs it fills it anew."""
        self._client.unlink(stream_key(execution_id))

    def tops(self, execution_ids: Sequence[str]) -> list[EventId | None]:
        """Each stream's last entry's id; None for a stream that is empty, missing or foreign."""
        pipeline = self._client.pipeline(transaction=False)
        for execution_id in execution_ids:
            pipeline.xrevrange(stream_key(execution_id), count=1)
        return [_top(reply) for reply in pipeline.execute(raise_on_error=False)]

    def _run_script(self, key: str, arguments: Sequence[str]) -> tuple[str, int, int]:
        try:
            reply = self._client.evalsha(_SCRIPT_SHA, 1, key, *arguments)
        except redis.exceptions.NoScriptError:
            # Only the server that is asked is to learn it: another may be away.
            reply = self._client.eval(_SCRIPT_TEXT, 1, key, *arguments)
        return cast(tuple[str, int, int], reply)


def _top(reply: object) -> EventId | None:
    if not isinstance(reply, list) or not reply:
        return None
    try:
        return EventId.parse(reply[0][0])
    except MalformedEventIdError:
        return None
