"""A WebSocket client that costs next to nothing, so that the server is what is measured."""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

CONNECT_SECONDS: Final = 60.0

_PONG: Final = b"\x8a"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING = 0x0, 0x1, 0x2, 0x8, 0x9


class HandshakeRefusedError(Exception):
    """The server did not answer 101; the message has its first line."""


class RawClient(asyncio.Protocol):
    """One connection: calls `on_message(payload)` for each message, `on_close(code)` once.

    The code is the close frame's, None where the connection ended without.
    """

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
        self._shaking_hands = True
        self._parts: list[bytes] = []
        self._code: int | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._shaking_hands and not self._take_answer():
            return
        self._take_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(HandshakeRefusedError("the connection was lost"))
        self._on_close(self._code)

    def _take_answer(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        first_line = bytes(head).split(b"\r\n", 1)[0].decode("latin-1")
        if " 101 " not in first_line:
            self.opened.set_exception(HandshakeRefusedError(first_line))
            self.transport.abort()
            return False
        self._buffer = bytearray(rest)
        self._shaking_hands = False
        self.opened.set_result(None)
        return True

    def _take_frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1] & 0x7F, at + 2
            if length == 126:
                start += 2
                length = int.from_bytes(buffer[at + 2 : start], "big")
            elif length == 127:
                start += 8
                length = int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < start + length:
                break
            self._take_frame(buffer[at], bytes(buffer[start : start + length]))
            at = start + length
        del buffer[:at]

    def _take_frame(self, first_byte: int, payload: bytes) -> None:
        opcode, is_last = first_byte & 0x0F, first_byte & 0x80
        if opcode in (_TEXT, _BINARY, _CONTINUATION):
            if is_last and not self._parts:
                self._on_message(payload)
                return
            self._parts.append(payload)
            if is_last:
                self._on_message(b"".join(self._parts))
                self._parts = []
        elif opcode == _PING:
            self.transport.write(_masked(_PONG, payload))
        elif opcode == _CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
            self.transport.write(_masked(b"\x88", payload[:2]))
            self.transport.close()


async def connect(
    url: str,
    on_message: Callable[[bytes], None],
    on_close: Callable[[int | None], None],
    subprotocols: str = "",
    headers: Sequence[str] = (),
) -> RawClient:
    """Open `ws://127.0.0.1:port/…`; returns when the handshake is done.

    Raises HandshakeRefusedError, OSError, TimeoutError.
    """
    address = urlsplit(url)
    assert address.port is not None, f"{url} names no port"
    path = address.path + (f"?{address.query}" if address.query else "")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {address.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *([f"Sec-WebSocket-Protocol: {subprotocols}"] if subprotocols else []),
        *headers,
    ]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        _, client = await loop.create_connection(
            lambda: RawClient(request, on_message, on_close), "127.0.0.1", address.port,
            family=socket.AF_INET,
        )  # fmt: skip
        await client.opened
    return client


def _masked(first_byte: bytes, payload: bytes) -> bytes:
    # A mask of zeros is a mask: what it hides does not matter on loopback.
    return first_byte + struct.pack("!B", 0x80 | len(payload)) + b"\0\0\0\0" + payload
