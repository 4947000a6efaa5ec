"""Whether a connection takes what is sent to it: room in its send buffer, and stalled readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]

STALL_SECONDS: Final = 20.0
"""How long a client whose send buffer is full may take less than STALL_BYTES."""

STALL_BYTES: Final = 64 * 1024


@implementer(IPushProducer)
class Gate:
    """Open while a transport's send buffer has room; told so as its push producer.

    `on_stalled` is called when the client takes too little while the gate is closed,
    `on_open` each time it opens. `taken_bytes` tells how much the client has taken so far.
    """

    def __init__(
        self,
        taken_bytes: Callable[[], int],
        on_stalled: Callable[[], None],
        on_open: Callable[[], None] | None = None,
    ) -> None:
        # Made when it closes: most never do.
        self._room: asyncio.Event | None = None
        self._taken_bytes = taken_bytes
        self._on_stalled = on_stalled
        self._on_open = on_open
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._room is None

    async def opened(self) -> None:
        """Wait for room. Returns at once when there is some, or when the connection is gone."""
        if self._room is not None:
            await self._room.wait()

    def pauseProducing(self) -> None:  # noqa: N802
        if self._room is None:
            self._room = asyncio.Event()
        if self._next_look is None:
            self._look_later()

    def resumeProducing(self) -> None:  # noqa: N802
        self.stopProducing()
        if self._on_open is not None:
            self._on_open()

    def stopProducing(self) -> None:  # noqa: N802
        if self._room is not None:
            self._room.set()
            self._room = None
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(STALL_SECONDS, self._look, self._taken_bytes())

    def _look(self, taken_before: int) -> None:
        self._next_look = None
        if self._taken_bytes() - taken_before < STALL_BYTES:
            self._on_stalled()
        else:
            self._look_later()


GONE: Final = Gate(lambda: 0, lambda: None)
"""Of every connection that is lost: always open, for who still sends to lose no time."""


def taken_bytes(transport: Any) -> int:
    """How many bytes the operating system has taken from a transport that an `Entrance` made.

    A TLS transport passes the question on to the one below it.
    """
    taken: int = getattr(transport, "taken_bytes", 0)
    return taken
