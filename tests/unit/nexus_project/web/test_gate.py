"""When a connection has room, and when its client counts as stalled."""

from __future__ import annotations

import asyncio

import pytest

from nexus_project.web.gate import STALL_BYTES, STALL_SECONDS, Gate
from tests.unit.virtual_time import run


class Connection:
    """A gate, what its client took, and when it was told to have stalled."""

    def __init__(self) -> None:
        self.taken = 0
        self.stalled_at: list[float] = []
        self.gate = Gate(lambda: self.taken, self._stalled)

    def _stalled(self) -> None:
        self.stalled_at.append(asyncio.get_running_loop().time())


async def test_gate_lets_through_until_the_buffer_is_full_and_again_when_it_has_drained() -> None:
    gate = Connection().gate
    await gate.opened()
    gate.pauseProducing()
    assert not gate.is_open
    waiting = asyncio.ensure_future(gate.opened())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.resumeProducing()
    await asyncio.wait_for(waiting, 1)


async def test_gate_releases_who_waits_when_the_connection_is_lost() -> None:
    gate = Connection().gate
    gate.pauseProducing()
    waiting = asyncio.ensure_future(gate.opened())
    await asyncio.sleep(0)
    gate.stopProducing()
    await asyncio.wait_for(waiting, 1)


def test_client_that_takes_too_little_is_stalled_once() -> None:
    async def scenario() -> None:
        connection = Connection()
        await asyncio.sleep(100)
        connection.taken = 10 * STALL_BYTES
        connection.gate.pauseProducing()
        connection.taken += STALL_BYTES - 1
        await asyncio.sleep(1000)
        assert connection.stalled_at == [100 + STALL_SECONDS]

    run(scenario())


def test_client_that_takes_a_little_in_each_interval_is_slow_but_not_stalled() -> None:
    async def scenario() -> None:
        connection = Connection()
        connection.gate.pauseProducing()
        for _ in range(10):
            await asyncio.sleep(STALL_SECONDS - 0.5)
            connection.taken += 2 * STALL_BYTES
        assert connection.stalled_at == []
        await asyncio.sleep(3 * STALL_SECONDS)
        assert len(connection.stalled_at) == 1

    run(scenario())


@pytest.mark.parametrize("way", ["resumeProducing", "stopProducing"])
def test_open_gate_is_not_watched(way: str) -> None:
    async def scenario() -> None:
        connection = Connection()
        connection.gate.pauseProducing()
        connection.gate.pauseProducing()
        getattr(connection.gate, way)()
        await asyncio.sleep(1000)
        assert connection.stalled_at == []

    run(scenario())
