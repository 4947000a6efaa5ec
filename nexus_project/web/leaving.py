"""The end of a web process: it accepts no more, and its clients leave, few at a time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from nexus_project.web.websocket_protocol import GOING_AWAY_REASON, WebSocketProtocol
from streaming.close_codes import CloseCode

if TYPE_CHECKING:
    from nexus_project.daphne_server import Server

log = structlog.get_logger(__name__)

CLOSES_PER_SECOND: Final = 100.0
"""At least so many clients are told to leave in a second."""

BETWEEN_CLOSES_SECONDS: Final = 0.02

LEAVE_SECONDS: Final = 3.0
"""How long those that were told have to be gone."""

CANCEL_SECONDS: Final = 5.0
"""How long applications have that are cancelled then."""


def spread_seconds(clients: int, drain_seconds: float) -> float:
    """Over how long the clients are told to leave."""
    return min(drain_seconds, clients / CLOSES_PER_SECOND)


async def leave(server: Server, drain_seconds: float) -> None:
    """Close every WebSocket with 1001, answer the requests that are asked, cancel the rest.

    Takes at most drain_seconds + LEAVE_SECONDS + CANCEL_SECONDS.
    """
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    ends_at = began_at + drain_seconds
    log.info("drain_began", connections=len(server.connections))
    server.entrance.close()
    for channel in list(server.channels):
        channel.leave()
    await _tell_all(server, drain_seconds)
    await _until(lambda: not server.entrance.transports, loop.time() + LEAVE_SECONDS)
    await _until(lambda: not server.channels, ends_at)
    unfinished = [
        details["application_instance"]
        for details in server.connections.values()
        if "application_instance" in details and not details["application_instance"].done()
    ]
    for application in unfinished:
        application.cancel()
    await _ended(unfinished, CANCEL_SECONDS)
    seconds = round(loop.time() - began_at, 3)
    log.info("drain_ended", seconds=seconds, cancelled=len(unfinished))


def end_at_the_next_signal() -> None:
    """From here on, SIGTERM and SIGINT end the process at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


async def _tell_all(server: Server, drain_seconds: float) -> None:
    sockets = [each for each in server.connections if isinstance(each, WebSocketProtocol)]
    # In the order of their arrival, all viewers of one execution would come back together.
    random.shuffle(sockets)
    seconds = spread_seconds(len(sockets), drain_seconds)
    loop = asyncio.get_running_loop()
    began_at, told = loop.time(), 0
    while told < len(sockets):
        passed = loop.time() - began_at
        due = len(sockets) if passed >= seconds else 1 + int(len(sockets) * passed / seconds)
        for socket in sockets[told:due]:
            if socket.state == socket.STATE_OPEN:
                socket.serverClose(CloseCode.GOING_AWAY.code, GOING_AWAY_REASON)
        told = due
        await asyncio.sleep(BETWEEN_CLOSES_SECONDS)


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    loop = asyncio.get_running_loop()
    # What it waits for is Twisted's to bring about, and rings no bell.
    while not condition() and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(BETWEEN_CLOSES_SECONDS)


async def _ended(futures: Sequence[asyncio.Future[None]], seconds: float) -> None:
    if futures:
        await asyncio.wait(futures, timeout=seconds)
