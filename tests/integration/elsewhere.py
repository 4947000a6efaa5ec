"""Having the product use another Valkey than the session's for a while."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from pytest_django import Settings

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.recording import changing
from streaming.activity_update_publisher import publisher
from streaming.hub import Hub
from streaming.stream import StreamWriter
from streaming.valkey.clients import writing_client
from tests.integration.watching import Watcher, assert_dense, hub_running, in_thread, until


@contextmanager
def valkey_at(url: str, settings: Settings) -> Iterator[None]:
    """Writers and hubs that begin in the block use the Valkey of this address."""
    before = settings.VALKEY_URL
    settings.VALKEY_URL = url
    publisher.cache_clear()
    try:
        yield
        publisher().wait_until_filled(20)
    finally:
        settings.VALKEY_URL = before
        publisher.cache_clear()


def report(execution_id: str, progress: float) -> None:
    """Commit one change, and publish it as this process does."""
    with changing(execution_id) as change:
        change.activity("step").progress = progress


def log_of(execution_id: str) -> list[CommittedEvent]:
    return read_events(execution_id, -1, 10_000)


def lacking(execution_ids: list[str]) -> list[str]:
    """The executions whose streams do not end as their logs do."""
    tops = StreamWriter(writing_client()).tops(execution_ids)
    heads = [log_of(execution_id)[-1].event_id for execution_id in execution_ids]
    return [
        execution_id
        for execution_id, top, head in zip(execution_ids, tops, heads, strict=True)
        if top != head
    ]


@asynccontextmanager
async def watched(execution_ids: list[str]) -> AsyncIterator[tuple[Hub, dict[str, Watcher]]]:
    """A viewer of each, over a hub that hears; left and closed afterwards."""
    async with hub_running() as hub:
        await until(lambda: hub.hears_valkey)
        watchers = {execution_id: Watcher(execution_id) for execution_id in execution_ids}
        try:
            for watcher in watchers.values():
                await watcher.until(lambda each: bool(each.messages))
            yield hub, watchers
        finally:
            for watcher in watchers.values():
                await watcher.leave()


async def caught_up(watchers: dict[str, Watcher]) -> None:
    """Wait until each viewer has its log's head; fails where it missed or repeated something."""
    for execution_id, watcher in watchers.items():
        log = await in_thread(log_of, execution_id)
        await watcher.until_event(str(log[-1].event_id))
        assert_dense(watcher)
