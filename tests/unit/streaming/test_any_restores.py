"""A database restored to an older state under viewers: each is told, and ends with the truth."""

import asyncio
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming.close_codes import CloseCode
from streaming.hub import CHECK_SECONDS, Hub
from streaming.start import Wanted
from tests.fuzzing.effort import examples
from tests.unit.streaming.test_any_faults import QUEUE_CHARACTERS, Run, Step, live_through, names
from tests.unit.streaming.world import Client, World, document, event_id, in_a_world
from tests.unit.virtual_time import run

TOLD_SECONDS = 3 * CHECK_SECONDS


async def ten_events(world: World) -> None:
    for _ in range(10):
        world.publish(world.commit())
    await asyncio.sleep(1)


class TestTelling:
    @pytest.mark.parametrize("kept", [1, 5, 10])
    @pytest.mark.parametrize("valkey", [True, False])
    def test_viewer_that_is_ahead_is_told_though_nothing_is_written(
        self, kept: int, valkey: bool
    ) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            clients = [Client() for _ in range(20)]
            watching = [asyncio.create_task(c.watch(world, hub, Wanted.NOW)) for c in clients]
            await asyncio.sleep(1)
            await ten_events(world)
            if not valkey:
                world.lose_valkey()
            world.restore_database(kept)
            snapshots = world.snapshots_read
            await asyncio.sleep(TOLD_SECONDS)
            for client in clients:
                assert client.resyncs == ["unknown"]
                assert client.cursor == world.head
                assert client.document == document(kept - 1)
            assert world.snapshots_read - snapshots <= 2, "each read a snapshot of its own"
            world.restore_valkey(world.stream)
            world.publish(world.commit(finishing=True))
            await asyncio.gather(*watching)
            assert all(client.cursor == world.head for client in clients)

        in_a_world(scenario)

    @pytest.mark.parametrize("written", [1, 5, 6, 20])
    @pytest.mark.parametrize("published", [True, False])
    def test_viewer_is_told_whatever_was_written_since(self, written: int, published: bool) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            client = Client()
            watching = asyncio.create_task(client.watch(world, hub, Wanted.NOW))
            await asyncio.sleep(1)
            await ten_events(world)
            world.restore_database(6)
            for _ in range(written):
                committed = world.commit()
                if published:
                    world.publish(committed)
            await asyncio.sleep(TOLD_SECONDS)
            assert client.resyncs == ["unknown"]
            assert client.cursor == world.head
            assert client.document == document(5 + written, timeline=1)
            world.publish(world.commit(finishing=True))
            await watching

        in_a_world(scenario)

    @pytest.mark.parametrize("wanted", [Wanted.NOW, Wanted.FROM_THE_BEGINNING, event_id(3)])
    def test_viewer_that_comes_is_not_shown_what_is_only_in_the_stream(
        self, wanted: Wanted
    ) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            await ten_events(world)
            world.restore_database(6)
            client = Client()
            if not isinstance(wanted, Wanted):
                client.cursor, client.document = wanted, document(3)
            watching = asyncio.create_task(client.watch(world, hub, wanted))
            await asyncio.sleep(1)
            assert client.cursor == event_id(5)
            assert client.resyncs == []
            world.publish(world.commit(finishing=True))
            await watching
            assert client.resyncs == []
            assert client.document == document(6, "completed", 1)

        in_a_world(scenario)

    @pytest.mark.parametrize("cursor", [event_id(6), event_id(10), event_id(500)])
    def test_viewer_that_returns_ahead_is_told(self, cursor: object) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            await ten_events(world)
            world.restore_database(6)
            client = Client()
            client.cursor, client.document = cursor, document(0)  # type: ignore[assignment]
            watching = asyncio.create_task(client.watch(world, hub, Wanted.NOW))
            await asyncio.sleep(1)
            assert client.resyncs == ["unknown"]
            assert client.cursor == event_id(5)
            world.publish(world.commit(finishing=True))
            await watching

        in_a_world(scenario)

    def test_forged_announcement_resyncs_nobody(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            client = Client()
            watching = asyncio.create_task(client.watch(world, hub, Wanted.NOW))
            await asyncio.sleep(1)
            await ten_events(world)
            for forged in (event_id(10, 5), event_id(2, 5), event_id(11, -5)):
                text = world.log[2].message.replace(str(event_id(2)), str(forged))
                world.announce(text)
                await asyncio.sleep(1)
            world.publish(world.commit(finishing=True))
            await watching
            assert client.resyncs == []
            assert client.codes == [CloseCode.DONE]

        in_a_world(scenario)


class TestRemoving:
    def test_viewers_of_a_removed_execution_are_closed_as_not_found(self) -> None:
        async def scenario(world: World, hub: Hub) -> None:
            codes = []

            async def watch(client: Client) -> None:
                codes.append(await client._connect(world, hub, Wanted.NOW))

            watching = [asyncio.create_task(watch(Client())) for _ in range(3)]
            await asyncio.sleep(1)
            await ten_events(world)
            world.is_removed = True
            await asyncio.sleep(TOLD_SECONDS)
            await asyncio.gather(*watching)
            assert codes == [CloseCode.NOT_FOUND] * 3
            assert hub._rooms == {}

        in_a_world(scenario)


class RestoredRun(Run):
    """The same, and the database goes back now and then."""

    async def do_restore_the_database_of_before(self, number: int) -> None:
        self.world.restore_database(number % len(self.world.log))
        self.world.under_way.clear()

    async def heal(self) -> None:
        # who is ahead of a database that nobody writes to is told all the same
        self.world.database_is_up = True
        self.world.restore_valkey(self.world.stream)
        await asyncio.sleep(100)
        for client, _ in self.clients:
            assert client.cursor == self.world.head
        await super().heal()

    def check(self) -> None:
        for client, _ in self.clients:
            assert client.finished
            assert client.cursor == self.world.head


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            [*names, "restore_the_database_of_before", "restore_the_database_of_before",
             "join", "commit_and_publish", "commit_in_silence", "wait"]
        ),
        st.integers(0, 10_000),
    ),
    min_size=3,
    max_size=30,
)  # fmt: skip


AHEAD_OF_ITS_ROOM = [
    Step("lose_valkey", 0),
    Step("commit_and_publish", 1),
    Step("join", 236),
    Step("leave", 0),
    Step("restore_the_database_of_before", 0),
]
"""Who joins with the newest cursor has more than those who wait to hear of it."""

BACK_WHILE_ITS_SNAPSHOT_IS_READ = [
    *[Step("commit_and_publish", 0)] * 3,
    Step("trim_the_log", 3),
    Step("join", 5978),
    Step("commit_and_publish", 0),
    Step("restore_the_database_of_before", 0),
]
"""The cursor was trimmed, and is then one that never was."""


@examples(300)
@given(steps)
@example(AHEAD_OF_ITS_ROOM)
@example(BACK_WHILE_ITS_SNAPSHOT_IS_READ)
def test_every_client_ends_with_the_truth_however_often_the_database_goes_back(
    taken: list[Step],
) -> None:
    with patch("streaming.subscription.QUEUE_CHARACTERS", QUEUE_CHARACTERS):
        run(live_through(taken, RestoredRun))
