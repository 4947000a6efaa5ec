"""A real hub under viewers while Valkey, connections, publishers and the database fail."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from executions.event_log import read_events
from executions.recording import changing
from executions.statuses import ExecutionStatus
from streaming import hub as hub_module
from streaming.activity_update_publisher import publisher
from streaming.close_codes import CloseCode
from streaming.hub import Hub
from streaming.stream import stream_key
from streaming.valkey import announcements as announcements_module
from tests.integration.watching import Watcher, assert_dense, hub_running, in_thread, until
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import fold, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

CHECK_SECONDS = 0.3
TWO_CHECKS_AND_MARGIN = 2 * CHECK_SECONDS + 2.0


@pytest.fixture(autouse=True)
def _quick_checks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NEXUS_OPEN_READING = True
    settings.NEXUS_HEARTBEAT_SECONDS = 0.2
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", CHECK_SECONDS)
    monkeypatch.setattr(announcements_module, "LONGEST_PAUSE_SECONDS", 0.2)


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Hub]:
    async with hub_running() as running:
        yield running


@pytest.fixture
def execution_id(valkey: ValkeyServer) -> str:
    return an_execution("step")


@pytest.fixture
async def watchers(hub: Hub, execution_id: str) -> AsyncIterator[list[Watcher]]:
    """Viewers that have caught up, one without replay and one with."""
    watching = [Watcher(execution_id), Watcher(execution_id, "0")]
    for watcher in watching:
        await watcher.until(lambda each: len(each.messages) >= 1)
    yield watching
    for watcher in watching:
        await watcher.leave()


class Writer:
    """Changes an execution, in threads of its own."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._changes = 0

    async def change(self, count: int = 1) -> str:
        """So many changes; the last one's event_id."""
        return await in_thread(self._change, count)

    async def change_without_publishing(self) -> str:
        """What a writer leaves that dies after its commit."""

        def change() -> str:
            with nobody_listening():
                return self._change(1)

        return await in_thread(change)

    async def finish(self) -> None:
        def finish() -> None:
            with changing(self._execution_id) as change:
                change.execution.status = ExecutionStatus.COMPLETED

        await in_thread(finish)

    def _change(self, count: int) -> str:
        for _ in range(count):
            self._changes += 1
            with changing(self._execution_id) as change:
                change.activity("step").progress = self._changes / 100_000
        return str(read_events(self._execution_id, -1, 100_000)[-1].event_id)


@pytest.fixture
def writer(execution_id: str) -> Writer:
    return Writer(execution_id)


async def all_see(watchers: list[Watcher], event_id: str, seconds: float = 20) -> None:
    for watcher in watchers:
        await watcher.until_event(event_id, seconds)


async def all_see_the_end(execution_id: str, watchers: list[Watcher]) -> None:
    """Each has every event once, in order, and the final snapshot equals the fold."""
    log = await in_thread(read_events, execution_id, -1, 100_000)
    for watcher in watchers:
        closing = await watcher.until_closed()
        assert closing.code is CloseCode.DONE
        assert_dense(watcher)
        assert watcher.event_ids == [str(event.event_id) for event in log][-len(watcher.events) :]
        fold(watcher.events)


async def stream_is_the_log(valkey: ValkeyServer, execution_id: str) -> None:
    log = await in_thread(read_events, execution_id, -1, 100_000)
    ids = [str(event.event_id) for event in log]
    await until(lambda: valkey.stream_ids(stream_key(execution_id)) == ids)


class TestValkey:
    async def test_killed_under_viewers_and_empty_again(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        await all_see(watchers, await writer.change(3))
        valkey.kill()
        try:
            await all_see(watchers, await writer.change(3))
            watchers.append(Watcher(execution_id, "0"))
            await all_see(watchers, await writer.change())
        finally:
            valkey.start()
        await all_see(watchers, await writer.change())
        await stream_is_the_log(valkey, execution_id)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)

    async def test_killed_again_and_again_while_a_writer_writes(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        for _ in range(4):
            writing = asyncio.create_task(writer.change(30))
            await asyncio.sleep(0)
            valkey.kill()
            valkey.start()
            await writing
        await writer.finish()
        await all_see_the_end(execution_id, watchers)
        await stream_is_the_log(valkey, execution_id)

    async def test_emptied_under_viewers(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        for _ in range(5):
            await all_see(watchers, await writer.change(2))
            valkey.client.flushall()
        await writer.finish()
        await all_see_the_end(execution_id, watchers)
        await stream_is_the_log(valkey, execution_id)

    async def test_connections_cut_while_a_writer_writes(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        for kind in ("pubsub", "normal", "pubsub", "pubsub", "normal"):
            writing = asyncio.create_task(writer.change(40))
            while not writing.done():
                valkey.client.client_kill_filter(_type=kind, skipme=True)
                await asyncio.sleep(0.02)
            await all_see(watchers, await writing)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)

    async def test_hanging_it_delays_viewers_no_more_than_checks_and_time_limits(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        with valkey.stopped():
            newest = await writer.change(2)
            await all_see(watchers, newest, 10)
        await all_see(watchers, await writer.change())
        await writer.finish()
        await all_see_the_end(execution_id, watchers)
        assert await in_thread(publisher().wait_until_filled, 20)
        await stream_is_the_log(valkey, execution_id)

    async def test_key_that_is_no_stream_costs_viewers_no_event(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        key = stream_key(execution_id)
        valkey.client.delete(key)
        valkey.client.set(key, "no stream")
        await all_see(watchers, await writer.change(2))
        valkey.client.delete(key)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)
        await stream_is_the_log(valkey, execution_id)


class TestSilentWriters:
    async def test_what_was_committed_and_not_published_comes_with_the_checks(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        for _ in range(3):
            newest = await writer.change_without_publishing()
            await all_see(watchers, newest, TWO_CHECKS_AND_MARGIN)
        await stream_is_the_log(valkey, execution_id)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)

    async def test_what_was_not_published_comes_before_what_is(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        for _ in range(10):
            await writer.change_without_publishing()
            await writer.change()
        await writer.finish()
        await all_see_the_end(execution_id, watchers)
        await stream_is_the_log(valkey, execution_id)

    async def test_heartbeats_name_the_cursor_while_silence_can_be_trusted(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer
    ) -> None:
        for watcher in watchers:
            await watcher.until(lambda each: each.messages[-1]["type"] == "heartbeat")
            assert watcher.messages[-1]["event_id"] == watcher.event_ids[-1]


@contextmanager
def database_away_for_this_process() -> Iterator[None]:
    """New connections fail, except those of threads that say `may_connect`."""
    connect = BaseDatabaseWrapper.connect

    def refuse(wrapper: BaseDatabaseWrapper) -> None:
        if not getattr(_threads, "may_connect", False):
            raise OperationalError("the database is away")
        connect(wrapper)

    with patch.object(BaseDatabaseWrapper, "connect", refuse):
        yield


_threads = threading.local()


class TestDatabase:
    """Away for the web server, not for the writer, which is another process."""

    async def in_the_writers_process(self, function: Any) -> Any:
        def call() -> Any:
            _threads.may_connect = True
            try:
                return function()
            finally:
                _threads.may_connect = False

        return await in_thread(call)

    async def test_away_for_a_moment_what_is_announced_still_comes(
        self, watchers: list[Watcher], writer: Writer, execution_id: str
    ) -> None:
        with database_away_for_this_process():
            newest = await self.in_the_writers_process(lambda: writer._change(3))
            await all_see(watchers, newest)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)

    async def test_what_was_missed_meanwhile_comes_when_it_is_back(
        self, watchers: list[Watcher], writer: Writer, execution_id: str
    ) -> None:
        def change() -> str:
            with nobody_listening():
                return writer._change(2)

        with database_away_for_this_process():
            newest = await self.in_the_writers_process(change)
            for watcher in watchers:
                await watcher.until(lambda each: each.messages[-1]["type"] == "heartbeat")
                assert newest not in watcher.event_ids
        await all_see(watchers, newest)
        await writer.finish()
        await all_see_the_end(execution_id, watchers)

    async def test_without_database_and_valkey_heartbeats_promise_nothing(
        self, watchers: list[Watcher], writer: Writer, valkey: ValkeyServer, execution_id: str
    ) -> None:
        with database_away_for_this_process():
            valkey.kill()
            try:
                for watcher in watchers:
                    await watcher.until(
                        lambda each: (
                            each.messages[-1]["type"] == "heartbeat"
                            and "event_id" not in each.messages[-1]
                        )
                    )
            finally:
                valkey.start()
        await all_see(watchers, await writer.change())

    async def test_viewer_that_comes_meanwhile_fails_and_leaves_nothing(
        self, hub: Hub, execution_id: str
    ) -> None:
        with database_away_for_this_process():
            watcher = Watcher(execution_id)
            with pytest.raises(OperationalError):
                await watcher.until_closed()
        assert hub._rooms == {}
