"""Real WebSocket clients for tests: each keeps all it received, and can be waited on.

They run in a thread of their own, so that a test stays synchronous and writes to the
database from its own thread.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from executions.document import JsonObject

DEADLINE_SECONDS: Final = 20.0

T = TypeVar("T")


class Viewer:
    """One connection and what it received."""

    def __init__(self, viewers: "Viewers", connection: ClientConnection) -> None:
        self.messages: list[JsonObject] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._viewers = viewers
        self._connection = connection
        self._news = threading.Condition()
        self._reading = viewers.start(self._read())

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server selected."""
        return self._connection.subprotocol

    @property
    def event_ids(self) -> list[str]:
        """The ids of the events received, in order; heartbeats left out."""
        return [each["event_id"] for each in self.messages if each["type"] != "heartbeat"]

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def wait_until(self, condition: Callable[["Viewer"], bool]) -> None:
        """Wait until the condition holds of what was received; fails at the deadline."""
        with self._news:
            if not self._news.wait_for(lambda: condition(self), DEADLINE_SECONDS):
                raise AssertionError(
                    f"the awaited did not come; closed: {self.close_code} {self.close_reason}, "
                    f"received: {[(m['type'], m.get('event_id')) for m in self.messages]}"
                )

    def wait_for_messages(self, count: int) -> list[JsonObject]:
        self.wait_until(lambda viewer: len(viewer.messages) >= count)
        return self.messages

    def wait_for_close(self) -> int | None:
        """Wait until the connection is closed; the code."""
        self.wait_until(lambda viewer: viewer.close_code is not None)
        return self.close_code

    def send(self, text: str | bytes) -> None:
        self._viewers.run(self._connection.send(text))

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self._viewers.run(self._connection.close())
        self._reading.result(DEADLINE_SECONDS)

    def vanish(self) -> None:
        """Break the connection without a word."""

        async def abort() -> None:
            self._connection.transport.abort()

        self._viewers.run(abort())
        self._reading.result(DEADLINE_SECONDS)

    async def _read(self) -> None:
        try:
            while True:
                message = json.loads(await self._connection.recv())
                with self._news:
                    self.messages.append(message)
                    self._news.notify_all()
        except ConnectionClosed as closed:
            with self._news:
                self.close_code = closed.rcvd.code if closed.rcvd else 1006
                self.close_reason = closed.rcvd.reason if closed.rcvd else ""
                self._news.notify_all()


class Viewers:
    """Opens viewers on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._opened: list[ClientConnection] = []

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.start(coroutine).result(DEADLINE_SECONDS)

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] | None = None,
    ) -> Viewer:
        """Connect; raises what the client library raises when the handshake is refused."""
        return self.open_many([url], headers, subprotocols)[0]

    def open_many(
        self,
        urls: list[str],
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] | None = None,
    ) -> list[Viewer]:
        """Connect to all at once."""
        offered = None if subprotocols is None else [Subprotocol(each) for each in subprotocols]

        async def connect_all() -> list[ClientConnection]:
            return await asyncio.gather(
                *(
                    connect(
                        url,
                        max_size=None,
                        additional_headers=headers,
                        compression=None,
                        subprotocols=offered,
                    )
                    for url in urls
                )
            )

        connections = self.run(connect_all())
        self._opened += connections
        return [Viewer(self, connection) for connection in connections]

    async def close_all(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._opened))


@contextmanager
def viewers_running() -> Iterator[Viewers]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    viewers = Viewers(loop)
    try:
        yield viewers
    finally:
        viewers.run(viewers.close_all())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
