"""Streams and announcements over a primary and a replica that sentinels watch over."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pytest_django import Settings

from streaming.activity_update_publisher import publisher
from streaming.stream import StreamWriter, stream_key
from streaming.valkey.clients import writing_client
from tests.integration.elsewhere import caught_up, lacking, log_of, report, valkey_at, watched
from tests.integration.watching import in_thread, until
from tests.samples import an_execution
from tests.servers.valkey import ValkeyNode
from tests.servers.valkey_sentinel import ValkeySentinel, sentinel_running

pytestmark = pytest.mark.django_db(transaction=True)

WRITER_SECONDS = 3.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeySentinel]:
    with sentinel_running(tmp_path_factory.mktemp("sentinel")) as valkey:
        yield valkey


@pytest.fixture
def valkey(running: ValkeySentinel, settings: Settings) -> Iterator[ValkeySentinel]:
    """The servers, whole and empty, as what VALKEY_URL names."""
    running.start()
    running.primary.client.flushall()
    with valkey_at(running.url, settings):
        yield running


def entries(server: ValkeyNode, execution_id: str) -> list[str]:
    told: Any = server.client.xrange(stream_key(execution_id))
    return [entry_id for entry_id, _ in told]


def commands_run(server: ValkeyNode) -> dict[str, Any]:
    told: Any = server.client.info("commandstats")
    return dict(told)


def logged(execution_id: str) -> list[str]:
    return [str(event.event_id) for event in log_of(execution_id)]


def test_answer_that_came_too_late_is_nobodys(valkey: ValkeySentinel) -> None:
    client = writing_client()
    client.set("late", "an answer")
    with valkey.primary.stopped(), pytest.raises(redis.TimeoutError):
        client.get("late")
    assert client.echo("a question") == "a question"


async def test_failover_is_followed_and_what_the_replica_lacked_is_filled_in(
    valkey: ValkeySentinel,
) -> None:
    execution_id = await in_thread(an_execution, "step")
    first, second = valkey.primary, valkey.replica
    async with watched([execution_id]) as (hub, watchers):
        valkey.sentinels[0].kill()
        await in_thread(report, execution_id, 0.1)
        with second.stopped():
            await in_thread(report, execution_id, 0.2)
            first.kill()
        slowest = 0.0
        number = 20
        while valkey.primary is first:
            number += 1
            began = time.monotonic()
            await in_thread(report, execution_id, number % 100 / 100)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < WRITER_SECONDS
        valkey.wait_for_another_primary_than(first)
        await until(lambda: hub.hears_valkey)
        await in_thread(report, execution_id, 1.0)
        await caught_up(watchers)
    assert publisher().wait_until_filled(20)
    assert await in_thread(lacking, [execution_id]) == []
    assert entries(second, execution_id) == await in_thread(logged, execution_id)


async def test_former_primary_is_neither_written_to_nor_believed(valkey: ValkeySentinel) -> None:
    execution_id = await in_thread(an_execution, "step")
    former = valkey.primary
    async with watched([execution_id]) as (_, watchers):
        valkey.fail_over()
        log = await in_thread(log_of, execution_id)
        with pytest.raises(redis.exceptions.ReadOnlyError):
            StreamWriter(former.client).append(execution_id, log, None)
        await in_thread(report, execution_id, 0.5)
        assert publisher().wait_until_filled(20)
        assert entries(valkey.primary, execution_id) == await in_thread(logged, execution_id)
        former.kill()
        former.start()
        await in_thread(report, execution_id, 0.6)
        assert publisher().wait_until_filled(20)
        # What it has as a replica came without scripts.
        assert not {"cmdstat_eval", "cmdstat_evalsha"} & {*commands_run(former)}
        await caught_up(watchers)
    assert await in_thread(lacking, [execution_id]) == []
