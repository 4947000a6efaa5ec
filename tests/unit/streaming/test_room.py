"""A room: where it starts, what it delivers, what it lacks, and its shared snapshot."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.room import Room
from streaming.snapshot import SnapshotMessage
from streaming.subscription import Interruption, Subscription
from tests.unit.virtual_time import run, settle


async def no_snapshot(execution_id: str) -> SnapshotMessage | None:
    return None


def at(sequence: int) -> EventId:
    return EventId(1_000 + sequence, sequence)


def event(sequence: int) -> CommittedEvent:
    return CommittedEvent(at(sequence), f"event {sequence}")


class Recorder(Subscription):
    """Keeps what it is offered."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[int] = []
        self.interruptions: list[Interruption] = []

    def offer(self, event: CommittedEvent) -> None:
        self.offered.append(event.event_id.sequence)

    def interrupt(self, why: Interruption) -> None:
        self.interruptions.append(why)


def room_with_viewers(count: int = 1) -> tuple[Room, list[Recorder]]:
    room = Room("the-execution", no_snapshot)
    viewers = [Recorder() for _ in range(count)]
    room.subscriptions.update(viewers)
    return room, viewers


def test_new_room_knows_and_lacks_nothing() -> None:
    room, _ = room_with_viewers()
    assert room.cursor is None
    assert room.newest_known is None
    assert not room.lacks_known_events


def test_room_starts_at_the_first_event_it_is_offered() -> None:
    room, (viewer,) = room_with_viewers()
    assert room.take(event(5))
    assert viewer.offered == [5]
    assert room.cursor == room.newest_known == at(5)
    assert not room.lacks_known_events


def test_room_starts_where_its_first_viewer_has_caught_up_to() -> None:
    room, (viewer,) = room_with_viewers()
    room.start_at(at(3))
    assert room.cursor == room.newest_known == at(3)
    assert room.take(event(3))
    assert viewer.offered == []
    assert room.take(event(4))
    assert viewer.offered == [4]


@pytest.mark.parametrize("later", [1, 9])
def test_further_viewers_do_not_move_a_room_that_has_started(later: int) -> None:
    room, _ = room_with_viewers()
    room.start_at(at(3))
    room.start_at(at(later))
    assert room.cursor == at(3)
    assert room.newest_known == at(max(3, later))
    assert room.must_read == (later > 3)


def test_each_event_goes_once_and_in_order_to_every_viewer() -> None:
    room, viewers = room_with_viewers(3)
    room.start_at(at(0))
    for sequence in (1, 1, 0, 2, 3, 2):
        assert room.take(event(sequence))
    for viewer in viewers:
        assert viewer.offered == [1, 2, 3]


def test_event_after_a_gap_waits_for_what_is_missing() -> None:
    room, (viewer,) = room_with_viewers()
    room.start_at(at(0))
    assert not room.take(event(3))
    assert room.lacks_known_events
    assert (room.cursor, room.newest_known) == (at(0), at(3))
    assert not room.take(event(2))
    assert room.newest_known == at(3)
    for sequence in (1, 2, 3):
        assert room.lacks_known_events
        assert room.take(event(sequence))
    assert not room.lacks_known_events
    assert viewer.offered == [1, 2, 3]


def test_giving_up_goes_on_after_the_newest_and_tells_every_viewer() -> None:
    room, viewers = room_with_viewers(2)
    room.start_at(at(0))
    assert not room.take(event(5))
    room.skip_to_newest_known()
    assert room.cursor == at(5)
    assert not room.lacks_known_events
    assert room.take(event(6))
    for viewer in viewers:
        assert viewer.interruptions == [Interruption.GAP]
        assert viewer.offered == [6]


class TestComparingWithTheHead:
    def test_before_the_room_has_started_it_differs_not(self) -> None:
        room, _ = room_with_viewers()
        assert not room.differs(at(5), room.cursor, at_once=True)
        assert room.newest_known is None

    def test_head_that_was_delivered_differs_not(self) -> None:
        room, _ = room_with_viewers()
        room.start_at(at(5))
        for _ in range(3):
            assert not room.differs(at(5), room.cursor, at_once=True)
            assert not room.differs(at(5), room.cursor, at_once=False)

    def test_after_a_reconnection_what_is_missing_counts_at_once(self) -> None:
        room, _ = room_with_viewers()
        room.start_at(at(5))
        assert room.differs(at(7), room.cursor, at_once=True)
        assert room.newest_known == at(7)
        assert room.lacks_known_events

    def test_otherwise_an_announcement_under_way_has_until_the_next_check(self) -> None:
        room, _ = room_with_viewers()
        room.start_at(at(5))
        assert not room.differs(at(6), room.cursor, at_once=False)
        assert room.newest_known == at(5)
        assert room.differs(at(9), room.cursor, at_once=False)
        assert room.newest_known == at(9)

    def test_announcement_that_came_meanwhile_is_not_missed(self) -> None:
        room, _ = room_with_viewers()
        room.start_at(at(5))
        assert not room.differs(at(6), room.cursor, at_once=False)
        room.take(event(6))
        assert not room.differs(at(7), room.cursor, at_once=False)
        room.take(event(7))
        assert not room.differs(at(7), room.cursor, at_once=False)

    def test_what_was_seen_before_the_room_started_counts_at_the_next_check(self) -> None:
        room, _ = room_with_viewers()
        assert not room.differs(at(7), room.cursor, at_once=False)
        room.start_at(at(5))
        assert room.differs(at(7), room.cursor, at_once=False)


def snapshot(sequence: int) -> SnapshotMessage:
    return SnapshotMessage(at(sequence), at(sequence), {}, f"snapshot {sequence}")


class TestSharedSnapshot:
    def test_viewers_that_come_at_once_share_one_read(self) -> None:
        reads: list[str] = []

        async def read(execution_id: str) -> SnapshotMessage | None:
            reads.append(execution_id)
            await asyncio.sleep(1)
            return snapshot(len(reads))

        async def scenario() -> None:
            room = Room("the-execution", read)
            first = await asyncio.gather(*(room.shared_snapshot() for _ in range(5)))
            assert first == [snapshot(1)] * 5
            assert reads == ["the-execution"]
            assert await room.shared_snapshot() == snapshot(2)

        run(scenario())

    def test_viewer_that_leaves_does_not_take_the_read_from_the_others(self) -> None:
        async def read(execution_id: str) -> SnapshotMessage | None:
            await asyncio.sleep(1)
            return snapshot(1)

        async def scenario() -> None:
            room = Room("the-execution", read)
            leaving, staying = (asyncio.create_task(room.shared_snapshot()) for _ in range(2))
            await settle()
            leaving.cancel()
            assert await staying == snapshot(1)
            assert leaving.cancelled()

        run(scenario())

    def test_failed_read_fails_those_who_share_it_and_no_later_one(self) -> None:
        failures = [ConnectionError("away")]

        async def read(execution_id: str) -> SnapshotMessage | None:
            await asyncio.sleep(1)
            if failures:
                raise failures.pop()
            return snapshot(1)

        async def scenario() -> None:
            room = Room("the-execution", read)
            told = await asyncio.gather(
                *(room.shared_snapshot() for _ in range(3)), return_exceptions=True
            )
            assert [type(each) for each in told] == [ConnectionError] * 3
            assert await room.shared_snapshot() == snapshot(1)

        run(scenario())


@pytest.mark.parametrize("what_runs", [(), ("repair",), ("snapshot",), ("repair", "snapshot")])
def test_closed_room_leaves_nothing_running(what_runs: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async def forever(*_: Any) -> None:
            await asyncio.Event().wait()

        room = Room("the-execution", forever)
        start: Callable[..., asyncio.Task[Any]] = asyncio.create_task
        room.followed = start(forever())
        if "repair" in what_runs:
            room.repair = start(forever())
        waiting = start(room.shared_snapshot()) if "snapshot" in what_runs else None
        await settle()
        room.close()
        await settle()
        if waiting is not None:
            assert waiting.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario())
