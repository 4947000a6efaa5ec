"""The floor of a replay: an ASGI application that reads a stream by XRANGE and sends it.

Serves `/<stream's key>`; knows nothing of executions, sees no gap, and checks nothing.
"""

import os
from typing import Any, Final

import redis.asyncio

ENTRIES_PER_READ: Final = 500


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    key, after = scope["path"].removeprefix("/"), "-"
    client: Any = redis.asyncio.Redis.from_url(os.environ["VALKEY_URL"], decode_responses=True)
    async with client:
        while entries := await client.xrange(key, after, count=ENTRIES_PER_READ):
            for _, fields in entries:
                await send({"type": "websocket.send", "text": fields["message"]})
            after = f"({entries[-1][0]}"
    while (await receive())["type"] != "websocket.disconnect":
        pass
