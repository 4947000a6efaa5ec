"""Stands between the product and Valkey, and does to their connections what faults ask for."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

_CHUNK_BYTES: Final = 64 * 1024
_STOPPING_SECONDS: Final = 5.0


class ValkeyProxy:
    """Forwards connections of one Unix socket to another, in a thread of its own.

    Its faults concern the connections that there are, and those made while a fault lasts.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._path = path
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._clients: set[asyncio.StreamWriter] = set()
        self._delay_seconds = 0.0
        self._to_halve = 0
        self._hold_seconds = 0.0

    @property
    def connections(self) -> int:
        return len(self._clients)

    @property
    def replies_to_halve(self) -> int:
        """How many are left to be halved."""
        return self._to_halve

    def start(self) -> None:
        self._thread.start()
        self._run(asyncio.start_unix_server(self._serve, self._path))

    def stop(self) -> None:
        self._run(self._end_connections())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOPPING_SECONDS)
        self._loop.close()

    def cut(self) -> None:
        """Break all connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def delay(self, seconds: float) -> None:
        """Let each piece of a reply wait so long; 0 ends it."""
        self._delay_seconds = seconds

    def halve(self, count: int, hold_seconds: float) -> None:
        """Of the next `count` pieces forward a half, and after `hold_seconds` break there."""
        self._hold_seconds = hold_seconds
        self._to_halve = count

    def _cut(self) -> None:
        for writer in self._clients:
            writer.transport.abort()

    async def _end_connections(self) -> None:
        self._delay_seconds = self._hold_seconds = 0.0
        self._cut()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_STOPPING_SECONDS)

    def _run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * _STOPPING_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._target)
        except OSError:
            self._end(writer)
            return
        pumps = (
            asyncio.create_task(_forward(reader, to_server)),
            asyncio.create_task(self._forward_replies(from_server, writer)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.transport.abort()
            self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._clients.discard(writer)
        writer.close()

    async def _forward_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(_CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            if self._to_halve > 0 and len(piece) > 1:
                self._to_halve -= 1
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                await asyncio.sleep(self._hold_seconds)
                return
            writer.write(piece)
            await writer.drain()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_CHUNK_BYTES):
        writer.write(piece)
        await writer.drain()
