"""The hub's decisions: where it reads, whom it repairs, what it keeps, in virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from executions.events import CommittedEvent
from streaming import subscription as subscription_module
from streaming.close_codes import CloseCode
from streaming.hub import CHECK_SECONDS, Hub, View
from streaming.start import Wanted
from streaming.stream import stream_key
from streaming.subscription import Interruption
from tests.unit.streaming.world import (
    EXECUTION_ID,
    HEARTBEAT_SECONDS,
    READ_SECONDS,
    Client,
    World,
    event_id,
    in_a_world,
    patch_event,
)
from tests.unit.virtual_time import settle

CHANNEL = stream_key(EXECUTION_ID)


async def sequences(view: View, seconds: float = HEARTBEAT_SECONDS) -> list[int] | Interruption:
    events = await view.next_events(seconds)
    return events if isinstance(events, Interruption) else [e.event_id.sequence for e in events]


def queue_only(event: CommittedEvent) -> bool:
    return False


def read(events: list[CommittedEvent]) -> list[int]:
    return [event.event_id.sequence for event in events]


def now() -> float:
    return asyncio.get_running_loop().time()


class TestReading:
    def test_stream_is_read_first_and_the_log_is_left_alone(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            world.publish(world.commit())
            assert read(await hub.read_after(EXECUTION_ID, event_id(0))) == [1]
            assert (world.log_reads, world.refills) == (0, [])

        in_a_world(scenario)

    def test_what_the_stream_lacks_is_read_from_the_log_and_filled_in(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            world.commit()
            assert read(await hub.read_after(EXECUTION_ID, event_id(0))) == [1]
            assert (world.log_reads, world.refills) == (1, [EXECUTION_ID])

        in_a_world(scenario)

    def test_what_is_nowhere_is_empty_and_fills_nothing(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            assert await hub.read_after(EXECUTION_ID, event_id(0)) == []
            assert world.refills == []

        in_a_world(scenario)

    @pytest.mark.parametrize("noticed", [True, False])
    def test_without_valkey_the_log_is_read(self, noticed: bool) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            world.publish(world.commit())
            world.lose_valkey()
            world.announcements.connected = not noticed
            assert read(await hub.read_after(EXECUTION_ID, event_id(0))) == [1]
            assert world.log_reads == 1

        in_a_world(scenario)

    @pytest.mark.parametrize("has_heard", [True, False])
    def test_stream_that_was_not_read_is_filled_only_where_valkey_was_lost(
        self, has_heard: bool
    ) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            if has_heard:
                world.announcements.on_connected()
            world.commit()
            world.lose_valkey()
            assert read(await hub.read_after(EXECUTION_ID, event_id(0))) == [1]
            assert world.refills == ([EXECUTION_ID] if has_heard else [])

        in_a_world(scenario)

    def test_stream_that_could_not_be_read_though_valkey_is_heard_is_left_alone(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            world.commit()
            world.lose_valkey()
            world.announcements.connected = True
            assert read(await hub.read_after(EXECUTION_ID, event_id(0))) == [1]
            assert world.refills == []

        in_a_world(scenario)


class TestJoining:
    def test_viewer_may_do_something_while_its_subscription_is_confirmed(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            waited: list[float] = []

            async def while_waiting(waiting: Coroutine[Any, Any, None]) -> None:
                await waiting
                waited.append(now())

            async with hub.view(EXECUTION_ID, while_waiting):
                assert waited == [READ_SECONDS]
                assert world.announcements.followed

        in_a_world(scenario)


class TestRepairing:
    def test_dropped_announcement_is_read_when_the_next_one_shows_the_gap(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.commit()
                world.announce(world.commit()[0].message)
                assert await sequences(view) == [1]
                assert await sequences(view) == [2]
                assert now() < CHECK_SECONDS

        in_a_world(scenario)

    def test_last_announcement_dropped_is_found_within_two_checks(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                committed_at = now()
                world.commit()
                assert await sequences(view) == [1]
                assert now() - committed_at < 2 * CHECK_SECONDS + 5 * READ_SECONDS
                assert world.refills == [EXECUTION_ID]

        in_a_world(scenario)

    def test_after_a_reconnection_it_is_found_at_once(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.lose_valkey()
                world.commit()
                world.restore_valkey([])
                assert await sequences(view) == [1]
                assert now() < 10 * READ_SECONDS

        in_a_world(scenario)

    def test_while_valkey_is_away_each_check_brings_what_was_committed(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.lose_valkey()
                for sequence in (1, 2, 3):
                    world.commit()
                    committed_at = now()
                    assert await sequences(view) == [sequence]
                    assert now() - committed_at < CHECK_SECONDS + 5 * READ_SECONDS

        in_a_world(scenario)

    def test_database_that_was_away_for_a_repair_is_asked_again(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.commit()
                world.database_is_up = False
                world.announce(world.commit()[0].message)
                await asyncio.sleep(3 * CHECK_SECONDS)
                assert view.newest == event_id(2)
                world.database_is_up = True
                assert await sequences(view) == [1]
                assert await sequences(view) == [2]

        in_a_world(scenario)

    def test_fast_reader_is_not_called_slow_however_much_was_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscription_module, "QUEUE_CHARACTERS", 300)
        monkeypatch.setattr("tests.unit.streaming.world.EVENTS_PER_READ", 500)

        async def scenario(world: World, hub: Hub) -> None:
            client = Client()
            watching = asyncio.create_task(client.watch(world, hub, Wanted.NOW))
            await asyncio.sleep(1)
            for _ in range(100):
                world.commit()
            world.commit(finishing=True)
            await watching
            assert client.applied == list(range(1, 103))
            assert client.resyncs == []

        in_a_world(scenario)

    def test_room_that_began_with_an_old_announcement_is_repaired_for_its_viewer(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            for _ in range(4):
                world.commit()
            async with hub.view(EXECUTION_ID) as view:
                world.announce(world.log[1].message)
                view.go_live(event_id(4), queue_only)
                world.kept_from = 4
                world.commit()
                assert await sequences(view) is Interruption.GAP
                assert view.newest == event_id(4)
                assert read(await view.read_after(event_id(4))) == [5]

        in_a_world(scenario)

    def test_what_a_doubted_room_starts_at_is_looked_for_before_the_next_event_comes(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                world.lose_valkey()
                world.restore_valkey(world.stream)
                await asyncio.sleep(CHECK_SECONDS / 4)
                view.go_live(event_id(0), queue_only)
                await asyncio.sleep(CHECK_SECONDS / 4)
                world.database_is_up = False
                began = now()
                world.publish(world.commit())
                assert await sequences(view) == [1]
                assert now() == began

        in_a_world(scenario)

    def test_announcement_of_what_never_was_sends_viewers_to_come_back(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            client = Client()
            watching = asyncio.create_task(client.watch(world, hub, Wanted.NOW))
            await asyncio.sleep(1)
            world.announce(patch_event(999).message)
            await asyncio.sleep(5)
            assert client.codes == [CloseCode.INTERNAL_ERROR]
            assert len(client.resyncs) <= 1
            world.publish(world.commit(finishing=True))
            await watching
            assert client.applied == [1, 2]

        in_a_world(scenario)


class TestHearing:
    def test_silence_means_something_while_announcements_or_checks_work(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                assert view.hears
                world.announcements.connected = False
                assert not view.hears
                await asyncio.sleep(2 * CHECK_SECONDS)
                assert view.hears
                world.database_is_up = False
                await asyncio.sleep(2 * CHECK_SECONDS)
                assert not view.hears
                world.announcements.connected = True
                assert view.hears
                world.announcements.connected = False
                world.database_is_up = True
                await asyncio.sleep(2 * CHECK_SECONDS)
                assert view.hears

        in_a_world(scenario)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"type":"x","event_id":"y"}'])
    def test_announcement_that_is_none_is_ignored(self, text: str) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.announce(text)
                world.publish(world.commit())
                assert await sequences(view) == [1]

        in_a_world(scenario)

    def test_announcement_for_nobody_is_ignored(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            world.announcements.followed.add(CHANNEL)
            world.publish(world.commit())
            assert hub._rooms == {}

        in_a_world(scenario)


class TestComingAndGoing:
    def test_channel_is_followed_from_the_first_viewer_to_the_last(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as first:
                async with hub.view(EXECUTION_ID):
                    assert world.announcements.followed == {CHANNEL}
                assert world.announcements.followed == {CHANNEL}
                first.go_live(event_id(0), queue_only)
                world.publish(world.commit())
                assert await sequences(first) == [1]
            assert world.announcements.followed == set()
            assert hub._rooms == {}

        in_a_world(scenario)

    def test_viewer_that_leaves_while_following_begins_leaves_nothing(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async def look() -> None:
                async with hub.view(EXECUTION_ID):
                    raise AssertionError("it left before")

            looking = asyncio.create_task(look())
            await settle()
            looking.cancel()
            await asyncio.wait([looking])
            assert looking.cancelled()
            assert hub._rooms == {}
            assert world.announcements.followed == set()

        in_a_world(scenario)

    def test_viewer_that_comes_while_another_leaves_gets_its_events(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            for rounds in range(20):
                leaving = hub.view(EXECUTION_ID)
                await leaving.__aenter__()
                coming = hub.view(EXECUTION_ID)
                arrival = asyncio.create_task(coming.__aenter__())
                for _ in range(rounds % 4):
                    await asyncio.sleep(0)
                await leaving.__aexit__(None, None, None)
                view = await arrival
                view.go_live(world.head, queue_only)
                world.publish(world.commit())
                assert await sequences(view) == [world.head.sequence]
                await coming.__aexit__(None, None, None)
                assert hub._rooms == {}

        in_a_world(scenario)

    def test_viewers_that_come_at_once_share_one_snapshot(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            clients = [Client() for _ in range(50)]
            watching = [asyncio.create_task(c.watch(world, hub, Wanted.NOW)) for c in clients]
            await asyncio.sleep(1)
            assert world.snapshots_read == 1
            world.publish(world.commit(finishing=True))
            await asyncio.gather(*watching)

        in_a_world(scenario)

    def test_closed_hub_leaves_no_task_even_under_viewers(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            async with hub.view(EXECUTION_ID) as view:
                view.go_live(event_id(0), queue_only)
                world.commit()
                world.announce(world.commit()[0].message)
                snapshot = asyncio.create_task(view.snapshot())
                await asyncio.sleep(READ_SECONDS / 2)
                await hub.close()
                assert world.announcements.closed
                assert asyncio.all_tasks() <= {asyncio.current_task(), snapshot}
                await asyncio.wait([snapshot])

        in_a_world(scenario)
