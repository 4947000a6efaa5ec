"""A connection's one sender: it sends messages, and a heartbeat whenever there is silence."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from executions.document import rfc3339
from executions.identifiers import EventId
from streaming.schemas.visualization import Heartbeat, encode

_CLOCK_SECONDS: Final = 1e-6
"""As near as timers and sums of floating-point seconds come to a moment."""

T = TypeVar("T")


class Heartbeats:
    """Sends by `send`, which waits while the client does not read, or `send_now`, which does not.

    Made when the connection is accepted: from then on heartbeats are owed.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        interval_seconds: float,
        send_now: Callable[[str], bool],
    ) -> None:
        self._send = send
        self._send_now = send_now
        self._interval_seconds = interval_seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()

    @property
    def due_in_seconds(self) -> float:
        """How long the silence may still last."""
        passed = self._loop.time() - self._sent_at
        return max(0.0, self._interval_seconds - passed)

    @property
    def is_due(self) -> bool:
        """Whether the silence has lasted long enough for a heartbeat."""
        return self.due_in_seconds < _CLOCK_SECONDS

    async def send(self, text: str) -> None:
        """Send a message."""
        if not self.send_now(text):
            await self._send(text)
            self._sent_at = self._loop.time()

    def send_now(self, text: str) -> bool:
        """Send a message if that needs no waiting; whether it was sent."""
        if not self._send_now(text):
            return False
        self._sent_at = self._loop.time()
        return True

    async def beat(self, caught_up_to: EventId | None) -> None:
        """Send a heartbeat, with the event that the client has caught up to where that is known."""
        await self.send(
            encode(
                Heartbeat(
                    timestamp=rfc3339(datetime.now(UTC)) or "",
                    event_id=str(caught_up_to) if caught_up_to else msgspec.UNSET,
                )
            )
        )

    async def while_waiting(self, reading: Coroutine[Any, Any, T]) -> T:
        """The result of `reading`, with heartbeats for as long as it takes.

        They name no event: what is read may be newer.
        """
        task = asyncio.create_task(reading)
        try:
            while not (await asyncio.wait([task], timeout=self.due_in_seconds))[0]:
                await self.beat(None)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
