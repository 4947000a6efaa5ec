"""Viewers inside the test's own process: the channel's handler on the real hub, without sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connection

from executions.document import JsonObject
from streaming.consumer import Closing
from streaming.heartbeats import Heartbeats
from streaming.hub import Hub, hub
from streaming.ws.execution_streaming import on_connect_activityUpdates

DEADLINE_SECONDS: Final = 20.0

T = TypeVar("T")


class Watcher:
    """One connection, and what it was sent."""

    received_messages = 0

    def __init__(self, execution_id: str, replay: str | None = None) -> None:
        self.messages: list[JsonObject] = []
        self.user: Any = AnonymousUser()
        self._execution_id = execution_id
        self._replay = replay
        self._news = asyncio.Event()
        self.heartbeats = Heartbeats(self._take, settings.NEXUS_HEARTBEAT_SECONDS, self._take_now)
        self.life: asyncio.Task[Closing] = asyncio.create_task(self._live())

    async def _live(self) -> Closing:
        return await on_connect_activityUpdates(self)

    def parameter(self, name: str) -> str:
        assert name == "executionId"
        return self._execution_id

    def query(self, name: str) -> list[str]:
        return [] if self._replay is None else [self._replay]

    def place_among_viewers(self, execution_id: str) -> None:
        return None

    async def refusal_to_view(self, execution_id: str) -> None:
        return None

    async def _take(self, text: str) -> None:
        self._take_now(text)

    def _take_now(self, text: str) -> bool:
        self.messages.append(json.loads(text))
        self._news.set()
        return True

    async def end(self, closing: Closing) -> None:
        raise AssertionError("the channel ends by itself")

    @property
    def events(self) -> list[JsonObject]:
        """What was sent, without heartbeats."""
        return [message for message in self.messages if message["type"] != "heartbeat"]

    @property
    def event_ids(self) -> list[str]:
        return [message["event_id"] for message in self.events]

    async def until(
        self, condition: Callable[["Watcher"], bool], seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Wait until the condition holds; fails at the deadline, or where the stream ended."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self._news.clear()
                    news = asyncio.create_task(self._news.wait())
                    await asyncio.wait([news, self.life], return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
                    if self.life.done() and not condition(self):
                        raise AssertionError(f"it ended: {self.life}; sent: {self.event_ids}")
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; sent: {self.event_ids}") from None

    async def until_event(self, event_id: str, seconds: float = DEADLINE_SECONDS) -> None:
        await self.until(lambda watcher: event_id in watcher.event_ids, seconds)

    async def until_closed(self) -> Closing:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.shield(self.life)

    async def leave(self) -> None:
        self.life.cancel()
        await asyncio.wait([self.life])


def assert_dense(watcher: Watcher) -> None:
    """Each event follows the one before; nothing was resynced, repeated or left out."""
    sequences = [int(event_id.split("-")[1]) for event_id in watcher.event_ids]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert not any("resync" in message for message in watcher.messages)


@asynccontextmanager
async def hub_running() -> AsyncIterator[Hub]:
    """The running loop's hub, connected; afterwards it is closed, and no task may be left."""
    others = asyncio.all_tasks()
    running = hub()
    await until(lambda: running.hears)
    try:
        yield running
    finally:
        await running.close()
        left = asyncio.all_tasks() - others - {asyncio.current_task()}
        assert not left, f"left behind: {left}"


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what reads or writes the database, on a connection that is closed afterwards."""

    def call() -> T:
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(call)


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes set no Event
            await asyncio.sleep(0.005)
