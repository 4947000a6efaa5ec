"""The floor: an ASGI application that sends ready bytes to all who are connected.

`POST /send?messages=N&per_second=R` with a text that has `EVENT_ID` in it sends the text N times at
that pace to each connection, with event ids of its own making, and answers with
the moment of each: `{"<event_id>": monotonic nanoseconds}`.
"""

import asyncio
import json
import time
from typing import Any, Final
from urllib.parse import parse_qs

PLACEHOLDER: Final = "EVENT_ID"

_senders: set[Any] = set()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        _senders.add(send)
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            _senders.discard(send)
    elif scope["type"] == "http":
        asked = {
            name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()
        }
        moments = {}
        if scope["path"] == "/send":
            moments = await _send_to_all(
                await _body(receive), int(asked["messages"]), float(asked["per_second"])
            )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(moments).encode()})


async def _send_to_all(text: str, messages: int, per_second: float) -> dict[str, int]:
    moments: dict[str, int] = {}
    began = time.monotonic()
    for number in range(messages):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        event_id = f"1-{number + 1}"
        message = {"type": "websocket.send", "text": text.replace(PLACEHOLDER, event_id)}
        moments[event_id] = time.monotonic_ns()
        for send in list(_senders):
            await send(message)
    return moments


async def _body(receive: Any) -> str:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body.decode()
