"""What a turn of the event loop writes to a connection, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nexus_project.web.flushing import FlushedConnection


class TwistedConnection:
    """A connection as far as Twisted's writing goes: `room` is how many bytes are taken."""

    def __init__(self, room: int = 1_000) -> None:
        self.connected = 1
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []
        self.room = room
        self.taken: list[bytes] = []
        self.asked_for_room: list[bool] = []
        self.aborted = False
        self.at_writing: Callable[[], Any] = lambda: None

    def write(self, data: bytes) -> None:
        self._tempDataBuffer.append(data)
        self.startWriting()

    def startWriting(self) -> None:  # noqa: N802 - Twisted's name
        self.asked_for_room.append(True)

    def stopWriting(self) -> None:  # noqa: N802 - Twisted's name
        self.asked_for_room.append(False)

    def doWrite(self) -> Any:  # noqa: N802 - Twisted's name
        unsent = self.dataBuffer + b"".join(self._tempDataBuffer)
        self._tempDataBuffer = []
        self.taken.append(unsent[: self.room])
        self.dataBuffer = unsent[self.room :]
        if not self.dataBuffer:
            self.stopWriting()
        return self.at_writing()

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = True


class Connection(FlushedConnection, TwistedConnection):
    """Twisted's, flushed."""


def in_turns(*turns: Callable[[], Any]) -> None:
    async def lived() -> None:
        for turn in turns:
            turn()
            await asyncio.sleep(0)

    asyncio.run(lived())


def test_what_one_turn_writes_is_sent_as_one_and_nobody_is_asked_for_room() -> None:
    connection = Connection()

    def write_two() -> None:
        connection.write(b"a")
        connection.write(b"b")

    in_turns(write_two, lambda: connection.write(b"c"))
    assert connection.taken == [b"ab", b"c"]
    assert connection.asked_for_room == []


def test_what_is_not_taken_waits_for_room_and_what_comes_meanwhile_behind_it() -> None:
    connection = Connection(room=1)
    in_turns(lambda: connection.write(b"abc"), lambda: connection.write(b"d"))
    assert connection.taken == [b"a"]
    assert connection.asked_for_room == [True]
    connection.room = 10
    in_turns(connection.doWrite, lambda: connection.write(b"e"))
    assert connection.taken == [b"a", b"bcd", b"e"]
    assert connection.asked_for_room == [True, False]


def test_end_that_writing_meets_is_the_reactors() -> None:
    connection = Connection()
    connection.at_writing = lambda: ConnectionResetError()
    in_turns(lambda: connection.write(b"a"))
    assert connection.asked_for_room == [True]


def test_connection_lost_within_the_turn_is_not_written_to() -> None:
    connection = Connection()

    def write_and_lose() -> None:
        connection.write(b"a")
        connection.connected = 0

    in_turns(write_and_lose)
    assert connection.taken == []
    assert connection.asked_for_room == []


def test_failure_of_one_connection_ends_that_one_alone(caplog: pytest.LogCaptureFixture) -> None:
    failing, other = Connection(), Connection()
    failing.at_writing = lambda: 1 / 0

    def write_to_both() -> None:
        failing.write(b"a")
        other.write(b"b")

    in_turns(write_to_both)
    assert failing.aborted
    assert not other.aborted
    assert other.taken == [b"b"]
    assert "ZeroDivisionError" in caplog.text


def test_what_is_written_while_flushing_is_sent_a_turn_later() -> None:
    connection = Connection()

    def write_once_more() -> None:
        connection.at_writing = lambda: None
        connection.write(b"b")

    connection.at_writing = write_once_more
    in_turns(lambda: connection.write(b"a"), lambda: None)
    assert connection.taken == [b"a", b"b"]
