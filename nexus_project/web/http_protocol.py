"""HTTP on a connection, with a bound on what a client may send, hold and take its time for."""

from __future__ import annotations

import asyncio
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from daphne.http_protocol import WebRequest, http

from nexus_project.web.gate import Gate, taken_bytes

if TYPE_CHECKING:
    from nexus_project.daphne_server import Server

HEAD_SECONDS: Final = 10.0
"""From a connection's beginning, or a request's first byte, to the end of its head."""

BODY_SECONDS: Final = 30.0
"""From the end of a request's head to the end of its body."""

BODY_BYTES: Final = 2_621_440
"""The largest body of a request: as much as Django takes (DATA_UPLOAD_MAX_MEMORY_SIZE)."""

ALL_BODIES_BYTES: Final = 64 * 1024 * 1024
"""The bodies of all requests that a process holds at once; they are held in memory."""

LINGER_SECONDS: Final = 2.0
"""How long a client that was refused may go on sending before it is cut off.

Were it cut off at once, it could not read why.
"""


class Bodies:
    """How much the bodies of all requests of a process hold."""

    def __init__(self) -> None:
        self.held_bytes = 0


class Channel(http.HTTPChannel):  # type: ignore[misc]
    """A connection that speaks HTTP/1.1, until it is closed or becomes a WebSocket."""

    def connectionMade(self) -> None:  # noqa: N802
        self._server: Server = self.factory.server
        self._deadline: asyncio.TimerHandle | None = None
        self.refused = False
        self.gate = Gate(partial(taken_bytes, self.transport), self.transport.abortConnection)
        self.requestFactory = Request
        super().connectionMade()
        self._server.channels.add(self)
        self._server.entrance.waiting[self] = None
        self._expect_within(HEAD_SECONDS)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self._expect_nothing()
        self._server.channels.discard(self)
        self._server.entrance.waiting.pop(self, None)
        self.gate.stopProducing()
        super().connectionLost(reason)

    def make_room(self) -> None:
        self.transport.abortConnection()

    def leave(self) -> None:
        """End the connection: at once where nothing is asked, else with the answer."""
        if not self.requests:
            self.loseConnection()

    def refuse(self, status: bytes) -> None:
        """Answer with a status, and read no more of the request."""
        self.refused = True
        self._expect_nothing()
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(LINGER_SECONDS, self.transport.abortConnection)

    # What the client sends

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self.refused:
            return
        if self._deadline is None and not self._handlingRequest:
            self._expect_within(HEAD_SECONDS)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:  # noqa: N802
        if self.length is not None and self.length > BODY_BYTES:
            self.refuse(b"413 Content Too Large")
            return
        self._expect_within(BODY_SECONDS)
        super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        if not self.refused:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:  # noqa: N802
        if self.refused:
            return
        self._expect_nothing()
        self._server.entrance.waiting.pop(self, None)
        super().allContentReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:  # noqa: N802
        persistent: bool = super().checkPersistence(request, version)
        if persistent and self._server.is_leaving:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return persistent

    # What it is answered

    def requestDone(self, request: Any) -> None:  # noqa: N802
        if self._server.is_leaving or (self._waitingForTransport and self._dataBuffer):
            # Who asks on without taking the answers would have them all piled up here.
            self.persistent = False
        if self.persistent:
            self._server.entrance.waiting[self] = None
        super().requestDone(request)

    def pauseProducing(self) -> None:  # noqa: N802
        super().pauseProducing()
        # Twisted reads on while it handles a request, and Daphne answers at one stroke.
        self._networkProducer.pauseProducing()
        self.gate.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        self.gate.resumeProducing()
        super().resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        self.gate.stopProducing()
        super().stopProducing()

    # Deadlines

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._too_late)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        if self.requests:
            self.refuse(b"408 Request Timeout")
        else:
            self.transport.abortConnection()


class Request(WebRequest):  # type: ignore[misc]
    """One request; its body is held in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bodies: Bodies = self.server.bodies
        self._body_bytes = 0
        # Twisted would parse forms into dictionaries that nobody reads.
        self._parsePOSTFormSubmission = False

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        if self.channel.refused:
            return
        self._body_bytes += len(data)
        self._bodies.held_bytes += len(data)
        if self._body_bytes > BODY_BYTES:
            self.channel.refuse(b"413 Content Too Large")
        elif self._bodies.held_bytes > ALL_BODIES_BYTES:
            self.channel.refuse(b"503 Service Unavailable")
        else:
            super().handleContentChunk(data)
            return
        self.content = BytesIO()
        self._release_body()

    def process(self) -> Any:
        # Daphne would take the root of all paths from any client that names one.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        if not self._is_ascii():
            return self.basic_error(
                400, b"Bad Request", "The path, headers' names and subprotocols must be ASCII"
            )
        upgrade = self.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0]
        if upgrade.lower() != b"websocket":
            return super().process()
        if self._body_bytes:
            return self.basic_error(400, b"Bad Request", "A WebSocket begins without a body")
        if self.server.is_leaving:
            return self.basic_error(503, b"Service Unavailable", "The server is stopping")
        self.server.channels.discard(self.channel)
        upgraded = super().process()
        # The two would keep each other until garbage is looked for.
        self.channel.requests.clear()
        return upgraded

    def _is_ascii(self) -> bool:
        """Whether that is which Daphne decodes as ASCII, failing at anything else."""
        headers = self.requestHeaders
        names = [name for name, _ in headers.getAllRawHeaders()]
        subprotocols = headers.getRawHeaders(b"Sec-WebSocket-Protocol", [])
        return all(text.isascii() for text in (self.uri, *names, *subprotocols))

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self._release_body()
        super().connectionLost(reason)

    def finish(self) -> None:
        self._release_body()
        super().finish()

    def _release_body(self) -> None:
        self._bodies.held_bytes -= self._body_bytes
        self._body_bytes = 0
