"""A connection's one sender: it sends messages, and a heartbeat whenever there is silence."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from executions.document import rfc3339
from executions.identifiers import EventId
from streaming.schemas.visualization import Heartbeat, encode

T = TypeVar("T")


class Heartbeats:
    """Sends by `send`, which waits while the client does not read.

    Made when the connection is accepted: from then on heartbeats are owed.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], interval_seconds: float) -> None:
        self._send = send
        self._interval_seconds = interval_seconds
        self._sent_at = asyncio.get_running_loop().time()

    @property
    def due_in_seconds(self) -> float:
        """How long the silence may still last."""
        passed = asyncio.get_running_loop().time() - self._sent_at
        return max(0.0, self._interval_seconds - passed)

    async def send(self, text: str) -> None:
        """Send a message."""
        await self._send(text)
        self._sent_at = asyncio.get_running_loop().time()

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
