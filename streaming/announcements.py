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
                await self._pubsub.unsubscribe(channel)
            except UNREACHABLE as error:
                log.warning("unfollow_failed", channel=channel, error=str(error))

    async def close(self) -> None:
        """End the connection and its task."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._client.aclose()

    async def _listen(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    asked = set(self._channels)
                    # Answers come in the order asked: our own channel's says all are followed.
                    await pubsub.subscribe(*asked, _OWN_CHANNEL)
                    await self._hear(pubsub, asked)
            except UNREACHABLE as error:
                if self.connected:
                    pause_seconds = FIRST_PAUSE_SECONDS
                log.warning("announcements_lost", error=str(error), channels=len(self._channels))
            except Exception:  # whatever it was, hearing again is tried
                log.exception("announcements_lost", channels=len(self._channels))
            finally:
                self._pubsub = None
                self._unconfirmed.clear()
                for confirmed in self._confirmed.values():
                    confirmed.set()
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    async def _hear(self, pubsub: Any, asked: set[str]) -> None:
        probed = False
        while True:
            message = await pubsub.get_message(timeout=PING_SECONDS)
            if message is None:
                if probed:
                    raise redis.ConnectionError(f"no answer for {PING_SECONDS} seconds")
                await pubsub.ping()
                probed = True
                continue
            probed = False
            if message["type"] == "message":
                self._on_text(message["channel"], message["data"])
            elif message["type"] == "subscribe" and message["channel"] == _OWN_CHANNEL:
                await self._catch_up_with_changes(pubsub, asked)
                self._pubsub = pubsub
                self._on_connected()
            elif message["type"] == "subscribe":
                self._take_confirmation(message["channel"])

    async def _catch_up_with_changes(self, pubsub: Any, asked: set[str]) -> None:
        """Follow and unfollow what changed while the connection was being made."""
        if late := self._channels - asked:
            await pubsub.subscribe(*late)
        if dropped := asked - self._channels:
            await pubsub.unsubscribe(*dropped)

    def _take_confirmation(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] <= 0:
            del self._unconfirmed[channel]
            if channel in self._confirmed:
                self._confirmed[channel].set()
