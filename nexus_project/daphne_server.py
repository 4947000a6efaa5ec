"""Daphne with what it lacks for many slow readers: `python -m nexus_project.daphne_server`.

Guarantees, beyond Daphne's, for every WebSocket connection:

- `await send(...)` of a data message returns only when the connection's buffer has room, so
  a reader that stalls costs one buffer and one message, and delays nobody else. A `send`
  that is cancelled while it waits has sent nothing.
- `websocket.close` reaches the client with any sendable code and with its `reason`.
- What a client sends is bounded: in size, in messages the application has not read yet,
  and in pings it does not collect the answers of.
- When the server stops, clients get close code 1001 before the process ends.
- No connection is closed for its age alone.

Flags and logging are Daphne's own.
"""

from __future__ import annotations

# Daphne installs Twisted's asyncio reactor when imported: before anything of Twisted.
from daphne.server import Server as DaphneServer  # isort: skip

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.ws_protocol import WebSocketProtocol as DaphneWebSocketProtocol
from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from streaming.close_codes import CloseCode

logger = logging.getLogger(__name__)

CLIENT_MESSAGE_BYTES = 64 * 1024
UNREAD_MESSAGES = 32
CLOSE_SECONDS = 20.0
LEAVE_SECONDS = 3.0
CANCEL_SECONDS = 5.0

NO_CODE_RECEIVED = 1005


class UnsendableCloseCodeError(ValueError):
    """The application asked for a close code that may not travel (RFC 6455, section 7.4)."""

    def __init__(self, code: object) -> None:
        super().__init__(
            f"{code!r} cannot be sent as a close code; send 1000-1003, 1007-1014 or 3000-4999"
        )


def wire_close_code(code: object) -> int:
    """The close code to send for a `websocket.close` message's `code`; none means 1000.

    Raises UnsendableCloseCodeError for what a close frame may not carry.
    """
    if code is None:
        return 1000
    if isinstance(code, int) and (
        1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    ):
        return code
    raise UnsendableCloseCodeError(code)


def wire_close_reason(reason: str | None) -> bytes | None:
    """`reason` as UTF-8 in the 123 bytes a close frame has for it, cut between characters."""
    if not reason:
        return None
    encoded = reason.encode("utf-8", "replace")[:123]
    return encoded.decode("utf-8", "ignore").encode("utf-8")


@implementer(IPushProducer)
class Gate:
    """Open while a transport's send buffer has room; told so as its push producer."""

    def __init__(self, on_open: Callable[[], None] | None = None) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._on_open = on_open

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def opened(self) -> None:
        """Wait for room. Returns at once when there is some, or when the connection is gone."""
        await self._open.wait()

    def pauseProducing(self) -> None:  # noqa: N802
        self._open.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._open.set()
        if self._on_open is not None:
            self._on_open()

    def stopProducing(self) -> None:  # noqa: N802
        self._open.set()


class WebSocketProtocol(DaphneWebSocketProtocol):  # type: ignore[misc]
    """One WebSocket connection with bounds in both directions."""

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self.gate = Gate(on_open=self._answer_ping)
        self._unanswered_ping: bytes | None = None
        self._abort_call: asyncio.TimerHandle | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The HTTP channel that carried the upgrade is still the transport's producer.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self.gate, True)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        if self._abort_call is not None:
            self._abort_call.cancel()
        self.gate.stopProducing()
        try:
            super().connectionLost(reason)
        finally:
            self.gone.set_result(None)

    def dropConnection(self, abort: bool = False) -> None:  # noqa: N802
        super().dropConnection(abort)
        # Autobahn has unregistered the gate: nobody else would open it for a waiting send.
        self.gate.stopProducing()
        # Without an abort Twisted flushes first, which a stalled reader never lets happen.
        if not abort and self._abort_call is None:
            loop = asyncio.get_running_loop()
            self._abort_call = loop.call_later(CLOSE_SECONDS, self.transport.abortConnection)

    # What the application sends

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("type") == "websocket.close" and self.state != self.STATE_CONNECTING:
            self.serverClose(wire_close_code(message.get("code")), message.get("reason"))
        else:
            super().handle_reply(message)

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: N802
        if self.state != self.STATE_OPEN:
            return
        payload = content if binary else content.encode("utf-8")
        # sendMessage would hold our messages to the limit that is meant for the client's.
        self.sendPreparedMessage(self.factory.prepareMessage(payload, binary))

    def serverClose(  # noqa: N802
        self, code: int = CloseCode.GOING_AWAY.code, reason: str | None = None
    ) -> None:
        # sendClose refuses 1001 and 1011, which a server has every right to send.
        self.sendCloseFrame(code=code, reasonUtf8=wire_close_reason(reason))

    # What the client sends

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        if self.state != self.STATE_OPEN:
            return
        if self.application_queue.qsize() >= UNREAD_MESSAGES:
            self.serverClose(
                CloseCode.BAD_REQUEST.code, "too many messages that nothing here reads"
            )
            return
        super().onMessage(payload, isBinary)

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        # RFC 6455, 5.5.3: only the most recent ping needs an answer.
        self._unanswered_ping = payload
        if self.gate.is_open:
            self._answer_ping()

    def _answer_ping(self) -> None:
        payload, self._unanswered_ping = self._unanswered_ping, None
        if payload is not None and self.state == self.STATE_OPEN:
            self.sendPong(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        # A handshake that Autobahn refused never reached the server's books.
        if hasattr(self, "server"):
            super().onClose(wasClean, NO_CODE_RECEIVED if code is None else code, reason)


class Server(DaphneServer):  # type: ignore[misc]
    """Daphne's server whose WebSocket connections are `WebSocketProtocol`s."""

    def __init__(
        self,
        *args: Any,
        websocket_timeout: int = -1,
        websocket_max_message_size: int = CLIENT_MESSAGE_BYTES,
        websocket_max_frame_size: int = CLIENT_MESSAGE_BYTES,
        ready_callable: Callable[[], None] | None = None,
        **kwargs: Any,
    ) -> None:
        self._ports: list[Any] = []
        self._on_ready = ready_callable
        super().__init__(
            *args,
            websocket_timeout=websocket_timeout,
            websocket_max_message_size=websocket_max_message_size,
            websocket_max_frame_size=websocket_max_frame_size,
            ready_callable=self._ready,
            **kwargs,
        )

    def _ready(self) -> None:
        # Called between the making of the factories and the first connection.
        self.ws_factory.protocol = WebSocketProtocol
        self.ws_factory.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=CLOSE_SECONDS)
        if self._on_ready is not None:
            self._on_ready()

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        super().listen_success(port)

    def protocol_disconnected(self, protocol: Any) -> None:
        # A rejected connection may be reaped before its transport is lost.
        if protocol in self.connections:
            super().protocol_disconnected(protocol)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message.get("type") == "websocket.send":
            await protocol.gate.opened()
            if protocol.state != protocol.STATE_OPEN:
                # An application that sends on regardless must still let others run.
                await asyncio.sleep(0)
        await super().handle_reply(protocol, message)

    # The end

    def kill_all_applications(self) -> defer.Deferred[None]:
        """Close every WebSocket with 1001, let applications finish, then cancel the rest."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._leave()))

    async def _leave(self) -> None:
        for port in self._ports:
            port.stopListening()
        sockets = [each for each in self.connections if isinstance(each, WebSocketProtocol)]
        for socket in sockets:
            if socket.state == socket.STATE_OPEN:
                socket.serverClose(CloseCode.GOING_AWAY.code, "the server is stopping")
        applications = [
            details["application_instance"]
            for details in self.connections.values()
            if "application_instance" in details
        ]
        await _ended([*applications, *(each.gone for each in sockets)], LEAVE_SECONDS)
        unfinished = [each for each in applications if not each.done()]
        for application in unfinished:
            application.cancel()
        await _ended(unfinished, CANCEL_SECONDS)
        logger.info("Cancelled %d applications that had not ended by themselves", len(unfinished))


async def _ended(futures: Sequence[asyncio.Future[None]], seconds: float) -> None:
    if futures:
        await asyncio.wait(futures, timeout=seconds)


class CommandLineInterface(DaphneCommandLineInterface):  # type: ignore[misc]
    """Daphne's command line with our server and our defaults."""

    description = "Nexus' HTTP and WebSocket server: Daphne with back-pressure"
    server_class = Server

    def __init__(self) -> None:
        super().__init__()
        self.parser.prog = "python -m nexus_project.daphne_server"
        self.parser.set_defaults(
            websocket_timeout=-1,
            websocket_max_message_size=CLIENT_MESSAGE_BYTES,
            websocket_max_frame_size=CLIENT_MESSAGE_BYTES,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; exits 1 when an address cannot be bound."""
    CommandLineInterface().run(list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main()
