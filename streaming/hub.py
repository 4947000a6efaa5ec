"""The one object of a server process that follows Valkey for all of its viewers.

Announcements come in on one connection, of a cluster on one to each server. What they leave
out (a gap, a lost connection, a writer that died before publishing) is found by comparing
with the heads in the database, one query per process every CHECK_SECONDS, and read from the
stream or the event log. Belongs to one event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from channels.db import database_sync_to_async
from django.db import DatabaseError

from executions.batches import batches
from executions.event_log import differing_heads
from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import metrics
from streaming.activity_update_publisher import publisher
from streaming.room import Room
from streaming.schemas.visualization import InvalidMessageError, read_envelope
from streaming.snapshot import SnapshotMessage, read_snapshot_message
from streaming.sources import EventLogSource, EventSource, StreamSource, UnknownCursorError
from streaming.stream import stream_key
from streaming.subscription import Interruption, Subscription
from streaming.valkey.announcements import Hearing, OnConnected, OnText
from streaming.valkey.clients import UNREACHABLE
from streaming.valkey.hearing import open_valkey

CHECK_SECONDS: Final = 2.0
"""How often the heads of all watched executions are compared with what was delivered."""

ROOMS_PER_LOOK: Final = 2_000
"""How many heads are compared in one query."""

ROOMS_AT_ONCE: Final = 100
"""How many rooms are gone through before others have their turn on the event loop."""

FOLLOW_SECONDS: Final = 1.0
"""How long a viewer waits for its subscription to be confirmed before it goes on without."""

log = structlog.get_logger(__name__)

_differing_heads = database_sync_to_async(differing_heads, thread_sensitive=False)


WhileWaiting = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]


async def _only_wait(waiting: Coroutine[Any, Any, None]) -> None:
    await waiting


async def _end_of(task: "asyncio.Task[None]") -> None:
    await asyncio.shield(task)


class View:
    """One connection's access to an execution's events, for as long as it is open."""

    def __init__(self, hub: "Hub", room: Room, subscription: Subscription) -> None:
        self._hub = hub
        self._room = room
        self._beginning = room.beginnings
        self._subscription = subscription
        self.execution_id = room.execution_id

    @property
    def newest(self) -> EventId | None:
        """The newest event this process knows of; None before it knows of any."""
        return self._room.newest_known

    @property
    def hears(self) -> bool:
        """Whether silence means that nothing happened."""
        return self._hub.hears

    async def snapshot(self) -> SnapshotMessage | None:
        """The document as it is; viewers that come at once share one read."""
        return await self._room.shared_snapshot()

    async def read_after(self, cursor: EventId | None) -> list[CommittedEvent]:
        """Events that follow the cursor without a gap; empty where they are not kept.

        Raises UnknownCursorError where the execution's log has no such event, or no more.
        """
        self._beginning = self._room.beginnings
        try:
            return await self._hub.read_after(self.execution_id, cursor)
        except UnknownCursorError:
            await self._hub.reconsider(self._room)
            self._beginning = self._room.beginnings
            raise

    def go_live(self, cursor: EventId, send_now: Callable[[CommittedEvent], bool]) -> None:
        """Take what comes after `cursor`, up to which the connection has caught up.

        As Subscription.go_live.
        """
        self._subscription.go_live(send_now)
        if self._beginning == self._room.beginnings:
            self._room.start_at(cursor)
            if self._room.is_doubted:
                # Before its first event, which would have to wait for it.
                self._hub.repair(self._room)
        else:
            # Perhaps what it was sent last is no more: it is to look, as the others are.
            self._subscription.interrupt(Interruption.GAP)

    async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
        """As Subscription.next_events."""
        return await self._subscription.next_events(silence_seconds)


class Hub:
    """Follows every execution that has viewers in this process, and delivers its events."""

    def __init__(
        self,
        stream: EventSource,
        event_log: EventLogSource,
        connect: Callable[[OnText, OnConnected], Hearing],
        refill: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._event_log = event_log
        self._refill = refill
        self._rooms: dict[str, Room] = {}
        self._check_now = asyncio.Event()
        self._heads_are_known = False
        self._has_heard = asyncio.Event()
        self._announcements = connect(self._take_announcement, self._take_connection)
        self._checking = asyncio.create_task(self._check_regularly())

    @property
    def hears(self) -> bool:
        """Whether this process would learn of an event, by announcement or by its checks."""
        return self._announcements.connected or self._heads_are_known

    @property
    def hears_valkey(self) -> bool:
        """Whether announcements are heard at present, as far as can be known."""
        return self._announcements.connected

    async def until_it_has_heard(self, deadline_seconds: float) -> None:
        """Wait for the first connection to Valkey, or the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                await self._has_heard.wait()

    @property
    def watched_executions(self) -> int:
        """How many executions have viewers here."""
        return len(self._rooms)

    @asynccontextmanager
    async def view(
        self, execution_id: str, while_waiting: WhileWaiting = _only_wait
    ) -> AsyncIterator[View]:
        """Join the viewers of an execution; inside, no event escapes the returned view.

        `while_waiting` awaits what this has to wait for, and may do something meanwhile.
        """
        subscription = Subscription()
        channel = stream_key(execution_id)
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = Room(execution_id, read_snapshot_message)
            room.followed = asyncio.create_task(self._announcements.follow(channel, FOLLOW_SECONDS))
        room.subscriptions.add(subscription)
        try:
            await while_waiting(_end_of(room.followed))
            yield View(self, room, subscription)
        finally:
            room.subscriptions.discard(subscription)
            subscription.end()
            if not room.subscriptions:
                del self._rooms[channel]
                room.close()
                await self._announcements.unfollow(channel)

    async def read_after(self, execution_id: str, cursor: EventId | None) -> list[CommittedEvent]:
        """Events after the cursor, from the stream, else from the event log.

        A stream is a copy, perhaps of something else than this log: it counts where the log
        has the last event read from it. One that lacks what the log has, or does not count,
        is filled up. Empty where neither continues the cursor. Raises UnknownCursorError
        where the log has no such event, DatabaseError where the database is away.
        """
        events: list[CommittedEvent] = []
        # Of a Valkey that is away, the publisher remembers what to fill up when it is back.
        lacks_what_the_log_has = self._has_heard.is_set() and not self._announcements.connected
        if self._announcements.connected:
            try:
                events = await self._stream.read_after(execution_id, cursor)
                lacks_what_the_log_has = True
            except UNREACHABLE as error:
                log.warning("stream_unreadable", execution_id=execution_id, error=str(error))
        if events and await self._event_log.has(execution_id, events[-1].event_id):
            return events
        is_false = bool(events)
        try:
            events = await self._event_log.read_after(execution_id, cursor)
        except UnknownCursorError:
            self._refill(execution_id)
            raise
        if is_false or (events and lacks_what_the_log_has):
            self._refill(execution_id)
        return events

    def repair(self, room: Room) -> "asyncio.Task[None]":
        """Read what the room must read, in a task that perhaps runs already."""
        if room.repair is None:
            room.repair = asyncio.create_task(self._read_missing(room))
        return room.repair

    async def reconsider(self, room: Room) -> None:
        """Find out whether the log has what the room delivered last."""
        room.doubt()
        if room.must_read:
            await asyncio.wait([self.repair(room)])

    async def close(self) -> None:
        """End the hub's connections and tasks."""
        self._checking.cancel()
        ending = [task for room in self._rooms.values() for task in room.close()]
        await asyncio.gather(self._checking, *ending, return_exceptions=True)
        await self._announcements.close()
        await self._stream.close()
        await self._event_log.close()

    def _take_announcement(self, channel: str, text: str) -> None:
        room = self._rooms.get(channel)
        if room is None:
            return
        try:
            execution_id, event_id = read_envelope(text)
            if execution_id != room.execution_id:
                raise InvalidMessageError("the event is another execution's")
        except InvalidMessageError as error:
            log.warning("announcement_ignored", channel=channel, error=str(error))
            return
        if not room.take(metrics.heard(event_id, text)):
            self.repair(room)

    def _take_connection(self) -> None:
        """What was not heard may have been another log than the one that was followed."""
        if self._announcements.connected:  # to all servers of a cluster
            self._has_heard.set()
        for room in self._rooms.values():
            room.doubt()
        self._check_now.set()

    async def _read_missing(self, room: Room) -> None:
        try:
            while room.must_read:
                room.trust()
                events = await self.read_after(room.execution_id, room.cursor)
                if not events and room.lacks_known_events:
                    room.skip_to_newest_known()
                metrics.gaps_filled.inc(len(events))
                for event in events:
                    room.take(event)
                    # Who reads fast empties its queue meanwhile, however much was missing.
                    await asyncio.sleep(0)
        except UnknownCursorError as error:
            log.warning("viewers_resynced", execution_id=room.execution_id, reason=str(error))
            room.begin_anew()
        except DatabaseError as error:
            room.doubt()
            log.warning("repair_failed", execution_id=room.execution_id, error=str(error))
        finally:
            room.repair = None

    async def _check_regularly(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._check_now.wait()
            except TimeoutError:
                pass
            reconnected = self._check_now.is_set()
            self._check_now.clear()
            metrics.queued_characters.set(await self._queued_characters())
            if self._rooms:
                try:
                    await self._check_heads(at_once=reconnected)
                    self._heads_are_known = True
                except Exception:  # one failed check must not be the last
                    self._heads_are_known = False
                    log.exception("heads_unknown")

    async def _queued_characters(self) -> int:
        queued = 0
        async for rooms in _in_turns(list(self._rooms.values())):
            for room in rooms:
                queued += sum(each.queued_characters for each in room.subscriptions)
        return queued

    async def _check_heads(self, *, at_once: bool) -> None:
        for looked_at in batches(list(self._rooms.values()), ROOMS_PER_LOOK):
            delivered: dict[str, EventId | None] = {}
            async for rooms in _in_turns(looked_at):
                delivered.update((room.execution_id, room.cursor) for room in rooms)
            differing = await _differing_heads(delivered)
            at_once = at_once or not self._announcements.connected
            async for rooms in _in_turns(looked_at):
                for room in rooms:
                    if room.execution_id in differing or room.must_read:
                        before = delivered[room.execution_id]
                        head = differing.get(room.execution_id, before)
                        if room.subscriptions and room.differs(head, before, at_once=at_once):
                            self.repair(room)


async def _in_turns(rooms: Sequence[Room]) -> AsyncIterator[Sequence[Room]]:
    """The rooms, ROOMS_AT_ONCE, with others' turns on the event loop in between."""
    for part in batches(rooms, ROOMS_AT_ONCE):
        yield part
        await asyncio.sleep(0)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop, made at its first use."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        reader, hear = open_valkey()
        made = _hubs[loop] = Hub(
            StreamSource(reader),
            EventLogSource(),
            hear,
            lambda execution_id: publisher().fill(execution_id),
        )
        metrics.watch_hub(lambda: made.watched_executions, lambda: made.hears_valkey)
    return _hubs[loop]
