"""A WebSocket connection with bounds in both directions, and with close reasons."""

from __future__ import annotations

import asyncio
from time import time
from typing import Any, Final

from autobahn.websocket.protocol import PreparedMessage, TrafficStats
from daphne.ws_protocol import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol as DaphneWebSocketProtocol

from nexus_project.web.gate import GONE, Gate, taken_bytes
from streaming.close_codes import CloseCode

CLIENT_MESSAGE_BYTES: Final = 64 * 1024
UNREAD_MESSAGES: Final = 32
FRAGMENTS: Final = 1024
"""Frames of one message: some may be empty, so that their bytes tell nothing."""

PARSED_AT_ONCE: Final = 64
"""Heads and payloads of frames that are parsed of what one client sends, before others' turn."""

NEXT_TURN_SECONDS: Final = 0.1
"""A client that sends more frames than that is read on after so long."""

CLOSE_SECONDS: Final = 20.0
"""How long a client has to answer a close."""

STALLED_CLOSE_SECONDS: Final = 5.0
"""The same, for one that takes nothing."""

NO_CODE_RECEIVED: Final = 1005

GOING_AWAY_REASON: Final = "the server is stopping"


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


_uncounted: Final = TrafficStats()  # type: ignore[no-untyped-call]
"""Shared by all connections, and so meaningless: what they sent is counted elsewhere."""

_framed: tuple[str, bytes] = ("", b"\x81\0")


def _frame(text: str) -> bytes:
    """The frame of a text; the same text for many viewers is framed once."""
    global _framed
    framed_text, frame = _framed
    if framed_text is not text:
        frame = PreparedMessage(text.encode(), False, False, True).payloadHybi
        _framed = (text, frame)
    return frame


class WebSocketProtocol(DaphneWebSocketProtocol):  # type: ignore[misc]
    """One WebSocket connection."""

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self.gate = Gate(
            lambda: taken_bytes(self.transport), self._close_stalled, self._answer_ping
        )
        self._unanswered_ping: bytes | None = None
        self._fragments = 0
        self._next_turn: asyncio.TimerHandle | None = None
        self._abort_call: asyncio.TimerHandle | None = None
        # The HTTP channel that carried the upgrade is still the transport's producer.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self.gate, True)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        for call in (self._abort_call, self._next_turn):
            if call is not None:
                call.cancel()
        self.gate.stopProducing()
        super().connectionLost(reason)
        # What refers to itself would stay until garbage is looked for, 30 KB for each that left.
        self.gate = GONE
        self.is_closed = None

    def dropConnection(self, abort: bool = False) -> None:  # noqa: N802
        super().dropConnection(abort)
        # Autobahn has unregistered the gate: nobody else would open it for a waiting send.
        self.gate.stopProducing()
        # Without an abort Twisted flushes first, which a stalled reader never lets happen.
        if not abort:
            self._abort_after(CLOSE_SECONDS)

    def check_timeouts(self) -> None:
        if self.state == self.STATE_OPEN and self._has_no_timeout_yet():
            return
        if self.state != self.STATE_CONNECTING:
            super().check_timeouts()
        elif (
            hasattr(self, "handshake_deferred")
            and self.duration() > self.server.websocket_connect_timeout
        ):
            # Daphne would answer 403, which tells a client that only came too early to stop.
            deferred = self.handshake_deferred
            del self.handshake_deferred
            deferred.errback(ConnectionDeny(code=503, reason="The server is too busy"))

    def _has_no_timeout_yet(self) -> bool:
        # What nearly all connections are asked in vain, every other second, is to cost little.
        ends_by_age = self.server.websocket_timeout >= 0
        return not ends_by_age and bool(time() - self.last_ping <= self.server.ping_interval)

    def failHandshake(  # noqa: N802
        self,
        reason: str,
        code: int = 400,
        responseHeaders: Any = None,  # noqa: N803
    ) -> None:
        if reason.startswith("duplicate protocol"):
            # Autobahn quotes it, in the log too: perhaps a ticket that is still good.
            reason = "a subprotocol is offered twice"
        super().failHandshake(reason, code, responseHeaders)

    def onOpen(self) -> None:  # noqa: N802
        super().onOpen()
        # Read for the handshake alone, by Autobahn and Daphne, and kept for ever otherwise.
        self.http_headers = self.request.headers = {}
        self.http_request_data = self.http_response_data = b""
        del self.clean_headers
        self.trafficStats = _uncounted
        if self.server.is_leaving:
            self.serverClose(CloseCode.GOING_AWAY.code, GOING_AWAY_REASON)

    # What the application sends

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("type") == "websocket.close" and self.state != self.STATE_CONNECTING:
            self.serverClose(wire_close_code(message.get("code")), message.get("reason"))
        else:
            super().handle_reply(message)

    def serverAccept(self, subprotocol: str | None = None) -> None:  # noqa: N802
        # The client may have been denied meanwhile.
        if hasattr(self, "handshake_deferred"):
            super().serverAccept(subprotocol)

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: N802
        if self.state != self.STATE_OPEN:
            return
        if binary:
            # sendMessage would hold our messages to the limit that is meant for the client's.
            self.sendPreparedMessage(self.factory.prepareMessage(content, True))
        else:
            self._write(_frame(content))

    def send_now(self, text: str) -> bool:
        """Send a text message if there is room for it; whether it was sent."""
        if self.state != self.STATE_OPEN or not self.gate.is_open:
            return False
        self._write(_frame(text))
        return True

    def _write(self, frame: bytes) -> None:
        if self.send_queue:
            self.sendData(frame)
        else:
            # As sendData, which composes a log line each time, whether it is wanted or not.
            self.transport.write(frame)

    def serverClose(  # noqa: N802
        self, code: int = CloseCode.GOING_AWAY.code, reason: str | None = None
    ) -> None:
        # sendClose refuses 1001 and 1011, which a server has every right to send.
        self.sendCloseFrame(code=code, reasonUtf8=wire_close_reason(reason))

    def _close_stalled(self) -> None:
        if self.state == self.STATE_OPEN:
            self.serverClose(CloseCode.TOO_SLOW.code, CloseCode.TOO_SLOW.meaning)
        self._abort_after(STALLED_CLOSE_SECONDS)

    def _abort_after(self, seconds: float) -> None:
        if self._abort_call is None:
            loop = asyncio.get_running_loop()
            self._abort_call = loop.call_later(seconds, self.transport.abortConnection)

    # What the client sends

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self.state == self.STATE_CONNECTING and hasattr(self, "handshake_deferred"):
            # Before it is answered, a client has nothing to say (RFC 6455, 4.1), and Autobahn
            # would keep all of it.
            self.dropConnection(abort=True)
        else:
            super().dataReceived(data)

    def consumeData(self) -> None:  # noqa: N802
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        if self._next_turn is not None:
            return
        for _ in range(PARSED_AT_ONCE):
            if not self.processData() or self.state == self.STATE_CLOSED:
                return
        self.transport.pauseProducing()
        loop = asyncio.get_running_loop()
        self._next_turn = loop.call_later(NEXT_TURN_SECONDS, self._consume_more)

    def _consume_more(self) -> None:
        self._next_turn = None
        self.transport.resumeProducing()
        self.consumeData()

    def onMessageBegin(self, isBinary: bool) -> None:  # noqa: N802, N803
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:  # noqa: N802
        super().onMessageFrameBegin(length)
        self._fragments += 1
        if self._fragments > FRAGMENTS and not self.failedByMe:
            self._max_message_size_exceeded(
                self._fragments, FRAGMENTS, f"a message has at most {FRAGMENTS} fragments"
            )

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

    def _sendAutoPing(self) -> None:  # noqa: N802
        # Daphne asks for one each interval. Were an earlier one still unanswered, Autobahn
        # would lose hold of its timer, and drop a client that answers late but in time.
        if self.autoPingTimeoutCall is None:
            super()._sendAutoPing()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        # A handshake that Autobahn refused never reached the server's books.
        if hasattr(self, "server"):
            super().onClose(wasClean, NO_CODE_RECEIVED if code is None else code, reason)
