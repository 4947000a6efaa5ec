"""The ASGI application of servers under test, whose bounds DAPHNE_TEST_BOUNDS may change."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from nexus_project.web import entrance, gate, http_protocol, leaving, websocket_protocol

MESSAGE_BYTES = 16 * 1024
MESSAGES = 200 * 1024 * 1024 // MESSAGE_BYTES
LONG_REASON = "é" * 100
# Of zeros, none would be in memory before it is touched; answers are copies of it.
MEGABYTE = b"x" * 1024 * 1024

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

sent = 0
may_answer = asyncio.Event()

for name, value in json.loads(os.environ.get("DAPHNE_TEST_BOUNDS", "{}")).items():
    for module in (entrance, gate, http_protocol, leaving, websocket_protocol):
        if hasattr(module, name):
            setattr(module, name, value)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """`/flood` of HTTP or WebSocket, and what else the tests ask for."""
    if scope["type"] == "http":
        await answer(scope["path"], receive, send)
        return
    await receive()
    if scope["path"] == "/never":
        tell("never answers")
        await asyncio.Event().wait()
    await send({"type": "websocket.accept"})
    match scope["path"]:
        case "/flood":
            try:
                await flood(send)
            finally:
                tell("flood ended")
        case "/flood-now":
            await flood_at_once(scope["extensions"]["websocket.send_now"], send)
        case "/close":
            await send({"type": "websocket.close", "code": 1011, "reason": LONG_REASON})
        case "/unread":
            await asyncio.Event().wait()
        case "/echo":
            await echo(receive, send)


async def answer(path: str, receive: Receive, send: Send) -> None:
    """How many messages the flood has sent, or what the path says."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    match path:
        case "/large":
            body = b"".join([MEGABYTE, b"y"])
        case "/pieces":
            for _ in range(200):
                body = b"".join([MEGABYTE, b"y"])
                await send({"type": "http.response.body", "body": body, "more_body": True})
            tell("pieces ended")
            body = b""
        case "/held":
            tell("held")
            await may_answer.wait()
            body = b"held"
        case _:
            body = str(sent).encode()
    await send({"type": "http.response.body", "body": body})


async def flood(send: Send) -> None:
    global sent
    for number in range(MESSAGES):
        await send({"type": "websocket.send", "bytes": struct.pack("!I", number) * 4096})
        sent = number + 1
    await send({"type": "websocket.close", "code": 4408, "reason": "all sent"})


async def flood_at_once(send_now: Callable[[str], bool], send: Send) -> None:
    global sent
    for number in range(MESSAGES):
        text = f"{number:0{MESSAGE_BYTES}d}"
        if not send_now(text):
            await send({"type": "websocket.send", "text": text})
        sent = number + 1
    await send({"type": "websocket.close", "code": 4408, "reason": "all sent"})


async def echo(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"] * 2})
    tell(f"echo told of disconnect {message['code']}")
    may_answer.set()


def tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()
