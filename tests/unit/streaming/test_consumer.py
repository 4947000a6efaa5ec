"""A connection's task: begun on connect, ended and awaited whenever and however it ends.

And who is let in: with a place, a user, and a watch over what the user stands on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from structlog.testing import capture_logs

from streaming import consumer as consumer_module
from streaming.access.callers import CLAIM, Claim, SessionClaim, Standing, TicketClaim, TokenClaim
from streaming.access.credentials import Credential, session_credential, token_credential
from streaming.access.limits import ConnectionLimits, ConnectionPlaces, Holder
from streaming.access.watch import AccessWatch, ByCredential, Watched
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
        claim: Claim | None = None,
        **more: Any,
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self._sent_something = asyncio.Event()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/ws/x",
            "query_string": query_string,
            CLAIM: claim,
            **more,
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


class Sender:
    """A server's `send_now`, and what was sent by it."""

    def __init__(self) -> None:
        self.has_room = True
        self.sent: list[str] = []

    def __call__(self, text: str) -> bool:
        if self.has_room:
            self.sent.append(text)
        return self.has_room


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
        assert connection.user.is_anonymous
        assert connection.parameter("executionId") == "abc"
        assert connection.query("replay") == ["0", "1-1", ""]
        assert connection.query("missing") == []
        await connection.heartbeats.send("hello")
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
    assert [entry["event"] for entry in logs] == ["connection_failed", "connection_closed"]


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


class Door:
    """Who is known by what, and who may view what, without a database."""

    def __init__(self) -> None:
        self.users: dict[Credential, User] = {}
        self.tickets: dict[str, Standing] = {}
        self.may_view = True
        self.reads = 0
        self.refused: dict[Watched, CloseCode] = {}
        self.asked: list[Watched] = []
        self.places = ConnectionPlaces(ConnectionLimits(process=3, user=2, execution=1))
        self.watch: AccessWatch
        self.hear: Callable[[Any], None] = lambda users: None

    async def standing_of(self, claim: Claim) -> Standing | None:
        self.reads += 1
        match claim:
            case TicketClaim(text):
                return self.tickets.pop(text, None)
            case TokenClaim(text):
                return Standing(token_credential(text))
            case SessionClaim(key):
                return Standing(session_credential(key))

    async def user_of(self, credential: Credential) -> User | None:
        self.reads += 1
        return self.users.get(credential)

    async def may(self, user: Any, execution_id: str) -> bool:
        return self.may_view

    async def refusals(self, watched: ByCredential) -> dict[Watched, CloseCode]:
        asked = [each for of_credential in watched.values() for each in of_credential]
        self.asked += asked
        return {each: code for each, code in self.refused.items() if each in asked}

    async def refusal_of(self, watched: Watched) -> CloseCode | None:
        return (await self.refusals({watched.credential: [watched]})).get(watched)

    async def heard(self, on_notice: Callable[[Any], None]) -> None:
        self.hear = on_notice
        await asyncio.Event().wait()


OLGA = User(pk=7, username="olga")
TOKEN = token_credential("nexus_abc")
WATCHED = Watched(TOKEN, "7", "abc")


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    door = Door()
    door.users[TOKEN] = OLGA
    monkeypatch.setattr(consumer_module, "standing_of", door.standing_of)
    monkeypatch.setattr(consumer_module, "user_of", door.user_of)
    monkeypatch.setattr(consumer_module, "_may_view", door.may)
    monkeypatch.setattr(consumer_module, "_refusal_of", door.refusal_of)
    monkeypatch.setattr(consumer_module, "places", lambda: door.places)
    monkeypatch.setattr(consumer_module, "access_watch", lambda: door.watch)
    yield door
    assert not door.places._held


@pytest.fixture
async def watched_door(door: Door) -> Any:
    door.watch = AccessWatch(door.refusals, door.heard)
    yield door
    await door.watch.close()


class TestWhoAsks:
    """Claims, and what they lead to."""

    async def seen(self, server: Server) -> Any:
        """How the connection was closed: the code and the reason."""
        await server.has_sent("accept", "close")
        await server.disconnect()
        return server.sent[1]["code"], server.sent[1]["reason"]

    async def tell_user(self, connection: Connection) -> Closing:
        return Closing(CloseCode.DONE, str(connection.user))

    async def test_without_a_claim_nothing_is_read(self, door: Door) -> None:
        assert await self.seen(Server(self.tell_user)) == (1000, "AnonymousUser")
        assert door.reads == 0

    @pytest.mark.parametrize("claim", [TokenClaim("nexus_abc"), TicketClaim("t1cket")])
    async def test_token_or_ticket_that_holds_gives_its_user(
        self, door: Door, claim: Claim
    ) -> None:
        door.tickets["t1cket"] = Standing(TOKEN)
        assert await self.seen(Server(self.tell_user, claim=claim)) == (1000, "olga")

    @pytest.mark.parametrize(
        "claim", [TokenClaim("nexus_x"), TokenClaim(""), TicketClaim("t1cket")]
    )
    async def test_token_or_ticket_that_does_not_is_4401_and_the_channel_hears_nothing(
        self, door: Door, claim: Claim
    ) -> None:
        code, reason = await self.seen(Server(self.tell_user, claim=claim))
        assert code == 4401
        assert reason.startswith("the token or ticket is not valid")

    async def test_ticket_is_worth_no_more_than_what_it_was_asked_with(self, door: Door) -> None:
        door.tickets["t1cket"] = Standing(token_credential("revoked meanwhile"))
        claim = TicketClaim("t1cket")
        assert (await self.seen(Server(self.tell_user, claim=claim)))[0] == 4401

    async def test_session_that_has_ended_makes_its_caller_anonymous(self, door: Door) -> None:
        server = Server(self.tell_user, claim=SessionClaim("ended"))
        assert await self.seen(server) == (1000, "AnonymousUser")

    @pytest.mark.parametrize(
        ("offered", "selected"),
        [([], None), (["graphql"], None), (["nexus", "ticket.t1cket"], "nexus"),
         (["ticket.t1cket", "nexus"], "nexus"), (["ticket.t1cket"], None)],
    )  # fmt: skip
    async def test_our_subprotocol_alone_is_selected(
        self, door: Door, offered: list[str], selected: str | None
    ) -> None:
        server = Server(self.tell_user, subprotocols=offered)
        await self.seen(server)
        assert server.sent[0]["subprotocol"] == selected

    async def test_failing_database_is_an_internal_error(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(credential: Credential) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(consumer_module, "user_of", fail)
        claim = TokenClaim("nexus_abc")
        assert (await self.seen(Server(self.tell_user, claim=claim)))[0] == 1011


async def view(connection: Connection) -> Closing:
    """What the channel does, without its stream."""
    connection.place_among_viewers("abc")
    if (code := await connection.refusal_to_view("abc")) is not None:
        return Closing(code, code.meaning)
    await connection.heartbeats.send("begun")
    await asyncio.Event().wait()
    raise AssertionError


class TestMayView:
    """Who may view what, and for how long."""

    @pytest.mark.parametrize(("may_view", "expected"), [(True, "send"), (False, "close")])
    async def test_anonymous_is_asked_about_and_never_watched(
        self, door: Door, may_view: bool, expected: str
    ) -> None:
        door.may_view = may_view
        server = Server(view)
        await server.has_sent("accept", expected)
        if not may_view:
            assert server.sent[1]["code"] == 4401
        await server.disconnect()

    async def test_user_is_watched_before_being_asked_about(self, watched_door: Door) -> None:
        stood: list[Watched] = []

        async def refusal_of(watched: Watched) -> CloseCode | None:
            stood.extend(*watched_door.watch._watched.values())
            return await watched_door.refusal_of(watched)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(consumer_module, "_refusal_of", refusal_of)
            server = Server(view, claim=TokenClaim("nexus_abc"))
            await server.has_sent("accept", "send")
        assert stood == [WATCHED]
        await server.disconnect()
        assert not watched_door.watch._watched

    @pytest.mark.parametrize("code", [CloseCode.NOT_FOUND, CloseCode.NOT_AUTHENTICATED])
    async def test_user_who_may_not_is_told_why_and_not_watched_on(
        self, watched_door: Door, code: CloseCode
    ) -> None:
        watched_door.refused[WATCHED] = code
        server = Server(view, claim=TokenClaim("nexus_abc"))
        await server.has_sent("accept", "close")
        assert server.sent[1]["code"] == code.code
        assert not watched_door.watch._watched
        await server.disconnect()

    @pytest.mark.parametrize(("bound_to", "sent"), [("abc", "send"), ("other", "close")])
    async def test_ticket_for_another_execution_shows_nothing_of_this_one(
        self, watched_door: Door, bound_to: str, sent: str
    ) -> None:
        watched_door.tickets["t1cket"] = Standing(TOKEN, bound_to)
        server = Server(view, claim=TicketClaim("t1cket"))
        await server.has_sent("accept", sent)
        if sent == "close":
            assert server.sent[1]["code"] == 4404
            assert watched_door.asked == []
        await server.disconnect()

    async def test_access_that_ends_ends_the_connection_with_the_code(
        self, watched_door: Door
    ) -> None:
        server = Server(view, claim=TokenClaim("nexus_abc"))
        await server.has_sent("accept", "send")
        watched_door.refused[WATCHED] = CloseCode.NOT_FOUND
        watched_door.hear(["7"])
        await server.has_sent("accept", "send", "close")
        assert server.sent[2]["code"] == 4404
        await server.disconnect()

    async def test_nothing_is_sent_after_the_no_even_if_the_cancellation_is_lost(
        self, watched_door: Door
    ) -> None:
        begun, attempts = asyncio.Event(), 0

        async def deaf(connection: Connection) -> Closing:
            nonlocal attempts
            await view_once(connection)
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                attempts += 1
            await connection.heartbeats.send("must not be seen")
            raise AssertionError

        async def view_once(connection: Connection) -> None:
            assert await connection.refusal_to_view("abc") is None

        server = Server(deaf, claim=TokenClaim("nexus_abc"))
        await begun.wait()
        watched_door.refused[WATCHED] = CloseCode.NOT_AUTHENTICATED
        watched_door.hear(None)
        await server.has_sent("accept", "close")
        assert (server.sent[1]["code"], attempts) == (4401, 1)
        await server.disconnect()

    async def test_reader_who_stalls_is_closed_without_the_message_that_waits(
        self, watched_door: Door
    ) -> None:
        waiting = asyncio.Event()

        class Stalled(Server):
            async def _send(self, message: dict[str, Any]) -> None:
                if message["type"] == "websocket.send":
                    waiting.set()
                    await asyncio.Event().wait()
                await super()._send(message)

        server = Stalled(view, claim=TokenClaim("nexus_abc"))
        await waiting.wait()
        watched_door.refused[WATCHED] = CloseCode.NOT_FOUND
        watched_door.hear(["7"])
        await server.has_sent("accept", "close")
        await server.disconnect()


class TestPlaces:
    """Each limit, and when a place is given back."""

    async def test_process_that_is_full_refuses_before_anything_is_read(self, door: Door) -> None:
        async with AsyncExitStack() as opened:
            for number in range(3):
                server = Server(Life(), client=[f"10.0.0.{number}", 1])
                await server.has_sent("accept")
                opened.push_async_callback(server.disconnect)
            full = Server(Life(), claim=TokenClaim("nexus_abc"))
            await full.has_sent("accept", "close")
            assert full.sent[1]["code"] == 4429
            assert full.sent[1]["reason"] == (
                "too many connections: this server process may have 3"
            )
            assert door.reads == 0
            await full.disconnect()

    @pytest.mark.parametrize(
        ("claim", "reason"),
        [
            (None, "too many connections: this address without a login may have 2"),
            (TokenClaim("nexus_abc"), "too many connections: this user may have 2"),
        ],
    )
    async def test_user_or_address_that_has_its_share_is_refused_until_one_leaves(
        self, door: Door, claim: Claim | None, reason: str
    ) -> None:
        first, second = Life(), Life()
        servers = [Server(life, claim=claim, client=["10.0.0.1", 1]) for life in (first, second)]
        await first.begun.wait()
        await second.begun.wait()
        third = Server(Life(), claim=claim, client=["10.0.0.1", 2])
        await third.has_sent("accept", "close")
        assert (third.sent[1]["code"], third.sent[1]["reason"]) == (4429, reason)
        await third.disconnect()
        await servers.pop().disconnect()
        again = Life()
        servers.append(Server(again, claim=claim, client=["10.0.0.1", 3]))
        await again.begun.wait()
        for server in servers:
            await server.disconnect()

    async def test_execution_that_is_full_refuses(self, door: Door) -> None:
        first = Server(view)
        await first.has_sent("accept", "send")
        second = Server(view)
        await second.has_sent("accept", "close")
        assert second.sent[1]["code"] == 4429
        assert second.sent[1]["reason"] == "too many connections: this execution may have 1"
        await second.disconnect()
        await first.disconnect()

    async def test_place_is_held_until_the_socket_is_gone_and_no_longer(self, door: Door) -> None:
        async def refuse(connection: Connection) -> Closing:
            return DONE

        server = Server(refuse)
        await server.has_sent("accept", "close")
        assert door.places.held(Holder.PROCESS) == 1
        await server.disconnect()
        assert door.places.held(Holder.PROCESS) == 0
        stopped = Server(Life())
        await stopped.has_sent("accept")
        stopped.running.cancel()
        await asyncio.wait([stopped.running])
        assert door.places.held(Holder.PROCESS) == 0


async def test_what_needs_no_waiting_is_sent_at_once_while_the_server_has_room() -> None:
    answers: list[bool] = []
    sender = Sender()

    async def send_two(connection: Connection) -> Closing:
        answers.append(connection.heartbeats.send_now("first"))
        sender.has_room = False
        answers.append(connection.heartbeats.send_now("second"))
        return DONE

    server = Server(send_two, extensions={"websocket.send_now": sender})
    await server.has_sent("accept", "close")
    assert (answers, sender.sent) == ([True, False], ["first"])
    await server.disconnect()


async def test_on_a_server_that_sends_nothing_at_once_everything_waits_its_turn() -> None:
    answers: list[bool] = []

    async def send_one(connection: Connection) -> Closing:
        answers.append(connection.heartbeats.send_now("first"))
        return DONE

    server = Server(send_one)
    await server.has_sent("accept", "close")
    assert answers == [False]
    await server.disconnect()


async def test_who_is_barred_is_sent_nothing_from_that_moment() -> None:
    answers: list[bool] = []
    sender = Sender()
    begun = asyncio.Event()

    async def send_when_barred(connection: Any) -> Closing:
        begun.set()
        connection.bar()
        answers.append(connection.heartbeats.send_now("a secret"))
        return DONE

    server = Server(send_when_barred, extensions={"websocket.send_now": sender})
    async with asyncio.timeout(DEADLINE_SECONDS):
        await begun.wait()
    await server.disconnect()
    assert (answers, sender.sent) == ([False], [])
