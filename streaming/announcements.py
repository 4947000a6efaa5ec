"""Hearing announcements: one subscribing connection to Valkey for a whole process.

Belongs to one event loop. Knows channels and texts, nothing of what they mean.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import redis
import redis.asyncio
import structlog

from streaming.valkey import UNREACHABLE

PING_SECONDS: Final = 5.0
"""After so much silence the connection is probed; after as much again it is given up."""

CONNECTING_SECONDS: Final = 2.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

_OWN_CHANNEL: Final = "nexus:hub"
"""Always subscribed, so that the connection is one that listens even with no viewer."""

log = structlog.get_logger(__name__)


class Announcements:
    """Follows channels, over reconnections, until closed.

    `on_text(channel, text)` is called for each announcement, `on_connected()` each time
    all channels are followed anew: what was announced before that may have been missed.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        on_text: Callable[[str, str], None],
        on_connected: Callable[[], None],
    ) -> None:
        self._client = client
        self._on_text = on_text
        self._on_connected = on_connected
        self._pubsub: Any = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._channels: set[str] = set()
        self._unconfirmed: Counter[str] = Counter()
        self._confirmed: dict[str, asyncio.Event] = {}
        self._listening = asyncio.create_task(self._listen())

    @property
    def connected(self) -> bool:
        """Whether announcements are heard at present, as far as can be known."""
        return self._pubsub is not None

    async def follow(self, channel: str, deadline_seconds: float) -> None:
        """Follow the channel; returns when it is confirmed, or at the deadline.

        While Valkey is away this returns at once: the channel is followed, and
        `on_connected` called, when it is back.
        """
        self._channels.add(channel)
        pubsub = self._pubsub
        if pubsub is None:
            return
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        self._unconfirmed[channel] += 1
        try:
            async with asyncio.timeout(deadline_seconds):
                _check_connection(pubsub)
                await pubsub.subscribe(channel)
                await confirmed.wait()
        except (TimeoutError, *UNREACHABLE) as error:
            log.warning("follow_unconfirmed", channel=channel, error=str(error))
        finally:
            if self._confirmed.get(channel) is confirmed:
                del self._confirmed[channel]

    async def unfollow(self, channel: str) -> None:
        """Follow the channel no longer."""
        self._channels.discard(channel)
        if self._pubsub is not None:
            try:
                _check_connection(self._pubsub)
                await self._pubsub.unsubscribe(channel)
            except UNREACHABLE as error:
                log.warning("unfollow_failed", channel=channel, error=str(error))

    async def close(self) -> None:
        """End the connection and its task."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._client.aclose()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    await self._hear(pubsub)
            except UNREACHABLE as error:
                log.warning("announcements_lost", error=str(error), channels=len(self._channels))
            except Exception:  # whatever it was, hearing again is tried
                log.exception("announcements_lost", channels=len(self._channels))
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    async def _hear(self, pubsub: Any) -> None:
        asked = set(self._channels)
        try:
            async with asyncio.timeout(CONNECTING_SECONDS):
                # Answers come in the order asked: our own channel's says all are followed.
                await pubsub.subscribe(*asked, _OWN_CHANNEL)
            while True:
                message = await self._next_message(pubsub)
                if message["type"] == "message":
                    self._on_text(message["channel"], message["data"])
                elif message["type"] == "subscribe" and message["channel"] == _OWN_CHANNEL:
                    asked = await self._begin_or_ask_again(pubsub, asked)
                elif message["type"] == "subscribe":
                    self._take_confirmation(message["channel"])
        finally:
            # Before the connection is given back: nobody may use it from here on.
            self._pubsub = None
            self._unconfirmed.clear()
            for confirmed in self._confirmed.values():
                confirmed.set()

    async def _next_message(self, pubsub: Any) -> dict[str, Any]:
        for probed in (False, True):
            _check_connection(pubsub)
            message: dict[str, Any] | None = await pubsub.get_message(timeout=PING_SECONDS)
            if message is not None:
                return message
            if not probed:
                await pubsub.ping()
        raise redis.ConnectionError(f"no answer for {PING_SECONDS} seconds")

    async def _begin_or_ask_again(self, pubsub: Any, asked: set[str]) -> set[str]:
        """Begin if what was asked for is what is wanted, else ask for the difference."""
        wanted = set(self._channels)
        if wanted == asked:
            self._pubsub = pubsub
            self._pause_seconds = FIRST_PAUSE_SECONDS
            self._on_connected()
            return asked
        if dropped := asked - wanted:
            await pubsub.unsubscribe(*dropped)
        await pubsub.subscribe(*(wanted - asked), _OWN_CHANNEL)
        return wanted

    def _take_confirmation(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] <= 0:
            del self._unconfirmed[channel]
            if channel in self._confirmed:
                self._confirmed[channel].set()


def _check_connection(pubsub: Any) -> None:
    """Raise ConnectionError where there is none any more.

    redis-py would make a new one by itself, in whichever task asks next, several tasks at
    once perhaps, and tell nobody that announcements were missed.
    """
    if pubsub.connection is not None and not pubsub.connection.is_connected:
        raise redis.ConnectionError("the connection is gone")
