"""A connection's task: begun on connect, ended and awaited whenever and however it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from streaming import consumer as consumer_module
from streaming.close_codes import CloseCode
from streaming.consumer import ChannelConsumer, Closing, Connection

DEADLINE_SECONDS = 10.0
DONE = Closing(CloseCode.DONE, "that was all")


async def nothing(connection: Connection, text: str | bytes) -> None:
    return None


class Server:
    """What a server does with one connection: events in, messages out."""

    def __init__(
        self,
        on_connect: Callable[[Connection], Awaitable[Closing]],
        handle: Callable[[Connection, str | bytes], Awaitable[None]] = nothing,
        query_string: bytes = b"",
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self._sent_something = asyncio.Event()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/ws/x",
            "query_string": query_string,
            "user": "olga",
            "url_route": {"kwargs": {"executionId": "abc"}},
        }
        application: Any = ChannelConsumer.as_asgi(on_connect=on_connect, handle=handle)
        self.running: asyncio.Task[None] = asyncio.create_task(
            application(scope, self._events.get, self._send)
        )
        self.give({"type": "websocket.connect"})

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self._sent_something.set()

    async def has_sent(self, *types: str) -> None:
        """Wait until exactly this was sent."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.sent) < len(types):
                self._sent_something.clear()
                await self._sent_something.wait()
        assert self.types == list(types)

    def give(self, event: dict[str, Any]) -> None:
        self._events.put_nowait(event)

    async def disconnect(self) -> None:
        self.give({"type": "websocket.disconnect", "code": 1005})
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.running

    @property
    def types(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.sent]


class Life:
    """A handler that waits, and remembers how it ended."""

    def __init__(self, swallowed_cancellations: int = 0) -> None:
        self.ended_by: BaseException | None = None
        self.begun = asyncio.Event()
        self._swallow = swallowed_cancellations

    async def __call__(self, connection: Connection) -> Closing:
        self.begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                if not self._swallow:
                    self.ended_by = cancelled
                    raise
                self._swallow -= 1


async def test_connection_is_accepted_before_it_is_refused_with_code_and_reason() -> None:
    async def refuse(connection: Connection) -> Closing:
        return Closing(CloseCode.NOT_FOUND, "no such thing")

    server = Server(refuse)
    await server.has_sent("accept", "close")
    assert (server.sent[1]["code"], server.sent[1]["reason"]) == (4404, "no such thing")
    await server.disconnect()


async def test_handler_sees_who_asks_for_what() -> None:
    async def look(connection: Connection) -> Closing:
        assert connection.user == "olga"
        assert connection.parameter("executionId") == "abc"
        assert connection.query("replay") == ["0", "1-1", ""]
        assert connection.query("missing") == []
        await connection.send_text("hello")
        return DONE

    server = Server(look, query_string=b"replay=0&x=%FF&replay=1%2D1&replay=")
    await server.has_sent("accept", "send", "close")
    assert server.sent[1]["text"] == "hello"
    await server.disconnect()


async def test_handler_that_fails_is_closed_as_an_internal_error() -> None:
    async def fail(connection: Connection) -> Closing:
        raise ZeroDivisionError

    server = Server(fail)
    await server.has_sent("accept", "close")
    assert server.sent[-1]["code"] == 1011
    assert "ZeroDivision" not in server.sent[-1]["reason"]
    await server.disconnect()


@pytest.mark.parametrize("swallowed", [0, 1, 3])
async def test_disconnect_ends_the_handler_however_often_a_cancellation_is_lost(
    swallowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "CANCEL_AGAIN_SECONDS", 0.01)
    life = Life(swallowed)
    server = Server(life)
    await life.begun.wait()
    await server.disconnect()
    assert isinstance(life.ended_by, asyncio.CancelledError)
    assert server.types == ["accept"]


async def test_server_that_stops_ends_the_handler_without_a_disconnect() -> None:
    life = Life()
    server = Server(life)
    await life.begun.wait()
    server.running.cancel()
    await asyncio.wait([server.running])
    assert isinstance(life.ended_by, asyncio.CancelledError)


async def test_handler_that_fails_while_it_is_ended_is_logged_and_ends() -> None:
    begun = asyncio.Event()

    async def fail_at_the_end(connection: Connection) -> Closing:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    server = Server(fail_at_the_end)
    await begun.wait()
    with capture_logs() as logs:
        await server.disconnect()
    assert [entry["event"] for entry in logs] == ["connection_failed"]


async def test_messages_are_counted_and_given_to_their_handler_as_they_came() -> None:
    heard: list[tuple[int, str | bytes]] = []

    async def hear(connection: Connection, text: str | bytes) -> None:
        heard.append((connection.received_messages, text))
        if len(heard) == 4:
            all_heard.set()

    all_heard = asyncio.Event()
    server = Server(Life(), hear)
    for event in ({"text": "a"}, {"bytes": b"\xff"}, {"text": ""}, {"bytes": b""}):
        server.give({"type": "websocket.receive", **event})
    await all_heard.wait()
    assert heard == [(1, "a"), (2, b"\xff"), (3, ""), (4, b"")]
    await server.disconnect()


async def test_handler_of_messages_may_end_the_connection() -> None:
    life = Life()

    async def end(connection: Connection, text: str | bytes) -> None:
        await connection.end(Closing(CloseCode.BAD_REQUEST, "say nothing"))

    server = Server(life, end)
    await life.begun.wait()
    server.give({"type": "websocket.receive", "text": "hello"})
    await server.has_sent("accept", "close")
    assert isinstance(life.ended_by, asyncio.CancelledError)
    assert (server.sent[1]["code"], server.sent[1]["reason"]) == (4400, "say nothing")
    await server.disconnect()
