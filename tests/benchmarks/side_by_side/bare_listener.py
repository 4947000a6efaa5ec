"""The floor of latency: an ASGI application that passes on what one subscription hears.

`/CHANNEL` is sent the texts that are published on the channel, as they are.
"""

import asyncio
import os
from collections import defaultdict
from functools import cache
from typing import Any

import redis.asyncio

_senders: defaultdict[str, set[Any]] = defaultdict(set)


class _Ear:
    """The process' one subscribing connection."""

    def __init__(self) -> None:
        client = redis.asyncio.Redis.from_url(
            os.environ["VALKEY_URL"], decode_responses=True, socket_timeout=None
        )
        self._pubsub: Any = client.pubsub()
        self._subscribing = asyncio.Lock()
        self._hearing: asyncio.Task[None] | None = None

    async def follow(self, channel: str) -> None:
        async with self._subscribing:
            await self._pubsub.subscribe(channel)
            self._hearing = self._hearing or asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for message in self._pubsub.listen():
            if message["type"] == "message":
                frame = {"type": "websocket.send", "text": message["data"]}
                for send in tuple(_senders[message["channel"]]):
                    await send(frame)


_ear = cache(_Ear)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})
    elif scope["type"] == "websocket":
        channel = scope["path"].removeprefix("/")
        await receive()
        await _ear().follow(channel)
        await send({"type": "websocket.accept"})
        _senders[channel].add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        _senders[channel].discard(send)
