"""The pace of a process' calls to Temporal: a limited rate, and pauses that all of them keep.

For the calls that are answered at once. Long polls take no turns, but pauses are for them too.
"""

import asyncio
import random
from collections.abc import Iterator
from typing import Final

import structlog

from executions.temporal.following.backoff import backoff_seconds
from executions.temporal.metrics import temporal_limits

log = structlog.get_logger(__name__)

BURST_CALLS: Final = 5
"""Calls that an idle pace lets through at once."""

PAUSE_SECONDS: Final = (0.5, 30.0)
"""The first pause and the longest, each shortened by up to half."""


class CallPace:
    """One for all calls of a process' event loop: at most `calls_per_second`, in order.

    Once the server has said that its limit is reached, nobody calls for a while; for
    twice as long if it says so again before it has answered a call.
    """

    def __init__(self, calls_per_second: float) -> None:
        self._seconds_each = 1 / calls_per_second
        self._burst_seconds = (BURST_CALLS - 1) * self._seconds_each
        self._queue = asyncio.Lock()
        self._due = 0.0
        self._resumed_at = 0.0
        self._pause_seconds = 0.0
        self._pauses = self._first_pauses()

    async def turn(self) -> None:
        """Wait for one's turn to make a call."""
        loop = asyncio.get_running_loop()
        async with self._queue:
            while (wait := self._due - self._burst_seconds - loop.time()) > 0:  # noqa: ASYNC110 - the time may move
                await asyncio.sleep(wait)
            self._due = max(self._due, loop.time()) + self._seconds_each

    def exhausted(self) -> None:
        """A call was refused as RESOURCE_EXHAUSTED: all pause, unless they do already."""
        now = asyncio.get_running_loop().time()
        if now < self._resumed_at:
            return
        self._pause_seconds = next(self._pauses)
        self._resumed_at = now + self._pause_seconds
        # Without the burst: what was held back does not come all at once.
        self._due = max(self._due, self._resumed_at + self._burst_seconds)
        log.warning("temporal_limit_reached", pause_seconds=round(self._pause_seconds, 3))
        temporal_limits.inc()

    def answered(self) -> None:
        """A call was answered: the next pause is a short one again."""
        # During a pause, answers are to calls that were made before it.
        if asyncio.get_running_loop().time() >= self._resumed_at:
            self._pauses = self._first_pauses()

    async def resumed(self) -> None:
        """Wait until there is no pause, and then, where there was one, for a random while.

        For long polls that were refused: they come back spread over as long as the pause.
        """
        loop = asyncio.get_running_loop()
        while (wait := self._resumed_at - loop.time()) > 0:  # noqa: ASYNC110 - the time may move
            await asyncio.sleep(wait + random.uniform(0.0, self._pause_seconds))

    @staticmethod
    def _first_pauses() -> Iterator[float]:
        return backoff_seconds(*PAUSE_SECONDS)
