"""What hostile clients do to a server: `python -m tests.benchmarks.attacks NAME PORT PATH SECONDS`.

PATH is that of a stream on which events come. Attacks end by themselves after SECONDS. They
are for loopback only.
"""

import asyncio
import base64
import contextlib
import os
import resource
import socket
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

HOST: Final = "127.0.0.1"
MEGABYTE: Final = 1024 * 1024
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
FIN, RSV1 = 0x80, 0x40

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Target:
    """A server on loopback, and the path of a stream there on which events come."""

    port: int
    path: str

    async def connect(self, receive_bytes: int | None = None) -> Connection:
        """A TCP connection; from one of several addresses, for there are not ports enough."""
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setblocking(False)
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await loop.sock_connect(client, (HOST, self.port))
        # A small limit: what is not read stays in the kernel.
        return await asyncio.open_connection(sock=client, limit=1024)

    async def websocket(self, receive_bytes: int | None = None, more: str = "") -> Connection:
        """An open WebSocket."""
        reader, writer = await self.connect(receive_bytes)
        writer.write(handshake(self.path, more))
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer


def handshake(path: str, more: str = "") -> bytes:
    """A client's side of it; `more` are header lines."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
    ).encode()


def frame(
    opcode: int, payload: bytes = b"", *, bits: int = FIN, length: int | None = None
) -> bytes:
    """A client's frame, masked with zeros; `length` is what it claims to have."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", bits | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", bits | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", bits | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


async def send_for_ever(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()


async def again_and_again(attack: Callable[[], Awaitable[object]]) -> None:
    """One such client after another: each is cut off sooner or later."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await attack()
        await asyncio.sleep(0.01)


async def together(number: int, attack: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """So many clients at once, which begin in groups."""
    running = []
    for _ in range(number):
        running.append(asyncio.ensure_future(again_and_again(attack)))
        if len(running) % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*running)


async def stay(target: Target, number: int, begin: Callable[[asyncio.StreamWriter], None]) -> None:
    """So many connections that begin something and then do nothing, however long."""
    kept = []
    for _ in range(number):
        connection = await target.connect()
        begin(connection[1])
        kept.append(connection)
    await asyncio.Event().wait()


# Slow readers


async def never_reads(target: Target) -> None:
    await stalled_viewers(target, 1)


async def never_read_500(target: Target) -> None:
    await stalled_viewers(target, 500)


async def stalled_viewers(target: Target, number: int) -> None:
    kept = []
    for _ in range(number):
        reader, writer = await target.connect(4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(handshake(f"{target.path}?replay=0"))
        kept.append((reader, writer))
    await asyncio.Event().wait()


# Connections


async def half_open_10000(target: Target) -> None:
    await stay(target, 10_000, lambda writer: None)


async def idlers_2000(target: Target) -> None:
    """Connections kept alive after a request."""
    await stay(
        target, 2_000, lambda writer: writer.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
    )


async def one_user_2000(target: Target) -> None:
    await stay(target, 2_000, lambda writer: writer.write(handshake(target.path)))


async def half_closed_and_reset(target: Target) -> None:
    async def client() -> None:
        for number in range(4):
            _, writer = await target.connect()
            writer.write(handshake(target.path)[: None if number % 2 else 40])
            if number < 2:
                writer.write_eof()
                await asyncio.sleep(0.02)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    await together(50, client)


# Requests


async def dripping_heads_2000(target: Target) -> None:
    async def client() -> None:
        _, writer = await target.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        while True:
            await asyncio.sleep(1)
            writer.write(b"x")

    await together(2_000, client)


async def dripping_bodies_2000(target: Target) -> None:
    async def client() -> None:
        _, writer = await target.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n" + bytes(60_000))
        while True:
            await asyncio.sleep(1)
            writer.write(b"x")

    await together(2_000, client)


async def bodies_of_100_mb(target: Target) -> None:
    async def client() -> None:
        _, writer = await target.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(100):
            writer.write(bytes(MEGABYTE))
            await writer.drain()

    await together(20, client)


async def chunked_bodies_of_100_mb(target: Target) -> None:
    async def client() -> None:
        _, writer = await target.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1600):
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()

    await together(20, client)


async def header_floods(target: Target) -> None:
    async def client() -> None:
        _, writer = await target.connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        for number in count():
            writer.write(b"".join(b"X-%d-%d: a\r\n" % (number, each) for each in range(1000)))
            await writer.drain()

    await together(20, client)


async def pipelined_requests(target: Target) -> None:
    """Documents are asked for without end, and never read."""

    async def client() -> None:
        document = target.path.replace("/ws/", "/") + "?include=activities"
        _, writer = await target.connect(4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await send_for_ever(
            writer, f"GET {document} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() * 100
        )

    await together(20, client)


# WebSocket frames


def flood_of(data: bytes, clients: int = 10) -> Callable[[Target], Coroutine[Any, Any, None]]:
    """Clients that send it over and over on WebSockets, and read nothing."""

    async def attack(target: Target) -> None:
        async def client() -> None:
            _, writer = await target.websocket(
                more="Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )
            await send_for_ever(writer, data)

        await together(clients, client)

    return attack


def one_after_another(*messages: bytes) -> Callable[[Target], Coroutine[Any, Any, None]]:
    """Clients that send one of them each, wait for the end, and come back."""

    async def attack(target: Target) -> None:
        numbers = count()

        async def client() -> None:
            reader, writer = await target.websocket(
                more="Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )
            writer.write(messages[next(numbers) % len(messages)])
            while await reader.read(65536):
                pass

        await together(10, client)

    return attack


def deflated_zeros() -> bytes:
    """A thousandth of what it inflates to."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(bytes(50 * MEGABYTE)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


ATTACKS: Final[dict[str, tuple[str, Callable[[Target], Coroutine[Any, Any, None]]]]] = {
    "never_reads": ("a viewer that never reads", never_reads),
    "never_read_500": ("500 viewers that never read", never_read_500),
    "half_open": ("10,000 connections that send nothing", half_open_10000),
    "dripping_heads": ("2,000 heads, a byte a second", dripping_heads_2000),
    "dripping_bodies": ("2,000 bodies, a byte a second", dripping_bodies_2000),
    "bodies": ("bodies of 100 MB", bodies_of_100_mb),
    "chunked_bodies": ("bodies of 100 MB, chunked", chunked_bodies_of_100_mb),
    "header_floods": ("heads without end", header_floods),
    "pipelining": ("pipelined requests, answers unread", pipelined_requests),
    "idlers": ("2,000 connections kept alive", idlers_2000),
    "half_closed": ("half-closed, reset in the middle", half_closed_and_reset),
    "large_frames": (
        "frames of 100 MB",
        flood_of(frame(BINARY, bytes(MEGABYTE), length=100 * MEGABYTE) + bytes(99 * MEGABYTE)),
    ),
    "fragments": (
        "messages of endless fragments",
        flood_of(frame(TEXT, bits=0) + frame(0, bits=0) * 10_000),
    ),
    "messages": ("floods of small messages", flood_of(frame(TEXT, b"x") * 10_000)),
    "pings": ("floods of pings", flood_of(frame(PING, b"x") * 10_000)),
    "bombs": (
        "compression bombs",
        one_after_another(frame(BINARY, deflated_zeros(), bits=FIN | RSV1)),
    ),
    "nonsense": (
        "invalid UTF-8, nonsense closes",
        one_after_another(
            frame(TEXT, b"\xff\xfe"),
            frame(CLOSE, b"\x03\xe7"),
            frame(CLOSE, b"\x03"),
            frame(CLOSE, b"\x03\xe8\xff"),
            frame(PING, bytes(126)),
            frame(3),
            frame(0, b"x"),
            b"\x81\x01x",
        ),
    ),
    "one_user": ("2,000 viewers from one address", one_user_2000),
}
"""Each attack's name, description and function, which runs until it is cancelled."""


async def attack_for(name: str, target: Target, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ATTACKS[name][1](target)


def main() -> None:
    name, port, path, seconds = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(attack_for(name, Target(int(port), path), float(seconds)))


if __name__ == "__main__":
    main()
