"""A connection's place among the viewers of an execution: its queue while it follows.

Belongs to one event loop. A connection that catches up from a source has no queue: it is
only told how far events have come. Once it has caught up it goes live: from then on events
are sent to it as they come while it takes them at once, else queued, up to a bound.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from executions.events import CommittedEvent

QUEUE_CHARACTERS: Final = 1024 * 1024
"""How much text may wait for one connection before it counts as slow."""

QUEUE_SECONDS: Final = 10.0
"""How long an event may wait for one connection before it counts as slow."""


def _never(event: CommittedEvent) -> bool:
    return False


class Interruption(Enum):
    """Why `next_events` returned without events."""

    SILENCE = auto()
    OVERFLOW = auto()
    """More came than may wait, or waited longer than it may."""
    GAP = auto()
    """Events that come next could not be read: whoever is here is to look for itself."""


class Subscription:
    """One connection's place among the viewers of an execution."""

    def __init__(self) -> None:
        self._queue: list[CommittedEvent] = []
        self._queued_characters = 0
        self._queued_since = 0.0
        self._taken: list[CommittedEvent] = []
        self._taken_since = 0.0
        self._live = False
        self._interruption: Interruption | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._send_now: Callable[[CommittedEvent], bool]

    @property
    def queued_characters(self) -> int:
        """How much text waits."""
        return self._queued_characters

    def go_live(self, send_now: Callable[[CommittedEvent], bool] = _never) -> None:
        """Take events from here on.

        Whenever none is waiting, or being sent, an event is given to `send_now`; it is queued
        where that returns False.
        """
        self._live = True
        self._send_now = send_now

    def end(self) -> None:
        """Take nothing any more."""
        self._live = False
        self._send_now = _never

    def offer(self, event: CommittedEvent) -> None:
        """Send or queue the event if the connection is live; past a bound, drop all and tell."""
        if not self._live or (self._waits and self._send_now(event)):
            return
        self._queued_characters += len(event.message)
        too_much = self._queue and self._queued_characters > QUEUE_CHARACTERS
        if too_much or self._waits_too_long():
            self.interrupt(Interruption.OVERFLOW)
            return
        if not self._queue:
            self._queued_since = _now()
        self._queue.append(event)
        self._end_waiting()

    def interrupt(self, why: Interruption) -> None:
        """Drop the queue of a live connection, queue no more, and tell it why."""
        if self._live:
            self._drop_queue()
            self._taken.clear()
            self._live = False
            self._interruption = why
            self._end_waiting()

    async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
        """Wait for events that could not be sent at once; SILENCE after that many seconds.

        After OVERFLOW and GAP some are lost, and the connection is no longer live. The list
        that is returned is emptied when that happens before the next call: until then its
        events count as waiting.
        """
        self._taken = []
        if self._waits_too_long():
            self.interrupt(Interruption.OVERFLOW)
        if not self._queue and self._interruption is None:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(silence_seconds):
                    await self._arrival
            except TimeoutError:
                return Interruption.SILENCE
            finally:
                self._arrival = None
        if self._interruption is not None:
            why, self._interruption = self._interruption, None
            return why
        self._taken, self._taken_since = self._queue, self._queued_since
        self._drop_queue()
        return self._taken

    @property
    def _waits(self) -> bool:
        """Whether the connection waits, and nothing has come for it that could not be sent."""
        return self._arrival is not None and not self._arrival.done()

    def _end_waiting(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _waits_too_long(self) -> bool:
        if self._taken:
            return _now() - self._taken_since > QUEUE_SECONDS
        return bool(self._queue) and _now() - self._queued_since > QUEUE_SECONDS

    def _drop_queue(self) -> None:
        self._queue = []
        self._queued_characters = 0


def _now() -> float:
    return asyncio.get_running_loop().time()
