"""One WebSocket connection of a discovered channel, and the life of its task.

Accepts before it refuses, so that a browser can read the close code; then sees that there is
a place for the connection and who asks. What the channel does is its handlers'
(`streaming.ws`); this class owns the task they run in.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import cache
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser

from executions.access import may_view
from streaming.access.callers import CLAIM, SUBPROTOCOL, Claim, SessionClaim, standing_of, user_of
from streaming.access.credentials import Credential
from streaming.access.limits import (
    DEFAULT_LIMITS,
    ConnectionLimits,
    ConnectionPlaces,
    Holder,
    Place,
    TooManyConnectionsError,
)
from streaming.access.watch import AccessWatch, Watched, access_watch, refusals_of
from streaming.close_codes import CloseCode
from streaming.connection_record import ConnectionRecord
from streaming.gathered_reads import GatheredReads
from streaming.heartbeats import Heartbeats

CANCEL_AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)

_may_view = database_sync_to_async(may_view, thread_sensitive=False)
_refusal_of = GatheredReads(database_sync_to_async(refusals_of, thread_sensitive=False)).get


class Closing(NamedTuple):
    """How a connection ends: its code, and a reason for people (at most 123 bytes in UTF-8)."""

    code: CloseCode
    reason: str


class Connection(Protocol):
    """What a channel's handlers may do with a connection."""

    heartbeats: Heartbeats
    """Its sender, which owes heartbeats since the connection was accepted."""

    received_messages: int

    @property
    def user(self) -> AbstractUser | AnonymousUser:
        """Who asks, perhaps anonymous."""

    def parameter(self, name: str) -> str:
        """A parameter of the channel's address."""

    def query(self, name: str) -> list[str]:
        """The values of a query parameter, in order; empty where it is not given."""

    async def refusal_to_view(self, execution_id: str) -> CloseCode | None:
        """Why this caller may not view the execution; None if it may.

        If it may, the connection is closed as soon as it may no more, or its credential ends.
        """

    def place_among_viewers(self, execution_id: str) -> None:
        """Count the connection among the execution's; raises TooManyConnectionsError.

        From an `on_connect` it may be left to rise: it says how to close.
        """

    async def end(self, closing: Closing) -> None:
        """Close the connection; what its handlers still do is stopped."""


OnConnect = Callable[[Connection], Awaitable[Closing]]
Handle = Callable[[Connection, str | bytes], Awaitable[None]]


class ChannelConsumer(AsyncWebsocketConsumer):
    """A connection whose handlers are given by `as_asgi(on_connect=…, handle=…)`."""

    def __init__(self, *, on_connect: OnConnect, handle: Handle) -> None:
        super().__init__()
        self._on_connect = on_connect
        self._handle = handle
        self._life: asyncio.Task[None] | None = None
        self._places: list[Place] = []
        self._credential: Credential | None = None
        self._only_execution_id: str | None = None
        self._watch: AccessWatch | None = None
        self._barred = False
        self._record: ConnectionRecord | None = None
        self._server_sends_now: Callable[[str], bool]
        self.user: AbstractUser | AnonymousUser = AnonymousUser()
        self.heartbeats: Heartbeats
        self.received_messages = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # AsyncConsumer's own way has a task more for each connection, and for each message
        # a thread look for old database connections, of which the event loop has none.
        self.scope, self.base_send = scope, send
        try:
            while True:
                message = await receive()
                match message["type"]:
                    case "websocket.connect":
                        await self.connect()
                    case "websocket.receive":
                        await self.receive(message.get("text"), message.get("bytes"))
                    case "websocket.disconnect":
                        await self.disconnect(message["code"])
                        return
        finally:
            # A server that stops cancels this call, without any disconnect.
            try:
                await self._stop_life()
            finally:
                # A client that does not answer the close still costs a socket until here.
                for place in self._places:
                    places().give_back(place)
                if self._record is not None:
                    self._record.end(self.user)
                # It has methods of this object, which would stay until garbage is looked for.
                vars(self).pop("heartbeats", None)

    async def connect(self) -> None:
        offered = self.scope.get("subprotocols", ())
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self._record = ConnectionRecord(self.scope["url_route"]["kwargs"].get("executionId"))
        extensions: dict[str, Any] = self.scope.get("extensions") or {}
        self._server_sends_now = extensions.get("websocket.send_now", _never)
        self.heartbeats = Heartbeats(
            self.send_text, settings.NEXUS_HEARTBEAT_SECONDS, self.send_text_now
        )
        self._life = asyncio.create_task(self._live())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.received_messages += 1
        await self._handle(self, text_data if text_data is not None else bytes_data or b"")

    async def disconnect(self, code: int) -> None:
        if self._record is not None:
            self._record.closed(code, None, by_server=False)
        await self._stop_life()

    def parameter(self, name: str) -> str:
        value: str = self.scope["url_route"]["kwargs"][name]
        return value

    def query(self, name: str) -> list[str]:
        given = parse_qs(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return given.get(name, [])

    async def refusal_to_view(self, execution_id: str) -> CloseCode | None:
        if self._credential is None:
            allowed = await _may_view(self.user, execution_id)
            return None if allowed else CloseCode.NOT_AUTHENTICATED
        if self._only_execution_id not in (None, execution_id):
            return CloseCode.NOT_FOUND
        # First watched, then asked: nothing changes unnoticed in between.
        watched = Watched(self._credential, str(self.user.pk), execution_id)
        self._watch = access_watch()
        self._watch.stand(self, watched)
        return await _refusal_of(watched)

    def place_among_viewers(self, execution_id: str) -> None:
        self._take_place(Holder.EXECUTION, execution_id)

    async def send_text(self, text: str) -> None:
        """Send one message; waits while the client does not read."""
        if self._barred:
            # Cancelled already, which some libraries lose now and then.
            raise asyncio.CancelledError
        await self.send(text_data=text)
        if self._record is not None:
            self._record.messages_sent += 1

    def send_text_now(self, text: str) -> bool:
        """Send one message if the client takes it without waiting; whether it was sent."""
        if self._barred or not self._server_sends_now(text):
            return False
        if self._record is not None:
            self._record.messages_sent += 1
        return True

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        if self._record is not None:
            self._record.closed(code, reason, by_server=True)
        await super().close(code, reason)

    async def end(self, closing: Closing) -> None:
        await self._stop_life()
        await self.close(closing.code.code, closing.reason)

    def bar(self) -> None:
        self._barred = True
        if self._life is not None:
            self._life.cancel()

    async def refuse(self, code: CloseCode) -> None:
        await self.end(Closing(code, code.meaning))

    async def _live(self) -> None:
        try:
            closing = await self._admit_and_serve()
        except TooManyConnectionsError as error:
            closing = Closing(CloseCode.TOO_MANY, str(error))
        except Exception:
            log.exception("connection_failed", path=self.scope["path"])
            closing = Closing(CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.meaning)
        finally:
            if self._watch is not None:
                self._watch.leave(self)
        await self.close(closing.code.code, closing.reason)

    async def _admit_and_serve(self) -> Closing:
        # Before anything is read from the database.
        self._take_place(Holder.PROCESS)
        scope: Any = self.scope
        claim: Claim | None = scope[CLAIM]
        if claim is not None and not await self.heartbeats.while_waiting(self._is_known_by(claim)):
            return Closing(
                CloseCode.NOT_AUTHENTICATED,
                "the token or ticket is not valid: unknown, expired, revoked or used",
            )
        if self._credential is not None:
            self._take_place(Holder.USER, self.user.pk)
        else:
            address = (self.scope.get("client") or (None,))[0]
            self._take_place(Holder.ADDRESS, address)
        if self._record is not None:
            self._record.admitted(self.user)
        return await self._on_connect(self)

    def _take_place(self, holder: Holder, key: Hashable = None) -> None:
        self._places.append(places().take(holder, key))

    async def _is_known_by(self, claim: Claim) -> bool:
        """Find out who asks. A session that has ended makes its caller anonymous, not unknown."""
        standing = await standing_of(claim)
        if standing is None:
            return False
        user = await user_of(standing.credential)
        if user is None:
            return isinstance(claim, SessionClaim)
        self.user = user
        self._credential, self._only_execution_id = standing.credential, standing.execution_id
        return True

    async def _stop_life(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            while not life.done():
                # Once may not be enough: some libraries lose a cancellation now and then.
                life.cancel()
                await asyncio.wait([life], timeout=CANCEL_AGAIN_SECONDS)
            if not life.cancelled() and (error := life.exception()):
                log.error("connection_failed", path=self.scope["path"], exc_info=error)


@cache
def places() -> ConnectionPlaces:
    """The places of this process's connections."""
    return ConnectionPlaces(
        ConnectionLimits(
            process=_limit("NEXUS_CONNECTIONS_PER_PROCESS", DEFAULT_LIMITS.process),
            user=_limit("NEXUS_CONNECTIONS_PER_USER", DEFAULT_LIMITS.user),
            execution=_limit("NEXUS_CONNECTIONS_PER_EXECUTION", DEFAULT_LIMITS.execution),
        )
    )


def _never(text: str) -> bool:
    return False


def _limit(name: str, default: int) -> int:
    limit: int = getattr(settings, name, default)
    return limit
