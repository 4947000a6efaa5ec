"""Reading streams, event logs and documents to hold them against each other, and to repair.

Writers may be at work: what differs only because something was committed, published,
trimmed or removed between two readings is read again, and then no longer differs.
"""

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NamedTuple, cast

import redis

from executions.event_log import find_event_id, first_kept, read_events, read_head
from executions.identifiers import EventId, MalformedEventIdError
from executions.snapshots import read_snapshot
from executions.verification import LogFold
from streaming.stream import StreamWriter, stream_key
from streaming.verification import first_difference

EVENTS_PER_PAGE: Final = 500
READINGS: Final = 4
"""Something must differ at each of so many readings to count."""

PAUSE_SECONDS: Final = 0.5
"""Between two of them; a writer's publication takes less."""


class Outcome(Enum):
    """What a comparison found."""

    SAME = auto()
    DIFFERENT = auto()
    NOTHING_TO_COMPARE = auto()
    """No stream, which is no fault; or a log without a snapshot to begin its fold with."""


class Compared(NamedTuple):
    """An outcome, and what differs."""

    outcome: Outcome
    difference: str = ""


_SAME: Final = Compared(Outcome.SAME)
_NOTHING: Final = Compared(Outcome.NOTHING_TO_COMPARE)


class Verifier:
    """Compares one execution at a time. Raises `clients.UNREACHABLE` and DatabaseError."""

    def __init__(self, client: redis.Redis, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._pause = pause

    def compare_log(self, execution_id: str) -> Compared:
        """The event log with the document that its rows show."""
        return self._patiently(_compare_log, execution_id)

    def compare_stream(self, execution_id: str) -> Compared:
        """The stream with the event log; it may begin later than the log."""
        return self._patiently(self._compare_stream, execution_id)

    def rebuild(self, execution_id: str) -> Compared:
        """Delete the stream, fill it from the log, and compare it again."""
        writer = StreamWriter(self._client)
        writer.delete(execution_id)
        try:
            writer.fill(execution_id)
        except redis.ResponseError as error:
            return Compared(Outcome.DIFFERENT, f"Valkey refuses what is in the event log: {error}")
        return self.compare_stream(execution_id)

    def _patiently(self, compare: Callable[[str], Compared], execution_id: str) -> Compared:
        compared = compare(execution_id)
        for _ in range(READINGS - 1):
            if compared.outcome is not Outcome.DIFFERENT:
                break
            self._pause(PAUSE_SECONDS)
            compared = compare(execution_id)
        return compared

    def _compare_stream(self, execution_id: str) -> Compared:
        key = stream_key(execution_id)
        head = read_head(execution_id)
        kind = cast(str, self._client.type(key))
        if kind == "none":
            return _NOTHING
        if head is None:
            return Compared(Outcome.DIFFERENT, "there is a stream, but no such execution")
        if kind != "stream":
            return Compared(Outcome.DIFFERENT, f"under its key is a {kind}")
        facts: Any = self._client.xinfo_stream(key)
        last_id = str(facts["last-generated-id"])
        difference = _end_difference(execution_id, last_id, head.event_id)
        difference = difference or self._entries_difference(execution_id, last_id)
        return Compared(Outcome.DIFFERENT, difference) if difference else _SAME

    def _entries_difference(self, execution_id: str, last_id: str) -> str | None:
        oldest = first_kept(execution_id)
        position = "-" if oldest is None else str(oldest)
        compared: str | None = None
        while True:
            entries: Any = self._client.xrange(
                stream_key(execution_id), position, last_id, EVENTS_PER_PAGE
            )
            if not entries:
                is_whole = compared in (None, last_id)
                return None if is_whole else f"the event {last_id} is missing"
            after = _sequence_of(entries[0][0] if compared is None else compared)
            after -= compared is None
            events = read_events(execution_id, after, len(entries))
            if difference := first_difference(entries, events):
                return difference
            compared = str(entries[-1][0])
            position = f"({compared}"


def _end_difference(execution_id: str, last_id: str, head: EventId) -> str | None:
    """`head` was read before the stream's end, and what was committed is published."""
    try:
        last = EventId.parse(last_id)
    except MalformedEventIdError:
        return f"it ends with {last_id}, which is no event's id"
    if find_event_id(execution_id, last.sequence) != last:
        return f"it ends with {last_id}, which is not in the event log"
    if last.sequence < head.sequence:
        return f"it ends with {last_id}, {head.sequence - last.sequence} events before the head"
    return None


def _sequence_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[2])


def _compare_log(execution_id: str) -> Compared:
    """Events up to a head never change, so document and log need no reading at one instant."""
    snapshot = read_snapshot(execution_id)
    if snapshot is None:
        return _NOTHING
    fold = LogFold(execution_id)
    head = snapshot.event_id
    after = -1
    while after < head.sequence:
        events = read_events(execution_id, after, min(EVENTS_PER_PAGE, head.sequence - after))
        if not events:
            break
        fold.feed(event for event in events if event.event_id.sequence <= head.sequence)
        after = events[-1].event_id.sequence
    fold.conclude(head, snapshot.is_final, snapshot.document)
    if fold.problem is not None:
        return Compared(Outcome.DIFFERENT, fold.problem)
    return _SAME if fold.is_proven else _NOTHING
