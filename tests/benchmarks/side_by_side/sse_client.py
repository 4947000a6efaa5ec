"""A client of Server-Sent Events that costs next to nothing; what raw_client is for WebSockets.

It reads what Django's servers send: an answer in chunks, events with one line of data each.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from tests.benchmarks.side_by_side.raw_client import CONNECT_SECONDS, HandshakeRefusedError

_KEEP_ALIVE: Final = b"event: keep-alive"


class SseClient(asyncio.Protocol):
    """One stream: calls `on_message(event)` for each event with data that is no keep-alive."""

    def __init__(
        self,
        request: bytes,
        on_message: Callable[[bytes], None],
        on_close: Callable[[int | None], None],
    ) -> None:
        self._request = request
        self._on_message = on_message
        self._on_close = on_close
        self._buffer = bytearray()
        self._body = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.opened.done() or self._take_answer():
            self._take_chunks()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(HandshakeRefusedError("the connection was lost"))
        self._on_close(None)

    def _take_answer(self) -> bool:
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        first_line = bytes(head).split(b"\r\n", 1)[0].decode("latin-1")
        if " 200 " not in first_line or b"chunked" not in head.lower():
            self.opened.set_exception(HandshakeRefusedError(first_line))
            self.transport.abort()
            return False
        del self._buffer[: len(head) + len(end)]
        self.opened.set_result(None)
        return True

    def _take_chunks(self) -> None:
        buffer, at = self._buffer, 0
        while (line_end := buffer.find(b"\r\n", at)) >= 0:
            start = line_end + 2
            end = start + int(buffer[at:line_end], 16)
            if len(buffer) < end + 2:
                break
            self._body += buffer[start:end]
            at = end + 2
        del buffer[:at]
        *events, self._body = self._body.split(b"\n\n")
        for event in events:
            if b"data:" in event and not event.startswith(_KEEP_ALIVE):
                self._on_message(event)


async def connect(
    url: str,
    on_message: Callable[[bytes], None],
    on_close: Callable[[int | None], None],
) -> SseClient:
    """Open `http://127.0.0.1:port/…`; returns when the server has answered 200.

    Raises HandshakeRefusedError, OSError, TimeoutError.
    """
    address = urlsplit(url)
    assert address.port is not None, f"{url} names no port"
    path = address.path + (f"?{address.query}" if address.query else "")
    request = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        _, client = await loop.create_connection(
            lambda: SseClient(request.encode(), on_message, on_close), "127.0.0.1", address.port,
            family=socket.AF_INET,
        )  # fmt: skip
        await client.opened
    return client
