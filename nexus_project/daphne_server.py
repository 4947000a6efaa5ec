"""Daphne, for many, slow and hostile clients: `python -m nexus_project.daphne_server`.

Guarantees, beyond Daphne's, for every WebSocket:

- `scope["extensions"]["websocket.send_now"]` is a function that takes a text: it sends it
  and returns True if that needs no waiting, else it returns False and has done nothing.
- `await send(...)` of a data message returns only when the connection's buffer has room, so
  a reader that stalls costs one buffer and one message, and delays nobody else. A `send`
  that is cancelled while it waits has sent nothing.
- A client that takes next to nothing for 20 s is closed with 4408.
- `websocket.close` reaches the client with any sendable code and with its `reason`.
- What a client sends is bounded: in size, in frames a second, in messages the application
  has not read yet, and in pings it does not collect the answers of.
- No connection is closed for its age alone.

And for every connection: requests have a deadline and a bounded size, all connections
together stay below the limit of open files, and when the server stops, it accepts no more,
answers what is asked, and lets WebSockets leave with 1001, few at a time; a second signal
ends it at once.

Flags and logging are Daphne's own.
"""

from __future__ import annotations

# Daphne installs Twisted's asyncio reactor when imported: before anything of Twisted.
from daphne.server import Server as DaphneServer  # isort: skip

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from django.conf import settings
from twisted.internet import defer
from twisted.internet import reactor as _reactor

from nexus_project.exposure import UnsafeExposureError, refuse_unsafe_exposure
from nexus_project.web.entrance import (
    BACKLOG,
    Entrance,
    connection_limit,
    raise_open_files_limit,
)
from nexus_project.web.http_protocol import Bodies, Channel
from nexus_project.web.leaving import end_at_the_next_signal, leave
from nexus_project.web.websocket_protocol import (
    CLIENT_MESSAGE_BYTES,
    CLOSE_SECONDS,
    WebSocketProtocol,
)

DRAIN_SECONDS: Final = 10.0
"""Where the settings have no NEXUS_DRAIN_SECONDS."""

TIMEOUTS_SECONDS: Final = 2
"""How often connections are looked at for timeouts and pings."""

CHECKED_AT_ONCE: Final = 100

PING_SECONDS: Final = 60
"""How often a client is asked whether it is there. What keeps proxies content are heartbeats."""

GARBAGE_THRESHOLDS: Final = (10_000, 5, 100)
"""As of gc.set_threshold().

Measured: a look for garbage among so many new objects takes 1 to 3 ms, mostly, and among those
of eleven such looks 20 to 30. Connections leave none: it is for what cannot be helped.
"""

SWITCH_SECONDS: Final = 0.0001
"""How long a thread that reads from the database may keep the event loop waiting at a time.

Measured: with Python's own 5 ms, comparing 5,000 heads delayed messages by up to 0.5 s.
"""

HANDSHAKE_SPARE_SECONDS: Final = 5.0
"""How much longer Autobahn waits for a handshake than we do, who answer that it took too long."""


reactor: Any = _reactor


class Server(DaphneServer):  # type: ignore[misc]
    """Daphne's server with an entrance, bounded protocols and an orderly end."""

    def __init__(
        self,
        *args: Any,
        websocket_timeout: int = -1,
        ping_interval: int = PING_SECONDS,
        websocket_max_message_size: int = CLIENT_MESSAGE_BYTES,
        websocket_max_frame_size: int = CLIENT_MESSAGE_BYTES,
        ready_callable: Callable[[], None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.entrance = Entrance(connection_limit())
        self.bodies = Bodies()
        self.channels: set[Channel] = set()
        self.is_leaving = False
        self.connections: dict[Any, dict[str, Any]]
        self._ending: set[Any] = set()
        self._on_ready = ready_callable
        super().__init__(
            *args,
            websocket_timeout=websocket_timeout,
            ping_interval=ping_interval,
            websocket_max_message_size=websocket_max_message_size,
            websocket_max_frame_size=websocket_max_frame_size,
            ready_callable=self._ready,
            **kwargs,
        )
        refuse_unsafe_exposure(self.endpoints)
        self.endpoints: list[str] = [_with_backlog(endpoint) for endpoint in self.endpoints]

    def _ready(self) -> None:
        # Called between the making of the factories and the first connection.
        self.http_factory.protocol = Channel
        # HTTP/2 would go by what `Channel` bounds.
        self.http_factory.acceptableProtocols = lambda: [b"http/1.1"]
        self.ws_factory.protocol = WebSocketProtocol
        self.ws_factory.setProtocolOptions(
            failByDrop=False,
            closeHandshakeTimeout=CLOSE_SECONDS,
            openHandshakeTimeout=self.websocket_connect_timeout + HANDSHAKE_SPARE_SECONDS,
        )
        _collect_garbage_less_often()
        if self._on_ready is not None:
            self._on_ready()

    def listen_success(self, port: Any) -> None:
        self.entrance.watch(port)
        super().listen_success(port)

    def protocol_disconnected(self, protocol: Any) -> None:
        # A rejected connection may be reaped before its transport is lost.
        if protocol in self.connections:
            super().protocol_disconnected(protocol)
            self._ending.add(protocol)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "websocket":
            scope["extensions"] = {"websocket.send_now": protocol.send_now}
        queue = super().create_application(protocol, scope)
        application = self.connections.get(protocol, {}).get("application_instance")
        if application is not None:
            application.add_done_callback(lambda _: self._ending.add(protocol))
        return queue

    def application_checker(self) -> None:
        """As Daphne's, which looks at every connection each second, for those that are ending."""
        every = self.connections
        ending = {each: every[each] for each in self._ending if each in every}
        self.connections = dict(ending)
        try:
            super().application_checker()
        finally:
            for reaped in ending.keys() - self.connections.keys():
                del every[reaped]
            # A connection that stays was ended by its application, or waits for it to end.
            self._ending = set(self.connections)
            self.connections = every

    def timeout_checker(self) -> None:
        """As Daphne's, with others' turns between a few connections and the next."""
        self._check_timeouts(list(self.connections))

    def _check_timeouts(self, connections: list[Any]) -> None:
        for protocol in connections[-CHECKED_AT_ONCE:]:
            if protocol in self.connections:
                protocol.check_timeouts()
        del connections[-CHECKED_AT_ONCE:]
        if connections:
            reactor.callLater(0.0, self._check_timeouts, connections)
        else:
            reactor.callLater(TIMEOUTS_SECONDS, self.timeout_checker)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "http.response.body" and message.get("more_body"):
            # What was asked by a client that is gone has no channel.
            if (channel := getattr(protocol, "channel", None)) is not None:
                await channel.gate.opened()
        elif kind == "websocket.send":
            await protocol.gate.opened()
            if protocol.state != protocol.STATE_OPEN:
                # An application that sends on regardless must still let others run.
                await asyncio.sleep(0)
        await super().handle_reply(protocol, message)

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        # What stands behind the `?` may be meant for this server alone.
        path, _, _ = str(details.get("path", "")).partition("?")
        super().log_action(protocol, action, {**details, "path": path})

    def kill_all_applications(self) -> defer.Deferred[None]:
        """Let every client leave, and applications finish; then cancel the rest."""
        self.is_leaving = True
        if self.signal_handlers:
            end_at_the_next_signal()
        drain_seconds = getattr(settings, "NEXUS_DRAIN_SECONDS", DRAIN_SECONDS)
        return defer.Deferred.fromFuture(asyncio.ensure_future(leave(self, drain_seconds)))


def _collect_garbage_less_often() -> None:
    """Look for garbage when there is much, and not among what has been imported.

    Measured: with Python's own thresholds, half of what a herd's connections cost was looking
    for garbage among all objects of the process, again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _with_backlog(endpoint: str) -> str:
    if endpoint.startswith("tcp:") and "backlog=" not in endpoint:
        return f"{endpoint}:backlog={BACKLOG}"
    return endpoint


class CommandLineInterface(DaphneCommandLineInterface):  # type: ignore[misc]
    """Daphne's command line with our server and our defaults."""

    description = "Nexus' HTTP and WebSocket server: Daphne with back-pressure"
    server_class = Server

    def __init__(self) -> None:
        super().__init__()
        self.parser.prog = "python -m nexus_project.daphne_server"
        self.parser.set_defaults(
            websocket_timeout=-1,
            ping_interval=PING_SECONDS,
            websocket_max_message_size=CLIENT_MESSAGE_BYTES,
            websocket_max_frame_size=CLIENT_MESSAGE_BYTES,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; exits 1 when an address cannot be bound, or must not be."""
    raise_open_files_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        CommandLineInterface().run(list(sys.argv[1:] if arguments is None else arguments))
    except UnsafeExposureError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
