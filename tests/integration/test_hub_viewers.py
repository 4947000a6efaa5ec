"""Viewers on a real hub: coming, going, sharing, and missing nothing in between."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from executions.event_log import read_events
from executions.recording import changing
from executions.snapshots import read_snapshot
from executions.statuses import ExecutionStatus
from streaming import hub as hub_module
from streaming.close_codes import CloseCode
from streaming.hub import Hub
from streaming.snapshot import SnapshotMessage, read_snapshot_message
from streaming.stream import stream_key
from streaming.valkey.announcements import Announcements
from tests.integration.watching import Watcher, assert_dense, hub_running, in_thread, until
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import fold

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NEVER_SECONDS = 3_600.0


@pytest.fixture(autouse=True)
def _nothing_but_announcements(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check comes to the rescue of what was missed."""
    settings.NEXUS_OPEN_READING = True
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", NEVER_SECONDS)


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Hub]:
    async with hub_running() as running:
        yield running


@pytest.fixture
def execution_id(valkey: ValkeyServer) -> str:
    return an_execution("step")


def report(execution_id: str, progress: float) -> str:
    """One change; its event_id."""
    with changing(execution_id) as change:
        change.activity("step").progress = progress
    return str(read_events(execution_id, -1, 10_000)[-1].event_id)


def finish(execution_id: str) -> None:
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED


def numsub(valkey: ValkeyServer, execution_id: str) -> int:
    told: Any = valkey.client.pubsub_shardnumsub(stream_key(execution_id))
    count: int = told[0][1]
    return count


async def test_nothing_falls_between_following_and_reading(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    """One single change at any moment of a viewer's arrival; no later one shows a gap."""
    chance = random.Random(3)
    cursor = str((await in_thread(read_events, execution_id, -1, 1))[0].event_id)
    for number in range(200):
        writing = asyncio.create_task(in_thread(report, execution_id, (number + 1) / 201))
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        watcher = Watcher(execution_id, [None, "0", cursor][number % 3])
        newest = await writing
        await watcher.until_event(newest, 5)
        assert_dense(watcher)
        cursor = newest
        await watcher.leave()
    assert hub._rooms == {}


async def test_viewer_reads_only_once_its_subscription_is_confirmed(
    hub: Hub, execution_id: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()
    follow = Announcements.follow

    async def slow(announcements: Announcements, channel: str, deadline_seconds: float) -> None:
        asked.set()
        await may_go_on.wait()
        await follow(announcements, channel, deadline_seconds)

    monkeypatch.setattr(Announcements, "follow", slow)
    watcher = Watcher(execution_id)
    await asked.wait()
    # time enough for one that would not wait
    await asyncio.wait([watcher.life], timeout=0.3)
    assert watcher.messages == []
    newest = await in_thread(report, execution_id, 0.5)
    may_go_on.set()
    await watcher.until_event(newest, 5)
    await watcher.leave()


async def test_viewers_that_arrive_while_a_writer_writes_at_full_speed_miss_nothing(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    def write() -> None:
        for number in range(300):
            with changing(execution_id) as change:
                change.activity("step").progress = (number + 1) / 301
        finish(execution_id)

    writing = asyncio.create_task(in_thread(write))
    chance = random.Random(5)
    watchers: list[Watcher] = []
    while not writing.done():
        watchers.append(Watcher(execution_id, chance.choice([None, "0"])))
        await watchers[-1].until(lambda each: len(each.messages) >= 1)
        await asyncio.sleep(0)
    await writing
    log = await in_thread(read_events, execution_id, -1, 10_000)
    assert len(watchers) > 10
    for watcher in watchers:
        closing = await watcher.until_closed()
        assert closing.code is CloseCode.DONE
        assert_dense(watcher)
        assert watcher.event_ids[-1] == str(log[-1].event_id)
        fold(watcher.events)


async def test_what_viewers_fold_is_what_the_database_holds(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    watchers = [Watcher(execution_id, replay) for replay in (None, "0")]
    newest = ""
    for number in range(10):
        newest = await in_thread(report, execution_id, (number + 1) / 11)
    for watcher in watchers:
        await watcher.until_event(newest)
        snapshot = await in_thread(read_snapshot, execution_id)
        assert snapshot is not None
        assert fold(watcher.events) == snapshot.document
        await watcher.leave()


async def test_viewers_that_come_at_once_share_one_snapshot(
    hub: Hub, execution_id: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    async def counted(execution_id: str) -> SnapshotMessage | None:
        reads.append(execution_id)
        # not over before all have asked
        await until(lambda: len(known) == len(watchers))
        return await read_snapshot_message(execution_id)

    known: list[object] = []
    what_is_known = hub_module.View.snapshot

    async def asked(view: hub_module.View) -> SnapshotMessage | None:
        known.append(view)
        return await what_is_known(view)

    monkeypatch.setattr(hub_module, "read_snapshot_message", counted)
    monkeypatch.setattr(hub_module.View, "snapshot", asked)
    watchers = [Watcher(execution_id) for _ in range(25)]
    for watcher in watchers:
        await watcher.until(lambda each: len(each.messages) == 1)
    assert reads == [execution_id]
    assert len({watcher.event_ids[0] for watcher in watchers}) == 1
    for watcher in watchers:
        await watcher.leave()


async def test_room_and_subscription_end_with_the_last_viewer(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    first, second = Watcher(execution_id), Watcher(execution_id)
    for watcher in (first, second):
        await watcher.until(lambda each: len(each.messages) == 1)
    assert numsub(valkey, execution_id) == 1
    await first.leave()
    assert numsub(valkey, execution_id) == 1
    newest = await in_thread(report, execution_id, 0.5)
    await second.until_event(newest)
    await second.leave()
    await until(lambda: numsub(valkey, execution_id) == 0)
    assert hub._rooms == {}


async def test_leaving_and_coming_back_at_once_misses_nothing(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    chance = random.Random(9)
    watcher = Watcher(execution_id, "0")
    await watcher.until(lambda each: len(each.messages) == 1)
    for number in range(100):
        leaving = asyncio.create_task(watcher.leave())
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        watcher = Watcher(execution_id)
        await leaving
        await watcher.until(lambda each: len(each.messages) >= 1)
        newest = await in_thread(report, execution_id, (number + 1) / 101)
        await watcher.until_event(newest, 5)
        assert_dense(watcher)
    await watcher.leave()
    await until(lambda: numsub(valkey, execution_id) == 0)


async def test_viewers_that_leave_in_the_middle_of_anything_leave_nothing(
    hub: Hub, execution_id: str, valkey: ValkeyServer
) -> None:
    chance = random.Random(13)
    staying = Watcher(execution_id, "0")
    for number in range(60):
        watchers = [Watcher(execution_id, chance.choice([None, "0"])) for _ in range(3)]
        await in_thread(report, execution_id, (number + 1) / 61)
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        for watcher in watchers:
            await watcher.leave()
            assert watcher.life.cancelled()
    newest = await in_thread(report, execution_id, 1.0)
    await staying.until_event(newest, 5)
    assert_dense(staying)
    await staying.leave()
    assert hub._rooms == {}
    await until(lambda: numsub(valkey, execution_id) == 0)


async def test_closed_hub_leaves_no_connection(valkey: ValkeyServer, execution_id: str) -> None:
    def connections() -> int:
        told: Any = valkey.client.client_list()
        return len(told)

    before = connections()
    async with hub_running():
        watchers = [Watcher(execution_id, "0") for _ in range(5)]
        for watcher in watchers:
            await watcher.until(lambda each: len(each.messages) == 1)
        assert connections() > before
        for watcher in watchers:
            await watcher.leave()
    await until(lambda: connections() <= before)


@pytest.mark.parametrize("replay", [None, "0", "1-1"])
async def test_unknown_execution_is_not_found_and_not_followed(
    hub: Hub, valkey: ValkeyServer, replay: str | None
) -> None:
    closing = await Watcher("no-such-execution", replay).until_closed()
    assert closing.code is CloseCode.NOT_FOUND
    assert hub._rooms == {}
    await until(lambda: numsub(valkey, "no-such-execution") == 0)
