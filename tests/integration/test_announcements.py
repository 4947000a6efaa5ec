"""The connection that hears announcements: what it follows, through every loss of Valkey."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from streaming.valkey import announcements as module
from streaming.valkey.announcements import Announcements
from streaming.valkey.clients import listening_client
from tests.integration.watching import until
from tests.servers.valkey import ValkeyServer

FOLLOW_SECONDS = 1.0


class Hearing:
    """Announcements, with all that was heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.connections = 0
        self.on_text: Callable[[str, str], None] = lambda channel, text: None
        self.announcements = Announcements(listening_client(), self._take, self._connected)

    def _take(self, channel: str, text: str) -> None:
        self.heard.append((channel, text))
        self.on_text(channel, text)

    def _connected(self) -> None:
        self.connections += 1

    async def follow(self, channel: str) -> None:
        await self.announcements.follow(channel, FOLLOW_SECONDS)

    async def unfollow(self, channel: str) -> None:
        await self.announcements.unfollow(channel)

    async def connected_again(self, times: int) -> None:
        await until(lambda: self.connections >= times and self.announcements.connected)


def subscribers(valkey: ValkeyServer, *channels: str) -> list[int]:
    told: Any = valkey.client.pubsub_shardnumsub(*channels)
    return [count for _, count in told]


def subscribing_connections(valkey: ValkeyServer) -> int:
    told: Any = valkey.client.client_list(_type="pubsub")
    return len(told)


@pytest.fixture
def valkey(lonely_valkey: ValkeyServer, settings: Settings) -> ValkeyServer:
    lonely_valkey.client.flushall()
    settings.VALKEY_URL = lonely_valkey.url
    return lonely_valkey


@pytest.fixture
async def hearing(valkey: ValkeyServer) -> AsyncIterator[Hearing]:
    others = asyncio.all_tasks()
    hearing = Hearing()
    await hearing.connected_again(1)
    yield hearing
    await hearing.announcements.close()
    assert asyncio.all_tasks() <= others | {asyncio.current_task()}
    await until(lambda: subscribing_connections(valkey) == 0)


async def test_what_is_announced_once_following_is_confirmed_is_heard(
    hearing: Hearing, valkey: ValkeyServer
) -> None:
    for number in range(200):
        await hearing.follow(f"channel-{number}")
        valkey.client.spublish(f"channel-{number}", "at once")
    await until(lambda: len(hearing.heard) == 200)
    assert {channel for channel, _ in hearing.heard} == {f"channel-{n}" for n in range(200)}
    assert subscribing_connections(valkey) == 1


async def test_what_is_followed_no_longer_is_not_heard(
    hearing: Hearing, valkey: ValkeyServer
) -> None:
    await hearing.follow("a")
    await hearing.follow("b")
    await hearing.unfollow("a")
    await until(lambda: subscribers(valkey, "a", "b") == [0, 1])
    valkey.client.spublish("a", "1")
    valkey.client.spublish("b", "2")
    await until(lambda: len(hearing.heard) == 1)
    assert hearing.heard == [("b", "2")]


async def test_coming_back_at_once_is_following_again(
    hearing: Hearing, valkey: ValkeyServer
) -> None:
    for number in range(100):
        await hearing.follow("a")
        await asyncio.gather(hearing.unfollow("a"), hearing.follow("a"))
        valkey.client.spublish("a", str(number))
        await until(lambda: hearing.heard != [])
        assert hearing.heard.pop() == ("a", str(number))
        await hearing.unfollow("a")
    await until(lambda: subscribers(valkey, "a") == [0])


async def test_confirmation_of_an_earlier_following_is_not_taken_for_the_later_one(
    hearing: Hearing, valkey: ValkeyServer
) -> None:
    for number in range(100):
        leaving = asyncio.create_task(hearing.follow("a"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        await asyncio.gather(hearing.unfollow("a"), hearing.follow("a"))
        assert subscribers(valkey, "a") == [1]
        valkey.client.spublish("a", str(number))
        await until(lambda: hearing.heard != [])
        assert hearing.heard.pop() == ("a", str(number))
        await hearing.unfollow("a")
    assert hearing.connections == 1


@pytest.mark.parametrize(
    "text", [b"\xff\xfe\x00", b"", b"x" * 5_000_000, b"[" * 100_000, "{ü\x00".encode()]
)
async def test_whatever_others_announce_hearing_goes_on(
    hearing: Hearing, valkey: ValkeyServer, text: bytes
) -> None:
    await hearing.follow("a")
    valkey.client.spublish("a", text)
    valkey.client.publish("nexus:hub", text)
    valkey.client.spublish("a", "and now ours")
    await until(lambda: ("a", "and now ours") in hearing.heard)
    assert hearing.connections == 1


async def test_receiver_that_fails_is_called_again(hearing: Hearing, valkey: ValkeyServer) -> None:
    def fail(channel: str, text: str) -> None:
        if text == "bad":
            raise ZeroDivisionError

    hearing.on_text = fail
    await hearing.follow("a")
    valkey.client.spublish("a", "bad")
    await hearing.connected_again(2)
    valkey.client.spublish("a", "good")
    await until(lambda: hearing.heard[-1] == ("a", "good"))


class TestLosses:
    async def test_connection_that_is_cut_is_made_again_with_all_its_channels(
        self, hearing: Hearing, valkey: ValkeyServer
    ) -> None:
        for channel in ("a", "b", "c"):
            await hearing.follow(channel)
        await hearing.unfollow("b")
        for times in range(2, 12):
            valkey.client.client_kill_filter(_type="pubsub")
            await hearing.connected_again(times)
            assert subscribers(valkey, "a", "b", "c") == [1, 0, 1]
            valkey.client.spublish("a", str(times))
            await until(lambda: hearing.heard != [])
            assert hearing.heard.pop() == ("a", str(times))
            assert subscribing_connections(valkey) == 1

    async def test_while_valkey_is_away_following_returns_at_once_and_counts_when_it_is_back(
        self, hearing: Hearing, valkey: ValkeyServer
    ) -> None:
        await hearing.follow("before")
        valkey.kill()
        try:
            await until(lambda: not hearing.announcements.connected)
            async with asyncio.timeout(0.5):
                await hearing.follow("meanwhile")
                await hearing.follow("in vain")
                await hearing.unfollow("in vain")
                await hearing.unfollow("before")
        finally:
            valkey.start()
        await hearing.connected_again(2)
        assert subscribers(valkey, "before", "meanwhile", "in vain") == [0, 1, 0]

    async def test_hanging_valkey_is_noticed_and_found_again(
        self, hearing: Hearing, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PING_SECONDS", 0.2)
        await hearing.follow("a")
        await asyncio.sleep(0)  # the reading under way still has the longer time
        valkey.client.spublish("a", "on with it")
        await until(lambda: hearing.heard != [])
        with valkey.stopped():
            await until(lambda: not hearing.announcements.connected, 3)
            following = asyncio.create_task(hearing.follow("b"))
            await asyncio.wait([following], timeout=FOLLOW_SECONDS + 1)
            assert following.done()
        await hearing.connected_again(2)
        assert subscribers(valkey, "a", "b") == [1, 1]

    async def test_silence_alone_is_no_loss(
        self, hearing: Hearing, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PING_SECONDS", 0.02)
        await hearing.follow("a")
        calls: Any = valkey.client.info("commandstats")
        before = calls["cmdstat_ping"]["calls"]
        await until(lambda: pings(valkey) > before + 5)
        assert hearing.connections == 1

    @pytest.mark.parametrize("connected_before", [False, True])
    async def test_server_that_never_answers_is_given_up_for_one_that_does(
        self, valkey: ValkeyServer, settings: Any, tmp_path: Path, connected_before: bool
    ) -> None:
        """As when a machine is lost: connections to it open, and then nothing."""
        address, black = tmp_path / "valkey.sock", tmp_path / "black"
        real = Path(valkey.url.removeprefix("unix://"))
        asked = asyncio.Event()
        black_hole = await asyncio.start_unix_server(lambda reader, writer: asked.set(), black)
        settings.VALKEY_URL = f"unix://{address}"
        address.symlink_to(real if connected_before else black)
        hearing = Hearing()
        try:
            if connected_before:
                await hearing.connected_again(1)
                address.unlink()
                address.symlink_to(black)
                valkey.client.client_kill_filter(_type="pubsub")
            await asked.wait()
            await until(lambda: not hearing.announcements.connected)
            address.unlink()
            address.symlink_to(real)
            await hearing.connected_again(1 + connected_before)
        finally:
            await hearing.announcements.close()
            black_hole.close()


def pings(valkey: ValkeyServer) -> int:
    told: Any = valkey.client.info("commandstats")
    calls: int = told["cmdstat_ping"]["calls"]
    return calls


async def test_channels_that_come_and_go_while_connections_are_cut_end_as_they_should(
    hearing: Hearing, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(11)
    channels = [f"channel-{number}" for number in range(12)]
    wanted: Counter[str] = Counter()

    async def come_and_go(channel: str) -> None:
        for _ in range(25):
            await hearing.follow(channel)
            wanted[channel] = 1
            await asyncio.sleep(chance.random() * 0.004)
            if chance.random() < 0.7:
                await hearing.unfollow(channel)
                wanted[channel] = 0
            await asyncio.sleep(chance.random() * 0.004)

    async def cut() -> None:
        for _ in range(12):
            await asyncio.sleep(chance.random() * 0.05)
            valkey.client.client_kill_filter(_type="pubsub")

    await asyncio.gather(cut(), *(come_and_go(channel) for channel in channels))
    expected = [wanted[channel] for channel in channels]
    await until(lambda: hearing.announcements.connected)
    await until(lambda: subscribers(valkey, *channels) == expected)
    await until(lambda: subscribing_connections(valkey) == 1)
    for channel in channels:
        valkey.client.spublish(channel, "the end")
    await until(lambda: sum(text == "the end" for _, text in hearing.heard) == sum(expected))
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert not errors, "a task failed"
