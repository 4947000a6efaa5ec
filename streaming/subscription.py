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

QUEUE_SECONDS: Final = 10.0
"""How long an event may wait for one connection before it counts as slow."""


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
        self._queue: deque[CommittedEvent] = deque()
        self._queued_characters = 0
        self._queued_since = 0.0
        self._taken: list[CommittedEvent] = []
        self._taken_since = 0.0
        self._live = False
        self._interruption: Interruption | None = None
        self._arrival = asyncio.Event()

    @property
    def queued_characters(self) -> int:
        """How much text waits."""
        return self._queued_characters

    def go_live(self) -> None:
        """Queue events from here on."""
        self._live = True

    def offer(self, event: CommittedEvent) -> None:
        """Queue the event if the connection is live; past a bound, drop the queue and tell."""
        if not self._live:
            return
        self._queued_characters += len(event.message)
        too_much = self._queue and self._queued_characters > QUEUE_CHARACTERS
        if too_much or self._waits_too_long():
            self.interrupt(Interruption.OVERFLOW)
            return
        if not self._queue:
            self._queued_since = _now()
        self._queue.append(event)
        self._arrival.set()

    def interrupt(self, why: Interruption) -> None:
        """Drop the queue of a live connection, queue no more, and tell it why."""
        if self._live:
            self._drop_queue()
            self._taken.clear()
            self._live = False
            self._interruption = why
            self._arrival.set()

    async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
        """Wait for events; SILENCE after that many seconds without.

        After OVERFLOW and GAP some are lost, and the connection is no longer live. The list
        that is returned is emptied when that happens before the next call: until then its
        events count as waiting.
        """
        self._taken = []
        if self._waits_too_long():
            self.interrupt(Interruption.OVERFLOW)
        if not self._queue and self._interruption is None:
            self._arrival.clear()
            try:
                async with asyncio.timeout(silence_seconds):
                    await self._arrival.wait()
            except TimeoutError:
                return Interruption.SILENCE
        if self._interruption is not None:
            why, self._interruption = self._interruption, None
            return why
        self._taken, self._taken_since = list(self._queue), self._queued_since
        self._drop_queue()
        return self._taken

    def _waits_too_long(self) -> bool:
        if self._taken:
            return _now() - self._taken_since > QUEUE_SECONDS
        return bool(self._queue) and _now() - self._queued_since > QUEUE_SECONDS

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._queued_characters = 0


def _now() -> float:
    return asyncio.get_running_loop().time()
