"""Hearing announcements: one subscribing connection to a server for a whole process.

Belongs to one event loop. Knows channels and texts, nothing of what they mean. Channels are
sharded ones (https://valkey.io/topics/pubsub/): in a cluster, those of the server's slots.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Protocol

import redis
import redis.asyncio
import structlog

from streaming.valkey.clients import UNREACHABLE, slot_of

PING_SECONDS: Final = 5.0
"""After so much silence the connection is probed; after as much again it is given up."""

CONNECTING_SECONDS: Final = 2.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

_OWN_CHANNEL: Final = "nexus:hub"
"""Always subscribed, so that the connection is one that listens even with no viewer.

Not a sharded channel, since any server is to take it.
"""

log = structlog.get_logger(__name__)

OnText = Callable[[str, str], None]
"""Called with channel and text of each announcement."""

OnConnected = Callable[[], None]
"""Called when channels are followed anew: what was announced before may have been missed."""


class Hearing(Protocol):
    """Follows channels, over reconnections, until closed."""

    @property
    def connected(self) -> bool:
        """Whether announcements of all channels are heard at present, as far as can be known."""
        ...

    async def follow(self, channel: str, deadline_seconds: float) -> None:
        """Follow the channel; returns when it is confirmed, or at the deadline.

        While Valkey is away this returns at once: the channel is followed, and
        `on_connected` called, when it is back.
        """
        ...

    async def unfollow(self, channel: str) -> None:
        """Follow the channel no longer."""
        ...

    async def close(self) -> None:
        """End connections and tasks."""
        ...


def _nothing(channels: Collection[str]) -> None:
    return None


class Announcements:
    """Follows channels of one server, over reconnections, until closed: a `Hearing`.

    `on_elsewhere(channels)` is called when a server of a cluster says that it does not, or no
    longer, serve these, which are followed no longer; with none when the connection is lost.
    `portions` divides channels into those that one command may name.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        on_text: OnText,
        on_connected: OnConnected,
        on_elsewhere: Callable[[Collection[str]], None] = _nothing,
        portions: Callable[[Collection[str]], Iterable[Collection[str]]] = lambda all_: [all_],
    ) -> None:
        self._client = client
        self._on_text = on_text
        self._on_connected = on_connected
        self._on_elsewhere = on_elsewhere
        self._portions = portions
        self._pubsub: Any = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._channels: set[str] = set()
        self._asked: set[str] = set()
        self._unconfirmed: Counter[str] = Counter()
        self._ending: Counter[str] = Counter()
        self._confirmed: dict[str, asyncio.Event] = {}
        self._listening = asyncio.create_task(self._listen())

    @property
    def connected(self) -> bool:
        return self._pubsub is not None

    async def follow(self, channel: str, deadline_seconds: float) -> None:
        self._channels.add(channel)
        pubsub = self._pubsub
        if pubsub is None:
            return
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        self._unconfirmed[channel] += 1
        try:
            async with asyncio.timeout(deadline_seconds):
                _check_connection(pubsub)
                await pubsub.ssubscribe(channel)
                await confirmed.wait()
        except (TimeoutError, *UNREACHABLE) as error:
            log.warning("follow_unconfirmed", channel=channel, error=str(error))
        finally:
            if self._confirmed.get(channel) is confirmed:
                del self._confirmed[channel]

    async def unfollow(self, channel: str) -> None:
        self._channels.discard(channel)
        if self._pubsub is not None:
            try:
                _check_connection(self._pubsub)
                await self._end(self._pubsub, [channel])
            except UNREACHABLE as error:
                log.warning("unfollow_failed", channel=channel, error=str(error))

    async def close(self) -> None:
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
            self._on_elsewhere(())
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    async def _hear(self, pubsub: Any) -> None:
        try:
            self._asked = set(self._channels)
            await self._ask(pubsub, self._asked)
            while True:
                try:
                    message = await self._next_message(pubsub)
                    if message["type"] == "smessage":
                        self._on_text(message["channel"], message["data"])
                    else:
                        await self._take_answer(pubsub, message["type"], message["channel"])
                except redis.exceptions.MovedError as error:
                    self._give_away(error.slot_id)
        finally:
            # Before the connection is given back: nobody may use it from here on.
            self._pubsub = None
            self._unconfirmed.clear()
            self._ending.clear()
            for confirmed in self._confirmed.values():
                confirmed.set()

    async def _ask(self, pubsub: Any, channels: set[str]) -> None:
        """Ask for the channels, and for our own: answers come in the order asked.

        So the answer to our own says that the others are followed.
        """
        for portion in self._portions(channels) if channels else ():
            async with asyncio.timeout(CONNECTING_SECONDS):
                await pubsub.ssubscribe(*portion)
        async with asyncio.timeout(CONNECTING_SECONDS):
            await pubsub.subscribe(_OWN_CHANNEL)

    async def _end(self, pubsub: Any, channels: Collection[str]) -> None:
        self._ending.update(channels)
        for portion in self._portions(channels):
            await pubsub.sunsubscribe(*portion)

    async def _next_message(self, pubsub: Any) -> dict[str, Any]:
        for probed in (False, True):
            _check_connection(pubsub)
            message: dict[str, Any] | None = await pubsub.get_message(timeout=PING_SECONDS)
            if message is not None:
                return message
            if not probed:
                await pubsub.ping()
        raise redis.ConnectionError(f"no answer for {PING_SECONDS} seconds")

    async def _take_answer(self, pubsub: Any, kind: str, channel: str) -> None:
        if kind == "ssubscribe":
            self._take_confirmation(channel)
        elif kind == "sunsubscribe":
            if channel in self._ending:
                self._ending -= Counter([channel])
            else:
                self._leave([channel])
        elif kind == "subscribe":
            await self._begin_or_ask_again(pubsub)

    async def _begin_or_ask_again(self, pubsub: Any) -> None:
        """Begin if what was asked for is what is wanted, else ask for the difference."""
        asked, wanted = self._asked, set(self._channels)
        if wanted == asked:
            self._pubsub = pubsub
            self._pause_seconds = FIRST_PAUSE_SECONDS
            self._on_connected()
            return
        self._asked = wanted
        if dropped := asked - wanted:
            await self._end(pubsub, dropped)
        await self._ask(pubsub, wanted - asked)

    def _take_confirmation(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] <= 0:
            del self._unconfirmed[channel]
            if channel in self._confirmed:
                self._confirmed[channel].set()

    def _give_away(self, slot: int) -> None:
        """Leave the channels of a slot that is another server's: it was asked for, or to end."""
        for channel in [channel for channel in self._ending if slot_of(channel) == slot]:
            del self._ending[channel]
        self._leave([channel for channel in self._channels if slot_of(channel) == slot])

    def _leave(self, channels: Collection[str]) -> None:
        for channel in channels:
            self._channels.discard(channel)
            self._asked.discard(channel)
            self._unconfirmed.pop(channel, None)
            if channel in self._confirmed:
                self._confirmed[channel].set()
        self._on_elsewhere(channels)


def _check_connection(pubsub: Any) -> None:
    """Raise ConnectionError where there is none any more.

    redis-py would make a new one by itself, in whichever task asks next, several tasks at
    once perhaps, and tell nobody that announcements were missed.
    """
    if pubsub.connection is not None and not pubsub.connection.is_connected:
        raise redis.ConnectionError("the connection is gone")
