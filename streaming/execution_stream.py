"""One connection's way through an execution's events: reading, waiting and sending.

What to send is decided by the tail; this loop only fetches what it asks for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from executions.document import rfc3339
from executions.events import is_final
from executions.identifiers import EventId
from streaming.close_codes import CloseCode
from streaming.hub import View
from streaming.schemas.visualization import Heartbeat, ResyncReason, encode
from streaming.snapshot import snapshot_text
from streaming.start import EventsAfter, Start
from streaming.subscription import Interruption
from streaming.tail import Tail, Verdict

SLOW_AGAIN_SECONDS: Final = 30.0
"""A connection that overflows again so soon after its resync is closed."""


class _Ended(Exception):  # noqa: N818 - an end, not an error
    """The stream is over; carries why."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code)
        self.code = code


class ExecutionStream:
    """Streams one execution to one connection, until it is finished or cannot go on.

    `send` takes a message's text, and waits while the client does not read.
    """

    def __init__(
        self, view: View, send: Callable[[str], Awaitable[None]], heartbeat_seconds: float
    ) -> None:
        self._view = view
        self._send = send
        self._heartbeat_seconds = heartbeat_seconds
        self._tail = Tail(None)
        self._target: EventId | None = None
        self._slow_until = float("-inf")

    async def run(self, start: Start, head: EventId) -> CloseCode:
        """Stream from `start`, where the execution's newest event is `head`; returns why it ended.

        Raises DatabaseError where the database is needed and away.
        """
        self._target = head
        try:
            if isinstance(start, EventsAfter):
                self._tail = Tail(start.cursor)
            else:
                await self._send_snapshot(start.resync)
            while True:
                await self._catch_up()
                await self._follow()
        except _Ended as end:
            return end.code

    async def _catch_up(self) -> None:
        """Send what is known of and was not sent, then go live."""
        while self._tail.lacks(self._target) or self._tail.lacks(self._view.newest):
            events = await self._view.read_after(self._tail.cursor)
            if not events:
                await self._resync_after_gap()
            for event_id, text in events:
                if self._tail.offer(event_id) is Verdict.SEND:
                    await self._send_event(text)
        if self._tail.cursor is not None:
            self._view.go_live(self._tail.cursor)

    async def _follow(self) -> None:
        """Send events as they come; returns when some have to be caught up with."""
        while True:
            events = await self._view.next_events(self._heartbeat_seconds)
            if events is Interruption.SILENCE:
                await self._send_heartbeat()
            elif events is Interruption.OVERFLOW:
                await self._resync_slow_reader()
                return
            elif events is Interruption.GAP:
                return
            else:
                for event_id, text in events:
                    match self._tail.offer(event_id):
                        case Verdict.SEND:
                            await self._send_event(text)
                        case Verdict.SOMETHING_IS_MISSING:
                            self._target = event_id
                            return

    async def _resync_after_gap(self) -> None:
        """Send a snapshot in place of events that are not kept."""
        sequence = self._tail.sequence
        await self._send_snapshot("trimmed")
        if self._tail.sequence <= sequence:
            # What is said to follow is nowhere: another try at once would find no more.
            raise _Ended(CloseCode.INTERNAL_ERROR)

    async def _resync_slow_reader(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._slow_until:
            raise _Ended(CloseCode.TOO_SLOW)
        await self._send_snapshot("slow")
        self._slow_until = asyncio.get_running_loop().time() + SLOW_AGAIN_SECONDS

    async def _send_event(self, text: str) -> None:
        await self._send(text)
        if is_final(text):
            raise _Ended(CloseCode.DONE)

    async def _send_snapshot(self, reason: ResyncReason | None) -> None:
        snapshot = await self._view.snapshot()
        if snapshot is not None and snapshot.head.sequence <= self._tail.sequence:
            # The shared read had begun before that was committed which is to be made up for.
            snapshot = await self._view.snapshot()
        if snapshot is None:
            raise _Ended(CloseCode.NOT_FOUND)
        if snapshot.event_id.sequence < self._tail.sequence:
            raise _Ended(CloseCode.INTERNAL_ERROR)
        text = snapshot.text
        if reason is not None:
            text = snapshot_text(
                self._view.execution_id, snapshot.event_id, snapshot.document, reason
            )
        self._tail = Tail(snapshot.event_id)
        if self._target is None or snapshot.head.sequence > self._target.sequence:
            self._target = snapshot.head
        await self._send(text)

    async def _send_heartbeat(self) -> None:
        cursor = self._tail.cursor
        caught_up = self._view.hears and not self._tail.lacks(self._view.newest)
        await self._send(
            encode(
                Heartbeat(
                    timestamp=rfc3339(datetime.now(UTC)) or "",
                    event_id=str(cursor) if caught_up and cursor else msgspec.UNSET,
                )
            )
        )
