"""One WebSocket connection of a discovered channel, and the life of its task.

Accepts before it refuses, so that a browser can read the close code. What the channel
does is its handlers' (`streaming.ws`); this class owns the task they run in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qs

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer

from streaming.close_codes import CloseCode

CANCEL_AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Closing(NamedTuple):
    """How a connection ends: its code, and a reason for people (at most 123 bytes in UTF-8)."""

    code: CloseCode
    reason: str


class Connection(Protocol):
    """What a channel's handlers may do with a connection."""

    received_messages: int

    @property
    def user(self) -> Any:
        """Who asks: Django's user, perhaps anonymous."""

    def parameter(self, name: str) -> str:
        """A parameter of the channel's address."""

    def query(self, name: str) -> list[str]:
        """The values of a query parameter, in order; empty where it is not given."""

    async def send_text(self, text: str) -> None:
        """Send one message; waits while the client does not read."""

    async def end(self, closing: Closing) -> None:
        """Close the connection; what its handlers still do is stopped."""


OnConnect = Callable[[Connection], Awaitable[Closing]]
Handle = Callable[[Connection, str | bytes], Awaitable[None]]


class ChannelConsumer(AsyncWebsocketConsumer):
    """A connection whose handlers are given by `as_asgi(on_connect=…, handle=…)`."""

    # Control reaches a process once, not each of its connections: no layer of this name.
    channel_layer_alias = "none"

    def __init__(self, *, on_connect: OnConnect, handle: Handle) -> None:
        super().__init__()
        self._on_connect = on_connect
        self._handle = handle
        self._life: asyncio.Task[None] | None = None
        self.received_messages = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A server that stops cancels this call, without any disconnect.
            await self._stop_life()

    async def connect(self) -> None:
        await self.accept()
        self._life = asyncio.create_task(self._live())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.received_messages += 1
        await self._handle(self, text_data if text_data is not None else bytes_data or b"")

    async def disconnect(self, code: int) -> None:
        await self._stop_life()

    @property
    def user(self) -> Any:
        return self.scope["user"]

    def parameter(self, name: str) -> str:
        value: str = self.scope["url_route"]["kwargs"][name]
        return value

    def query(self, name: str) -> list[str]:
        given = parse_qs(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return given.get(name, [])

    async def send_text(self, text: str) -> None:
        await self.send(text_data=text)

    async def end(self, closing: Closing) -> None:
        await self._stop_life()
        await self.close(closing.code.code, closing.reason)

    async def _live(self) -> None:
        try:
            closing = await self._on_connect(self)
        except Exception:
            log.exception("connection_failed", path=self.scope["path"])
            closing = Closing(CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.meaning)
        await self.close(closing.code.code, closing.reason)

    async def _stop_life(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            while not life.done():
                # Once may not be enough: some libraries lose a cancellation now and then.
                life.cancel()
                await asyncio.wait([life], timeout=CANCEL_AGAIN_SECONDS)
            if not life.cancelled() and (error := life.exception()):
                log.error("connection_failed", path=self.scope["path"], exc_info=error)
