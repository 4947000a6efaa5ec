"""Writing to sockets at the end of a turn of the event loop, without asking first for room.

Twisted asks the operating system to be told of room, writes, and asks to be told no more:
two system calls and a turn of the loop beside the write itself. Nearly always there is room.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

_Connection: Any = object
"""What it is mixed in before: a connection of Twisted's, whatever its kind."""

_unwritten: list[FlushedConnection] = []


class FlushedConnection(_Connection):  # type: ignore[misc]
    """Mixed in before a connection of Twisted's: what a turn writes is sent as one, after it.

    Only what the operating system does not take waits for room, as Twisted has it.
    """

    _is_unwritten = False
    _waits_for_room = False

    def startWriting(self) -> None:  # noqa: N802
        if self._is_unwritten or self._waits_for_room:
            return
        if not _unwritten:
            asyncio.get_running_loop().call_soon(_flush)
        self._is_unwritten = True
        _unwritten.append(self)

    def stopWriting(self) -> None:  # noqa: N802
        if self._waits_for_room:
            self._waits_for_room = False
            super().stopWriting()

    def flush(self) -> None:
        """Send what there is."""
        self._is_unwritten = False
        if not self.connected:
            return
        end: Any = self.doWrite()
        # An end is the reactor's to deal with: it will meet it again.
        if end is not None or self.dataBuffer or self._tempDataBuffer:
            self._waits_for_room = True
            super().startWriting()


def _flush() -> None:
    connections = _unwritten[:]
    _unwritten.clear()
    for connection in connections:
        try:
            connection.flush()
        except Exception:  # one connection's failure is not to be another's
            logger.exception("A connection failed while it was written to")
            connection.abortConnection()
