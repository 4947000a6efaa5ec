"""A connection's place among the viewers of an execution: its queue while it follows.

Belongs to one event loop. A connection that catches up from a source has no queue: it is
only told how far events have come. Once it has caught up it goes live, and from then on
events are queued for it, up to a bound.
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Final

from executions.events import CommittedEvent

QUEUE_CHARACTERS: Final = 1024 * 1024
"""How much text may wait for one connection before it counts as slow."""


class Interruption(Enum):
    """Why `next_events` returned without events."""

    SILENCE = auto()
    OVERFLOW = auto()


class Subscription:
    """One connection's place among the viewers of an execution."""

    def __init__(self) -> None:
        self._queue: deque[CommittedEvent] = deque()
        self._queued_characters = 0
        self._live = False
        self._overflowed = False
        self._arrival = asyncio.Event()

    def go_live(self) -> None:
        """Queue events from here on."""
        self._live = True

    def offer(self, event: CommittedEvent) -> None:
        """Queue the event if the connection is live; past the bound, drop the queue and tell."""
        if not self._live:
            return
        self._queued_characters += len(event.message)
        if self._queue and self._queued_characters > QUEUE_CHARACTERS:
            self._drop_queue()
            self._live = False
            self._overflowed = True
        else:
            self._queue.append(event)
        self._arrival.set()

    async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
        """Wait for events; SILENCE after that many seconds without, OVERFLOW where some are lost.

        After OVERFLOW the connection is no longer live.
        """
        if not self._queue and not self._overflowed:
            self._arrival.clear()
            try:
                async with asyncio.timeout(silence_seconds):
                    await self._arrival.wait()
            except TimeoutError:
                return Interruption.SILENCE
        if self._overflowed:
            self._overflowed = False
            return Interruption.OVERFLOW
        events = list(self._queue)
        self._drop_queue()
        return events

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._queued_characters = 0
