"""How many connections a process takes, which of them make room for others, and their buffers."""

from __future__ import annotations

import logging
import resource
import socket
from typing import Any, Final, Protocol

from twisted.internet.error import ConnectionLost

from nexus_project.web.flushing import FlushedConnection

logger = logging.getLogger(__name__)

RESERVED_FILES: Final = 256
"""Open files that are kept for all but clients: the database, Valkey, static files, logs."""

ACCEPTS_AT_ONCE: Final = 16
"""How many connections are accepted before others are served again."""

SEND_BUFFER_BYTES: Final = 128 * 1024
"""What the operating system may hold for one client, which it doubles; else it is megabytes."""

BACKLOG: Final = 1024
"""How many connections may wait to be accepted: viewers return in herds."""


class Waiting(Protocol):
    """A connection on which nothing is asked yet."""

    def make_room(self) -> None:
        """End the connection."""


class Entrance:
    """Counts a process's connections, and keeps them within `limit`.

    At the limit, the connection that has longest asked for nothing makes room for the next;
    where each is asking for something, no more are accepted until one has ended.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.transports: set[Any] = set()
        self.waiting: dict[Waiting, None] = {}
        self._ports: list[Any] = []
        self._is_full = False
        self._is_told = False

    def watch(self, port: Any) -> None:
        """Count the connections of a port that listens."""
        entrance = self

        class Transport(FlushedConnection, port.transport):  # type: ignore[misc]
            """A connection that is counted, and that counts what its client takes."""

            taken_bytes = 0

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                entrance._let_in(self)

            def writeSomeData(self, data: bytes) -> int | ConnectionLost:  # noqa: N802
                written: int | ConnectionLost = super().writeSomeData(data)
                if isinstance(written, int):
                    self.taken_bytes += written
                return written

            def connectionLost(self, *arguments: Any) -> None:  # noqa: N802
                try:
                    super().connectionLost(*arguments)
                finally:
                    entrance._let_out(self)

        accept = port.doRead

        def accept_some() -> None:
            # Twisted raises it without limit while connections come fast.
            port.numberAccepts = ACCEPTS_AT_ONCE
            accept()

        port.doRead = accept_some
        port.transport = Transport
        # What is accepted inherits it.
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._ports.append(port)

    def close(self) -> None:
        """Accept no more."""
        for port in self._ports:
            port.stopListening()
        self._ports.clear()

    def _let_in(self, transport: Any) -> None:
        self.transports.add(transport)
        if len(self.transports) < self.limit:
            return
        if self.waiting:
            self._tell("those that ask for nothing make room")
            longest = next(iter(self.waiting))
            del self.waiting[longest]
            longest.make_room()
        else:
            self._tell("no more are accepted until some have ended")
            self._is_full = True
            for port in self._ports:
                port.pauseProducing()

    def _let_out(self, transport: Any) -> None:
        self.transports.discard(transport)
        if len(self.transports) < self.limit:
            self._is_told = False
            if self._is_full:
                self._is_full = False
                for port in self._ports:
                    port.resumeProducing()

    def _tell(self, what: str) -> None:
        if not self._is_told:
            self._is_told = True
            logger.warning("%d connections are open: %s", len(self.transports), what)


def raise_open_files_limit() -> None:
    """Let this process open as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        logger.warning("The limit of open files stays as it is: %s", error)


def connection_limit() -> int:
    """How many connections this process may hold by its limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(soft - RESERVED_FILES, soft // 2)
