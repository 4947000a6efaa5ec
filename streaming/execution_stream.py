"""One connection's way through an execution's events: reading, waiting and sending.

What to send is decided by the tail; this loop only fetches what it asks for.
"""

import asyncio
from typing import Final

import structlog

from executions.events import CommittedEvent, is_final
from executions.identifiers import EventId
from streaming import metrics
from streaming.close_codes import CloseCode
from streaming.heartbeats import Heartbeats
from streaming.hub import View
from streaming.schemas.visualization import ResyncReason
from streaming.snapshot import SnapshotMessage, snapshot_text
from streaming.sources import UnknownCursorError
from streaming.start import EventsAfter, Start
from streaming.subscription import Interruption
from streaming.tail import Tail, Verdict

SLOW_AGAIN_SECONDS: Final = 30.0
"""A connection that overflows again so soon after its resync is closed."""

log = structlog.get_logger(__name__)


class _Ended(Exception):  # noqa: N818 - an end, not an error
    """The stream is over; carries why."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code)
        self.code = code


class ExecutionStream:
    """Streams one execution to one connection, until it is finished or cannot go on."""

    def __init__(self, view: View, heartbeats: Heartbeats) -> None:
        self._view = view
        self._heartbeats = heartbeats
        self._tail = Tail(None)
        self._target: EventId | None = None
        self._is_to_look = False
        self._slow_until = float("-inf")
        self._takes_resync = False

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
        while self._is_to_look or self._lacks_known_events:
            self._is_to_look = False
            try:
                events = await self._heartbeats.while_waiting(
                    self._view.read_after(self._tail.cursor)
                )
            except UnknownCursorError:
                await self._resync_after_loss()
                continue
            if not events and self._lacks_known_events:
                await self._resync_after_gap()
            for event_id, text in events:
                if self._tail.offer(event_id) is Verdict.SEND:
                    await self._send_event(text)
        if self._tail.cursor is not None:
            self._view.go_live(self._tail.cursor, self._send_now)

    async def _follow(self) -> None:
        """Send events as they come; returns when some have to be caught up with."""
        while True:
            events = await self._view.next_events(self._heartbeats.due_in_seconds)
            if events is Interruption.SILENCE:
                if self._heartbeats.is_due:
                    await self._send_heartbeat()
            elif events is Interruption.OVERFLOW:
                await self._resync_slow_reader()
                return
            elif events is Interruption.GAP:
                self._is_to_look = True
                return
            else:
                for event in events:
                    event_id, text = event
                    match self._tail.offer(event_id):
                        case Verdict.SEND:
                            await self._send_event(text, event)
                        case Verdict.SOMETHING_IS_MISSING:
                            self._target = event_id
                            return
                        case Verdict.CONTRADICTION:
                            self._is_to_look = True
                            return

    @property
    def _lacks_known_events(self) -> bool:
        return self._tail.lacks(self._target) or self._tail.lacks(self._view.newest)

    async def _resync_after_gap(self) -> None:
        """Send a snapshot in place of events that are not kept."""
        sequence = self._tail.sequence
        await self._send_snapshot("trimmed")
        if self._tail.sequence <= sequence:
            # What is said to follow is nowhere: another try at once would find no more.
            raise _Ended(CloseCode.INTERNAL_ERROR)

    async def _resync_after_loss(self) -> None:
        """Send a snapshot in place of events that are no more: it may go back behind them."""
        self._tail, self._target = Tail(None), None
        await self._send_snapshot("unknown")

    async def _resync_slow_reader(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._slow_until:
            raise _Ended(CloseCode.TOO_SLOW)
        await self._send_snapshot("slow")
        self._slow_until = asyncio.get_running_loop().time() + SLOW_AGAIN_SECONDS
        self._takes_resync = True

    def _send_now(self, event: CommittedEvent) -> bool:
        """Send an event while nothing else is being sent, if it is the next and needs no waiting.

        What this leaves, the stream's own task does.
        """
        event_id, text = event
        if (
            self._takes_resync
            or not self._tail.is_next(event_id)
            or is_final(text)
            or not self._heartbeats.send_now(text)
        ):
            return False
        self._tail.cursor = event_id
        metrics.events_sent.inc()
        metrics.sent_live(event)
        return True

    async def _send_event(self, text: str, live: CommittedEvent | None = None) -> None:
        await self._send(text)
        metrics.events_sent.inc()
        if live is not None:
            metrics.sent_live(live)
        if is_final(text):
            raise _Ended(CloseCode.DONE)

    async def _send_snapshot(self, reason: ResyncReason | None) -> None:
        snapshot = await self._heartbeats.while_waiting(self._view.snapshot())
        if snapshot is not None and (
            snapshot.head.sequence <= self._tail.sequence
            or (reason is not None and self._is_ahead_of(snapshot))
        ):
            # The shared read had begun before that was committed which is to be made up for.
            snapshot = await self._heartbeats.while_waiting(self._view.snapshot())
        if snapshot is None:
            raise _Ended(CloseCode.NOT_FOUND)
        if snapshot.event_id.sequence < self._tail.sequence:
            raise _Ended(CloseCode.INTERNAL_ERROR)
        if reason is not None and self._is_ahead_of(snapshot):
            # The database has been restored to an older state since its head was read.
            self._target, reason = None, "unknown"
        text = snapshot.text
        if reason is not None:
            text = snapshot_text(
                self._view.execution_id, snapshot.event_id, snapshot.document, reason
            )
        self._tail = Tail(snapshot.event_id)
        if self._target is None or snapshot.head.sequence > self._target.sequence:
            self._target = snapshot.head
        await self._send(text)
        if reason is not None:
            metrics.resyncs.labels(reason).inc()
            log.info("resynced", execution_id=self._view.execution_id, reason=reason)

    async def _send(self, text: str) -> None:
        await self._heartbeats.send(text)
        if self._takes_resync:
            # Before it was let through, the client had to take the snapshot ahead of it.
            self._slow_until = asyncio.get_running_loop().time() + SLOW_AGAIN_SECONDS
            self._takes_resync = False

    def _is_ahead_of(self, snapshot: SnapshotMessage) -> bool:
        return self._target is not None and self._target.sequence > snapshot.head.sequence

    async def _send_heartbeat(self) -> None:
        caught_up = self._view.hears and not self._tail.lacks(self._view.newest)
        await self._heartbeats.beat(self._tail.cursor if caught_up else None)
