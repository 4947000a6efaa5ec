"""The product's ASGI application, which never looks for garbage; `/objects` tells what it holds."""

import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nexus_project.asgi import application as product
from nexus_project.web.gate import Gate
from nexus_project.web.http_protocol import Channel, Request
from nexus_project.web.websocket_protocol import WebSocketProtocol
from streaming.consumer import ChannelConsumer
from streaming.execution_stream import ExecutionStream
from streaming.heartbeats import Heartbeats
from streaming.hub import View
from streaming.room import Room
from streaming.subscription import Subscription

_OF_THE_SERVER: Final = (WebSocketProtocol, Channel, Request, Gate)
_OF_STREAMING: Final = (ChannelConsumer, Heartbeats, View, Subscription, ExecutionStream, Room)
COUNTED: Final = (*_OF_THE_SERVER, *_OF_STREAMING)
"""Classes with an object, or some, for each connection."""

gc.disable()


async def application(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] != "http" or scope["path"] != "/objects":
        await product(scope, receive, send)
        return
    found = Counter(map(type, gc.get_objects()))
    answer = json.dumps({counted.__name__: found[counted] for counted in COUNTED}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})
