"""Silence never lasts longer than the interval, whatever a connection waits for."""

import asyncio
import json

import pytest

from executions.identifiers import EventId
from streaming.heartbeats import Heartbeats
from tests.unit.virtual_time import run

INTERVAL = 30.0


class Sent:
    """What was sent, and when; sending may take its time."""

    def __init__(self, send_seconds: float = 0) -> None:
        self.at: list[tuple[float, str]] = []
        self._send_seconds = send_seconds
        self.has_room = not send_seconds
        self.heartbeats = Heartbeats(self._send, INTERVAL, self._send_now)

    async def _send(self, text: str) -> None:
        await asyncio.sleep(self._send_seconds)
        self.at.append((asyncio.get_running_loop().time(), text))

    def _send_now(self, text: str) -> bool:
        if self.has_room:
            self.at.append((asyncio.get_running_loop().time(), text))
        return self.has_room


async def after(seconds: float, result: str = "read") -> str:
    await asyncio.sleep(seconds)
    return result


def test_reading_that_is_quick_gets_none() -> None:
    async def scenario() -> None:
        sent = Sent()
        assert await sent.heartbeats.while_waiting(after(29)) == "read"
        assert sent.at == []

    run(scenario())


def test_reading_that_is_slow_gets_one_each_interval_without_an_event() -> None:
    async def scenario() -> None:
        sent = Sent()
        assert await sent.heartbeats.while_waiting(after(100)) == "read"
        assert [at for at, _ in sent.at] == [30, 60, 90]
        for _, text in sent.at:
            message = json.loads(text)
            assert message["type"] == "heartbeat"
            assert "event_id" not in message

    run(scenario())


def test_silence_goes_on_from_one_reading_to_the_next_until_something_is_sent() -> None:
    async def scenario() -> None:
        sent = Sent()
        await sent.heartbeats.while_waiting(after(20))
        assert sent.heartbeats.due_in_seconds == 10
        await sent.heartbeats.while_waiting(after(15))
        await sent.heartbeats.send("a message")
        assert sent.heartbeats.due_in_seconds == 30
        await sent.heartbeats.while_waiting(after(29))
        assert [at for at, _ in sent.at] == [30, 35]

    run(scenario())


@pytest.mark.parametrize("has_room", [True, False])
def test_what_is_sent_at_once_ends_the_silence_and_what_is_not_does_not(has_room: bool) -> None:
    async def scenario() -> None:
        sent = Sent()
        sent.has_room = has_room
        await asyncio.sleep(20)
        assert sent.heartbeats.send_now("a message") is has_room
        assert len(sent.at) == has_room
        assert sent.heartbeats.due_in_seconds == (30 if has_room else 10)

    run(scenario())


def test_overdue_heartbeat_is_due_at_once() -> None:
    async def scenario() -> None:
        sent = Sent()
        await asyncio.sleep(100)
        assert sent.heartbeats.due_in_seconds == 0

    run(scenario())


def test_heartbeat_names_the_event_caught_up_to() -> None:
    async def scenario() -> None:
        sent = Sent()
        await sent.heartbeats.beat(EventId(7, 3))
        assert json.loads(sent.at[0][1])["event_id"] == "7-3"

    run(scenario())


def test_failure_of_the_reading_is_raised() -> None:
    async def failing() -> None:
        await asyncio.sleep(40)
        raise LookupError("away")

    async def scenario() -> None:
        with pytest.raises(LookupError, match="away"):
            await Sent().heartbeats.while_waiting(failing())

    run(scenario())


def test_client_that_does_not_take_the_heartbeat_delays_the_result_but_gets_it() -> None:
    async def scenario() -> None:
        sent = Sent(send_seconds=50)
        assert await sent.heartbeats.while_waiting(after(40)) == "read"
        assert asyncio.get_running_loop().time() == 80

    run(scenario())


@pytest.mark.parametrize("seconds", [10, 35])
def test_cancelled_waiting_ends_the_reading_before_it_ends_itself(seconds: float) -> None:
    ended = []

    async def reading() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        waiting = asyncio.create_task(Sent(send_seconds=10).heartbeats.while_waiting(reading()))
        await asyncio.sleep(seconds)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended == [seconds + 1]

    run(scenario())
