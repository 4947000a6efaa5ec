"""Streams and announcements in a Valkey cluster, through all that happens to its servers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.management import call_command
from pytest_django import Settings

from nexus_project.embedded.valkey import unreachable_because
from streaming import hub as hub_module
from streaming.activity_update_publisher import publisher
from streaming.retention import prune_streams, streams
from streaming.sources import StreamSource
from streaming.stream import stream_key
from streaming.valkey.channel_layer import channel_layer_hosts
from streaming.valkey.clients import REPLY_SECONDS, reading_client, slot_of, writing_client
from streaming.valkey.cluster import Cluster, ClusterReader
from streaming.valkey.url import Server, ValkeyUrl
from tests.integration.elsewhere import caught_up, lacking, log_of, report, valkey_at, watched
from tests.integration.watching import Watcher, in_thread, until
from tests.samples import an_execution
from tests.servers.valkey import ValkeyNode, free_ports
from tests.servers.valkey_cluster import ValkeyCluster, cluster_running

pytestmark = pytest.mark.django_db(transaction=True)

EXECUTIONS_EACH = 3
WRITER_SECONDS = 3.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    directory: Path = tmp_path_factory.mktemp("cluster")
    with cluster_running(directory) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: ValkeyCluster, settings: Settings) -> Iterator[ValkeyCluster]:
    """The cluster, whole and empty, as what VALKEY_URL names."""
    running.start()
    for node in running.primaries():
        node.client.flushall()
    with valkey_at(running.url, settings):
        yield running


@pytest.fixture
def execution_ids(cluster: ValkeyCluster) -> list[str]:
    """Executions, of which each primary has as many."""
    names: defaultdict[ValkeyNode, list[str]] = defaultdict(list)
    for number in range(100):
        names[cluster.owner(stream_key(f"{number}"))].append(f"{number}")
    chosen = [name for of_one in names.values() for name in of_one[:EXECUTIONS_EACH]]
    return [an_execution("step", execution_id=name) for name in chosen]


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not announced is not found otherwise, once a hub is connected."""
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", 3600.0)


def on_another(cluster: ValkeyCluster, execution_id: str) -> ValkeyNode:
    owner = cluster.owner(stream_key(execution_id))
    return next(node for node in cluster.primaries() if node is not owner)


async def all_report(execution_ids: list[str], progress: float) -> list[float]:
    """Commit a change of each; the seconds that each took."""
    took = []
    for execution_id in execution_ids:
        began = time.monotonic()
        await in_thread(report, execution_id, progress)
        took.append(time.monotonic() - began)
    return took


def listening_connections(node: ValkeyNode) -> int:
    told: Any = node.client.client_list(_type="pubsub")
    return len(told)


async def test_changes_of_all_slots_are_appended_announced_and_read(
    cluster: ValkeyCluster, execution_ids: list[str], no_checks: None
) -> None:
    async with watched(execution_ids) as (hub, watchers):
        for number in range(1, 4):
            await all_report(execution_ids, number / 10)
        await caught_up(watchers)
        assert [listening_connections(node) for node in cluster.primaries()] == [1, 1, 1]
        for execution_id in execution_ids:
            assert await hub.read_after(execution_id, None) == await in_thread(log_of, execution_id)
    assert await in_thread(lacking, execution_ids) == []
    assert set(await in_thread(lambda: list(streams(writing_client())))) == set(execution_ids)
    await in_thread(call_command, "verify")
    long_hence = 10**14
    pruned = await in_thread(lambda: list(prune_streams(writing_client(), long_hence)))
    assert {(each.execution_id, each.entries) for each in pruned} == {
        (execution_id, 3) for execution_id in execution_ids
    }


async def test_viewers_stay_with_a_slot_that_moves(
    cluster: ValkeyCluster, execution_ids: list[str], no_checks: None
) -> None:
    async with watched(execution_ids) as (hub, watchers):
        moved = execution_ids[0]
        target = on_another(cluster, moved)
        slot = slot_of(stream_key(moved))
        cluster.begin_to_move(slot, target)
        cluster.move_keys(slot, target)
        await in_thread(report, moved, 0.1)
        cluster.finish_move(slot, target)
        await until(lambda: shard_subscribers(target, moved) == 1 and hub.hears_valkey)
        # What was announced at the new server before that is missed by nobody for long.
        await caught_up({moved: watchers[moved]})
        await all_report(execution_ids, 0.2)
        await caught_up(watchers)
        late = Watcher(moved)
        await late.until(lambda each: bool(each.messages))
        await in_thread(report, moved, 0.3)
        await caught_up({moved: late})
        await late.leave()
    assert await in_thread(lacking, execution_ids) == []


async def test_viewer_of_a_slot_that_moved_unnoticed_is_connected_to_its_server(
    cluster: ValkeyCluster, execution_ids: list[str], no_checks: None
) -> None:
    moved, *others = execution_ids
    async with watched(others) as (hub, watchers):
        target = on_another(cluster, moved)
        cluster.move_slot(slot_of(stream_key(moved)), target)
        late = Watcher(moved)
        try:
            await until(lambda: shard_subscribers(target, moved) == 1 and hub.hears_valkey)
            await all_report(execution_ids, 0.1)
            await caught_up(watchers | {moved: late})
        finally:
            await late.leave()
        assert await hub.read_after(moved, None) == await in_thread(log_of, moved)


async def test_streams_are_read_where_their_slot_is_at_present(
    cluster: ValkeyCluster, execution_ids: list[str]
) -> None:
    known = Cluster(ValkeyUrl.parse(cluster.url).servers, reading_client)
    source = StreamSource(cast("redis.asyncio.Redis", ClusterReader(known)))
    moved = execution_ids[0]
    events = await source.read_after(moved, None)
    assert events == await in_thread(log_of, moved)
    before = known.owner(stream_key(moved))
    cluster.move_slot(slot_of(stream_key(moved)), on_another(cluster, moved))
    assert await source.read_after(moved, None) == events
    assert known.owner(stream_key(moved)) != before
    await source.close()


async def test_primary_that_steps_down_is_left_for_its_successor(
    cluster: ValkeyCluster, execution_ids: list[str], no_checks: None
) -> None:
    async with watched(execution_ids) as (hub, watchers):
        cluster.fail_over(cluster.owner(stream_key(execution_ids[0])))
        for number in range(1, 4):
            await all_report(execution_ids, number / 10)
            await caught_up(watchers)
        assert hub.hears_valkey
    assert await in_thread(lacking, execution_ids) == []


def shard_subscribers(node: ValkeyNode, execution_id: str) -> int:
    told: Any = node.client.pubsub_shardnumsub(stream_key(execution_id))
    return int(told[0][1])


async def test_killed_primary_is_followed_to_its_replica(
    cluster: ValkeyCluster, execution_ids: list[str], no_checks: None
) -> None:
    async with watched(execution_ids) as (hub, watchers):
        lost = cluster.owner(stream_key(execution_ids[0]))
        lost.kill()
        number = 0
        while lost in cluster.primaries():
            number += 1
            assert max(await all_report(execution_ids, number % 90 / 100)) < WRITER_SECONDS
        cluster.wait_until_whole()
        await until(lambda: hub.hears_valkey)
        await all_report(execution_ids, 0.95)
        await caught_up(watchers)
    assert publisher().wait_until_filled(20)
    assert await in_thread(lacking, execution_ids) == []


async def test_stopped_primary_is_waited_for_by_one_writer_once_in_a_while(
    cluster: ValkeyCluster, execution_ids: list[str]
) -> None:
    stopped = cluster.owner(stream_key(execution_ids[0]))
    async with watched(execution_ids) as (_, watchers):
        with stopped.stopped():
            took = await all_report(execution_ids, 0.1)
            assert len([seconds for seconds in took if seconds > REPLY_SECONDS / 2]) == 1
            await until(lambda: stopped not in cluster.primaries())
        cluster.wait_until_whole()
        await caught_up(watchers)
    assert publisher().wait_until_filled(20)
    assert await in_thread(lacking, execution_ids) == []


def test_cluster_answers_as_long_as_one_of_the_servers_named_does(cluster: ValkeyCluster) -> None:
    free = [f"127.0.0.1:{port}" for port in free_ports(2)]
    named = cluster.url.removeprefix("redis+cluster://").split(",")[:1]
    assert unreachable_because(f"redis+cluster://{','.join([*free, *named])}") is None
    assert unreachable_because(f"redis+cluster://{','.join(free)}")
    assert "no sentinel" in str(unreachable_because(f"redis+sentinel://{named[0]}/nexus"))


async def test_cluster_that_comes_back_empty_is_filled_anew(
    cluster: ValkeyCluster, execution_ids: list[str]
) -> None:
    async with watched(execution_ids) as (hub, watchers):
        cluster.kill()
        await until(lambda: not hub.hears_valkey)
        assert max(await all_report(execution_ids, 0.1)) < WRITER_SECONDS
        await caught_up(watchers)
        cluster.start()
        await until(lambda: hub.hears_valkey)
        await all_report(execution_ids, 0.2)
        await caught_up(watchers)
    assert publisher().wait_until_filled(20)
    assert await in_thread(lacking, execution_ids) == []


async def test_notices_pass_between_processes_at_different_servers(cluster: ValkeyCluster) -> None:
    [named] = channel_layer_hosts(cluster.url)
    layers = [
        RedisPubSubChannelLayer(hosts=[named | {"servers": (server, *away)}])
        for away in [(Server("127.0.0.1", free_ports(1)[0]),)]
        for server in named["servers"][:2]
    ]
    receiver, sender = layers
    channel = await receiver.new_channel()
    await receiver.group_add("control", channel)
    await sender.group_send("control", {"type": "access.ended"})
    async with asyncio.timeout(10):
        assert await receiver.receive(channel) == {"type": "access.ended"}
    for layer in layers:
        await layer.flush()
