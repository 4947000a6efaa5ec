"""Following channels, answer by answer: what is confirmed by what, and what happens between.

What a real Valkey does to it is in tests/integration/test_announcements.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
import redis.asyncio

from streaming.valkey.announcements import CONNECTING_SECONDS, PING_SECONDS, Announcements
from streaming.valkey.clients import slot_of
from tests.unit.virtual_time import run, settle

OWN = "nexus:hub"


class FakePubSub:
    """One connection: keeps what it was asked, and hears what a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.pings = 0
        self.closed = False
        self.connection: Any = SimpleNamespace(is_connected=True)
        self.connects = asyncio.Event()
        self.connects.set()
        self._messages: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()

    async def __aenter__(self) -> "FakePubSub":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def subscribe(self, *channels: str) -> None:
        assert not self.closed
        await self.connects.wait()
        self.asked.append(("subscribe", channels))

    async def ssubscribe(self, *channels: str) -> None:
        assert not self.closed
        await self.connects.wait()
        self.asked.append(("ssubscribe", channels))

    async def sunsubscribe(self, *channels: str) -> None:
        assert not self.closed
        self.asked.append(("sunsubscribe", channels))

    async def ping(self) -> None:
        self.pings += 1

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(timeout):
                message = await self._messages.get()
        except TimeoutError:
            return None
        if isinstance(message, Exception):
            raise message
        return message

    def say(self, kind: str, channel: str = "", data: str = "") -> None:
        self._messages.put_nowait({"type": kind, "channel": channel, "data": data})

    def break_with(self, error: Exception) -> None:
        self._messages.put_nowait(error)


class FakeClient:
    """Opens connections, one after another."""

    def __init__(self) -> None:
        self.opened: list[FakePubSub] = []
        self.opened_at: list[float] = []
        self.connects_at_once = True
        self.error: Exception | None = None
        self.closed = False

    def pubsub(self) -> FakePubSub:
        made = FakePubSub()
        if not self.connects_at_once:
            made.connects.clear()
        if self.error is not None:
            made.break_with(self.error)
        self.opened.append(made)
        self.opened_at.append(asyncio.get_running_loop().time())
        return made

    async def aclose(self) -> None:
        self.closed = True


class Run:
    """Announcements over a fake client."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.heard: list[tuple[str, str]] = []
        self.connections = 0
        self.elsewhere: list[Collection[str]] = []
        self.announcements = Announcements(
            cast("redis.asyncio.Redis", self.client),
            lambda channel, text: self.heard.append((channel, text)),
            self._connected,
            self.elsewhere.append,
        )

    def _connected(self) -> None:
        self.connections += 1

    @property
    def pubsub(self) -> FakePubSub:
        return self.client.opened[-1]

    async def connect(self) -> None:
        await settle()
        self.pubsub.say("subscribe", OWN)
        await settle()

    def follow(self, channel: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self.announcements.follow(channel, 1.0))


def in_virtual_time(scenario: Callable[[Run], Awaitable[None]]) -> None:
    async def lived() -> None:
        lived_through = Run()
        try:
            await scenario(lived_through)
        finally:
            await lived_through.announcements.close()
            assert lived_through.client.closed

    run(lived())


def test_it_is_connected_once_its_own_channel_is_confirmed() -> None:
    async def scenario(run: Run) -> None:
        await settle()
        assert run.pubsub.asked == [("subscribe", (OWN,))]
        assert not run.announcements.connected
        await run.connect()
        assert run.announcements.connected
        assert run.connections == 1

    in_virtual_time(scenario)


def test_following_returns_with_its_own_confirmation_not_with_an_earlier_ones() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        left = run.follow("a")
        await settle()
        left.cancel()
        await settle()
        await run.announcements.unfollow("a")
        following = run.follow("a")
        await settle()
        run.pubsub.say("ssubscribe", "a")
        run.pubsub.say("sunsubscribe", "a")
        await settle()
        assert not following.done()
        run.pubsub.say("ssubscribe", "a")
        await settle()
        assert following.done()

    in_virtual_time(scenario)


def test_following_that_is_not_confirmed_returns_at_its_deadline() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        await run.follow("a")
        assert asyncio.get_running_loop().time() == 1.0
        run.pubsub.say("ssubscribe", "a")
        await settle()
        following = run.follow("a")
        await settle()
        run.pubsub.say("ssubscribe", "a")
        await settle()
        assert following.done()

    in_virtual_time(scenario)


def test_what_changes_while_it_connects_is_asked_for_before_it_counts_as_connected() -> None:
    async def scenario(run: Run) -> None:
        await run.announcements.follow("kept", 1.0)
        await run.announcements.follow("dropped", 1.0)
        await settle()
        (_, channels), own = run.pubsub.asked
        assert set(channels) == {"kept", "dropped"}
        assert own == ("subscribe", (OWN,))
        await run.announcements.follow("late", 1.0)
        await run.announcements.unfollow("dropped")
        await run.connect()
        assert run.pubsub.asked[2:] == [
            ("sunsubscribe", ("dropped",)),
            ("ssubscribe", ("late",)),
            ("subscribe", (OWN,)),
        ]
        assert not run.announcements.connected
        await run.announcements.follow("later still", 1.0)
        await run.connect()
        assert run.pubsub.asked[5:] == [("ssubscribe", ("later still",)), ("subscribe", (OWN,))]
        assert run.connections == 0
        await run.connect()
        assert run.connections == 1
        assert run.announcements.connected

    in_virtual_time(scenario)


def test_lost_connection_is_used_by_nobody_and_made_again_with_all_channels() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        following = run.follow("a")
        await settle()
        lost = run.pubsub
        lost.break_with(redis.ConnectionError("reset"))
        await settle()
        assert following.done()
        assert not run.announcements.connected
        await run.announcements.follow("b", 1.0)
        await run.announcements.unfollow("a")
        assert lost.asked == [("subscribe", (OWN,)), ("ssubscribe", ("a",))]
        await asyncio.sleep(0.2)
        assert run.pubsub.asked == [("ssubscribe", ("b",)), ("subscribe", (OWN,))]
        await run.connect()
        assert run.connections == 2

    in_virtual_time(scenario)


def test_connection_that_is_gone_is_not_asked_which_would_make_a_new_one_in_silence() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        gone = run.pubsub
        gone.connection.is_connected = False
        await run.announcements.follow("a", 1.0)
        await run.announcements.unfollow("a")
        assert gone.asked == [("subscribe", (OWN,))]
        gone.say("smessage", "b", "the last one that was read")
        await asyncio.sleep(1)
        assert gone.closed
        assert run.pubsub is not gone

    in_virtual_time(scenario)


def test_connecting_that_takes_too_long_is_given_up() -> None:
    async def scenario(run: Run) -> None:
        run.client.connects_at_once = False
        await asyncio.sleep(CONNECTING_SECONDS + 0.05)
        assert [each.closed for each in run.client.opened] == [True]
        run.client.connects_at_once = True
        await asyncio.sleep(0.2)
        await run.connect()
        assert run.announcements.connected

    in_virtual_time(scenario)


def test_silence_is_probed_and_given_up_if_it_is_not_answered() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        await asyncio.sleep(PING_SECONDS + 1)
        assert run.pubsub.pings == 1
        run.pubsub.say("pong")
        await asyncio.sleep(PING_SECONDS + 1)
        assert run.pubsub.pings == 2
        assert run.announcements.connected
        silent = run.pubsub
        await asyncio.sleep(PING_SECONDS)
        assert silent.closed
        assert not run.announcements.connected

    in_virtual_time(scenario)


@pytest.mark.parametrize("error", [redis.ConnectionError("x"), ZeroDivisionError(), OSError("y")])
def test_pauses_between_attempts_grow_and_begin_anew_after_a_connection(error: Exception) -> None:
    async def scenario(run: Run) -> None:
        run.client.error = error
        await asyncio.sleep(9)
        assert [round(moment, 1) for moment in run.client.opened_at] == [
            0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1, 7.1,
        ]  # fmt: skip
        run.client.error = None
        await asyncio.sleep(0.5)
        await run.connect()
        opened = len(run.client.opened)
        run.pubsub.break_with(error)
        await asyncio.sleep(0.15)
        assert len(run.client.opened) == opened + 1

    in_virtual_time(scenario)


def test_announcements_are_told_as_they_come() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        for text in ("1", "2", "2"):
            run.pubsub.say("smessage", "a", text)
        await settle()
        assert run.heard == [("a", "1"), ("a", "2"), ("a", "2")]

    in_virtual_time(scenario)


def test_channel_that_the_server_ends_is_given_away_and_one_that_was_left_is_not() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        for channel in ("a", "b"):
            following = run.follow(channel)
            await settle()
            run.pubsub.say("ssubscribe", channel)
            await settle()
            assert following.done()
        await run.announcements.unfollow("a")
        run.pubsub.say("sunsubscribe", "a")
        await settle()
        assert run.elsewhere == []
        run.pubsub.say("sunsubscribe", "b")
        await settle()
        assert run.elsewhere == [["b"]]
        run.pubsub.break_with(redis.ConnectionError("reset"))
        await asyncio.sleep(0.2)
        assert run.pubsub.asked == [("subscribe", (OWN,))]
        assert run.elsewhere == [["b"], ()]

    in_virtual_time(scenario)


def test_channels_of_a_slot_that_is_served_elsewhere_are_given_away_and_the_rest_stays() -> None:
    async def scenario(run: Run) -> None:
        await run.connect()
        following = run.follow("a")
        run.follow("b")
        await settle()
        run.pubsub.break_with(redis.exceptions.MovedError(f"{slot_of('a')} other:7000"))
        await settle()
        assert following.done()
        assert run.elsewhere == [["a"]]
        assert run.announcements.connected
        run.pubsub.say("ssubscribe", "b")
        run.pubsub.say("smessage", "b", "1")
        await settle()
        assert run.heard == [("b", "1")]
        # What is given away is followed like anything else when it comes back.
        following = run.follow("a")
        await settle()
        run.pubsub.say("ssubscribe", "a")
        await settle()
        assert following.done()

    in_virtual_time(scenario)


def test_server_that_gives_a_slot_away_while_it_connects_is_connected_to_without() -> None:
    async def scenario(run: Run) -> None:
        await run.announcements.follow("a", 1.0)
        await run.announcements.follow("b", 1.0)
        await settle()
        run.pubsub.break_with(redis.exceptions.MovedError(f"{slot_of('a')} other:7000"))
        await run.connect()
        assert run.announcements.connected
        assert [kind for kind, _ in run.pubsub.asked] == ["ssubscribe", "subscribe"]

    in_virtual_time(scenario)
