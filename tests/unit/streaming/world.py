"""One execution, its event log, its stream and its announcements, with all their faults.

The hub, its rooms and the connections' streams are the real ones; what they read and hear
comes from here, and `Client` holds what they send against the protocol's promises.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast
from unittest.mock import patch

import jsonpatch
import redis
from django.db import OperationalError

from executions import events
from executions.document import JsonObject
from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.close_codes import CloseCode
from streaming.execution_stream import ExecutionStream
from streaming.heartbeats import Heartbeats
from streaming.hub import Hub
from streaming.snapshot import SnapshotMessage, snapshot_text
from streaming.sources import EventLogSource, UnknownCursorError
from streaming.start import Wanted, decide_start, first_sequence_needed
from streaming.stream import stream_key
from streaming.valkey.announcements import Announcements
from tests.unit.virtual_time import run

EXECUTION_ID: Final = "the-execution"
FIRST_MILLISECONDS: Final = 1_700_000_000_000
TIMELINE_MILLISECONDS: Final = 10_000
READ_SECONDS: Final = 0.02
EVENTS_PER_READ: Final = 4
HEARTBEAT_SECONDS: Final = 30.0


def event_id(sequence: int, timeline: int = 0) -> EventId:
    # several events share a millisecond; a database is restored later than it was written
    return EventId(FIRST_MILLISECONDS + timeline * TIMELINE_MILLISECONDS + sequence // 3, sequence)


def document(changes: int, status: str = "running", timeline: int = 0) -> JsonObject:
    return {
        "execution_id": EXECUTION_ID,
        "status": status,
        "activities": [],
        "changes": changes,
        "timeline": timeline,
    }


def first_event() -> CommittedEvent:
    message = events.initial_snapshot(EXECUTION_ID, event_id(0), document(0))
    return CommittedEvent(event_id(0), events.encode(message))


def patch_event(sequence: int, status: str | None = None, timeline: int = 0) -> CommittedEvent:
    operations: list[JsonObject] = [{"op": "replace", "path": "/changes", "value": sequence}]
    if status is not None:
        operations.append({"op": "replace", "path": "/status", "value": status})
    if timeline:
        operations.append({"op": "replace", "path": "/timeline", "value": timeline})
    at = event_id(sequence, timeline)
    message = events.activity_patch(EXECUTION_ID, at, operations)
    return CommittedEvent(at, events.encode(message))


def final_event(sequence: int, timeline: int = 0) -> CommittedEvent:
    whole = document(sequence - 1, "completed", timeline)
    at = event_id(sequence, timeline)
    message = events.final_snapshot(EXECUTION_ID, at, whole)
    return CommittedEvent(at, events.encode(message))


class World:
    """What is true of the execution, and which of it can be read and heard."""

    def __init__(self) -> None:
        self.log: list[CommittedEvent] = [first_event()]
        self.timeline = 0
        self.kept_from = 0
        self.stream: list[CommittedEvent] = [*self.log]
        self.database_is_up = True
        self.is_removed = False
        self.valkey_is_up = True
        self.under_way: list[CommittedEvent] = []
        self.snapshots_read = 0
        self.log_reads = 0
        self.refills: list[str] = []
        self.announcements: FakeAnnouncements

    @property
    def is_finished(self) -> bool:
        return events.is_final(self.log[-1].message)

    @property
    def head(self) -> EventId:
        return self.log[-1].event_id

    def commit(self, *, finishing: bool = False) -> list[CommittedEvent]:
        """Add the next event; finishing, the closing patch and the final snapshot."""
        sequence = len(self.log)
        new = [patch_event(sequence, "completed" if finishing else None, self.timeline)]
        if finishing:
            new.append(final_event(sequence + 1, self.timeline))
        self.log += new
        return new

    def publish(self, committed: list[CommittedEvent]) -> None:
        """Append to the stream as the append script does, and announce."""
        for event in committed:
            expected = self.stream[-1].event_id.sequence + 1 if self.stream else 0
            if not self.valkey_is_up:
                continue
            if self.stream and self.stream[-1] not in self.log:
                # of a lost timeline: deleted, and filled from the log
                self.stream = [*self.log]
                for logged in self.log:
                    self.announce(logged.message)
            elif event.event_id.sequence == expected:
                self.stream.append(event)
                self.announce(event.message)

    def restore_database(self, events_kept: int) -> None:
        """Go back to an older state, at least the first event; what is committed then is new."""
        self.log = self.log[: max(1, events_kept)]
        self.kept_from = min(self.kept_from, len(self.log) - 1)
        self.timeline += 1

    def announce(self, text: str) -> None:
        self.announcements.hear(stream_key(EXECUTION_ID), text)

    def refill(self, execution_id: str) -> None:
        self.refills.append(execution_id)

    def lose_valkey(self) -> None:
        self.valkey_is_up = False
        self.announcements.connected = False

    def restore_valkey(self, stream: list[CommittedEvent]) -> None:
        self.valkey_is_up = True
        self.stream = stream
        if not self.announcements.connected:
            self.announcements.connected = True
            self.announcements.on_connected()

    def check_database(self) -> None:
        if not self.database_is_up:
            raise OperationalError("the database is away")

    async def differing_heads(
        self, known: Mapping[str, EventId | None]
    ) -> dict[str, EventId | None]:
        self.check_database()
        heads = {} if self.is_removed else {EXECUTION_ID: self.head}
        await asyncio.sleep(READ_SECONDS)
        return {name: heads.get(name) for name in known if heads.get(name) != known[name]}

    async def read_snapshot(self, execution_id: str) -> SnapshotMessage | None:
        self.snapshots_read += 1
        self.check_database()
        if self.is_removed or execution_id != EXECUTION_ID:
            return None
        head = self.head
        at = self.log[-1 - self.is_finished].event_id
        status = "completed" if self.is_finished else "running"
        timeline = (at.milliseconds - FIRST_MILLISECONDS) // TIMELINE_MILLISECONDS
        whole = document(at.sequence, status, timeline)
        await asyncio.sleep(READ_SECONDS * 3)
        return SnapshotMessage(at, head, whole, snapshot_text(execution_id, at, whole, None))

    def find_event_id(self, sequence: int | None) -> EventId | None:
        if sequence is None or not self.kept_from <= sequence < len(self.log):
            return None
        return self.log[sequence].event_id


class FakeStream:
    """The stream as an event source."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        if not self._world.valkey_is_up:
            raise redis.ConnectionError("Valkey is away")
        found = _following(self._world.stream, cursor)
        await asyncio.sleep(READ_SECONDS)
        return found

    async def close(self) -> None:
        return None


class FakeLog(EventLogSource):
    """The event log as an event source."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        self._world.log_reads += 1
        self._world.check_database()
        log = [] if self._world.is_removed else self._world.log
        is_known = cursor is None or (
            cursor.sequence < len(log) and log[cursor.sequence].event_id == cursor
        )
        found = _following(log[self._world.kept_from :], cursor)
        await asyncio.sleep(READ_SECONDS * 2)
        if not is_known:
            raise UnknownCursorError(f"no event {cursor}")
        return found

    async def has(self, execution_id: str, event_id: EventId) -> bool:
        self._world.check_database()
        found = self._world.find_event_id(event_id.sequence)
        await asyncio.sleep(READ_SECONDS)
        return found == event_id

    async def close(self) -> None:
        return None


def _following(held: list[CommittedEvent], cursor: EventId | None) -> list[CommittedEvent]:
    if cursor is not None and cursor not in (event.event_id for event in held):
        return []
    sequence = -1 if cursor is None else cursor.sequence
    found = []
    for event in held:
        if event.event_id.sequence == sequence + 1:
            found.append(event)
            sequence += 1
    return found[:EVENTS_PER_READ]


class FakeAnnouncements:
    """Announcements that are heard when a test says so."""

    def __init__(self, on_text: Callable[[str, str], None], on_connected: Callable[[], None]):
        self.connected = True
        self.on_connected = on_connected
        self.followed: set[str] = set()
        self.closed = False
        self._on_text = on_text

    def hear(self, channel: str, text: str) -> None:
        if self.connected and channel in self.followed:
            self._on_text(channel, text)

    async def follow(self, channel: str, deadline_seconds: float) -> None:
        await asyncio.sleep(READ_SECONDS)
        self.followed.add(channel)

    async def unfollow(self, channel: str) -> None:
        self.followed.discard(channel)

    async def close(self) -> None:
        self.closed = True


@contextmanager
def hub_of(world: World) -> Iterator[Hub]:
    """A hub that knows nothing but this world; within a running loop."""

    def connect(
        on_text: Callable[[str, str], None], on_connected: Callable[[], None]
    ) -> Announcements:
        world.announcements = FakeAnnouncements(on_text, on_connected)
        return cast(Announcements, world.announcements)

    with (
        patch("streaming.hub.read_snapshot_message", world.read_snapshot),
        patch("streaming.hub._differing_heads", world.differing_heads),
    ):
        yield Hub(FakeStream(world), FakeLog(world), connect, world.refill)


def in_a_world(scenario: Callable[[World, Hub], Awaitable[None]]) -> None:
    """Run the scenario in virtual time, in a world and with a hub of its own."""

    async def lived() -> None:
        world = World()
        with hub_of(world) as hub:
            try:
                await scenario(world, hub)
            finally:
                await hub.close()

    run(lived())


class BrokenPromiseError(AssertionError):
    """What was sent breaks a promise of the protocol."""


class Client:
    """A viewer that believes nothing: it checks each message as it arrives.

    A message takes `send_seconds` to be sent; without, each `has_room_each`-th that is offered
    to be sent at once is, none where that is 0.
    """

    def __init__(self, send_seconds: float = 0.0, has_room_each: int = 1) -> None:
        self.send_seconds = send_seconds
        self.has_room_each = has_room_each
        self._asked_for_room = 0
        self._is_taking = False
        self.cursor: EventId | None = None
        self.document: JsonObject | None = None
        self.finished = False
        self.applied: list[int] = []
        self.resyncs: list[str] = []
        self.heartbeats: list[JsonObject] = []
        self.codes: list[CloseCode] = []
        self._messages_of_this_connection = 0
        self._last_message_at = 0.0

    async def watch(self, world: World, hub: Hub, wanted: Wanted | EventId) -> None:
        """Connect, and come back with the cursor, until the final snapshot was seen."""
        while not self.finished:
            try:
                self.codes.append(await self._connect(world, hub, self.cursor or wanted))
            except OperationalError:
                self.codes.append(CloseCode.INTERNAL_ERROR)
            await asyncio.sleep(1)

    async def _connect(self, world: World, hub: Hub, wanted: Wanted | EventId) -> CloseCode:
        self._messages_of_this_connection = 0
        self._last_message_at = asyncio.get_running_loop().time()
        async with hub.view(EXECUTION_ID) as view:
            world.check_database()
            head = world.head
            kept = world.find_event_id(first_sequence_needed(wanted))
            if world.is_finished and head == wanted:
                return CloseCode.DONE
            await asyncio.sleep(READ_SECONDS)
            stream = ExecutionStream(view, Heartbeats(self.take, HEARTBEAT_SECONDS, self.take_now))
            return await stream.run(decide_start(wanted, head, kept), head)

    async def take(self, text: str) -> None:
        self._is_taking = True
        try:
            self._look_at(text)
            await asyncio.sleep(self.send_seconds)
            self._last_message_at = asyncio.get_running_loop().time()
        finally:
            self._is_taking = False

    def take_now(self, text: str) -> bool:
        if self._is_taking:
            raise BrokenPromiseError(f"sent while another message is being sent: {text}")
        self._asked_for_room += 1
        if self.send_seconds or not self.has_room_each:
            return False
        if self._asked_for_room % self.has_room_each:
            return False
        self._look_at(text)
        self._last_message_at = asyncio.get_running_loop().time()
        return True

    def _look_at(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        message: JsonObject = json.loads(text)
        if self.finished:
            raise BrokenPromiseError(f"after the final snapshot: {text}")
        if message["type"] == "heartbeat":
            self._check_heartbeat(message, now - self._last_message_at)
        else:
            self._apply(message)
            self._messages_of_this_connection += 1

    def _check_heartbeat(self, message: JsonObject, silent_seconds: float) -> None:
        self.heartbeats.append(message)
        if silent_seconds < HEARTBEAT_SECONDS - 1e-6:
            raise BrokenPromiseError(f"a heartbeat after {silent_seconds} s")
        if message.get("event_id", str(self.cursor)) != str(self.cursor):
            raise BrokenPromiseError(f"the heartbeat says {message}, the cursor is {self.cursor}")

    def _apply(self, message: JsonObject) -> None:
        at = EventId.parse(message["event_id"])
        if message["type"] == "initial_snapshot":
            self._take_snapshot(at, message)
            return
        expected = None if self.cursor is None else self.cursor.sequence + 1
        if self.document is None or at.sequence != expected or at < (self.cursor or at):
            raise BrokenPromiseError(f"{message} after {self.cursor}")
        self.applied.append(at.sequence)
        self.cursor = at
        if message["type"] == "activity_patch":
            self.document = jsonpatch.apply_patch(self.document, message["ops"])
        else:
            self.finished = True
            if message["execution"] != self.document:
                raise BrokenPromiseError(f"{message} but the fold is {self.document}")
        if self.document is None or self.document["changes"] != at.sequence - self.finished:
            raise BrokenPromiseError(f"at {at} the fold is {self.document}")

    def _take_snapshot(self, at: EventId, message: JsonObject) -> None:
        if "resync" in message:
            self.resyncs.append(message["resync"]["reason"])
            is_known = message["resync"]["reason"] != "unknown"
            if is_known and self.cursor is not None and at.sequence < self.cursor.sequence:
                raise BrokenPromiseError(f"a resync goes back from {self.cursor} to {at}")
        elif self._messages_of_this_connection or self.cursor is not None:
            raise BrokenPromiseError(f"a snapshot that does not say why: {message}")
        whole: dict[str, Any] = message["execution"]
        if whole["changes"] != at.sequence:
            raise BrokenPromiseError(f"the snapshot is not true at {at}: {whole}")
        self.cursor, self.document = at, whole
