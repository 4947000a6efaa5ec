"""Temporal, the database or Valkey is lost for a while in the middle of runs: all end true."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from temporalio.client import Client, WorkflowHandle

from executions.document import JsonObject
from tests.integration.database_outages import database_losable, database_lost
from tests.integration.full_reads import (
    assert_streams_equal_logs,
    assert_true,
    values_told,
)
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import Held, HeldOptions, HeldWorkflow
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    until_activity,
    until_ended,
)
from tests.servers.temporal import TemporalServer, temporal_server_running
from tests.servers.valkey import ValkeyServer

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True)]

OUTAGE_SECONDS: Final = 2.0
RUNS: Final = 6

Run = WorkflowHandle[Any, Any]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def temporal_server(tmp_path: Path) -> Iterator[TemporalServer]:
    with temporal_server_running(tmp_path) as server:
        yield server


@pytest.fixture
def losable_database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with database_losable(monkeypatch):
        yield


def step(run: int, place: str) -> str:
    return f"{place}-of-{run}"


async def runs_under_way(client: Client, task_queue: str) -> list[Run]:
    """Runs whose two activities are running, as the database knows."""
    runs = [
        await start_with(
            client,
            task_queue,
            HeldWorkflow,
            HeldOptions([step(number, "first"), step(number, "second")]),
        )
        for number in range(RUNS)
    ]
    for number, run in enumerate(runs):
        for place in ("first", "second"):
            await until_activity(run_id_of(run), step(number, place), "running")
    return runs


def end_activities(held: Held, runs: range, place: str) -> None:
    """One after another fails first."""
    for number in runs:
        if number % 2:
            held.fail(step(number, place))
        held.complete(step(number, place))


async def assert_all_true(client: Client, runs: list[Run], valkey: ValkeyServer) -> None:
    """Of every run; nothing that was told in the outage was told again after it."""
    for number, run in enumerate(runs):
        document: JsonObject = await assert_true(client, run)
        assert document["status"] == "completed"
        for activity in document["activities"]:
            assert activity["retry_count"] == number % 2
            told = await in_database(values_told, run_id_of(run), activity["activity_id"], "status")
            assert told.count("pending") == told.count("completed") == 1
            assert told.count("running") <= 1 + number % 2
    await in_database(assert_streams_equal_logs, valkey, *map(run_id_of, runs))


async def test_runs_end_true_though_temporal_was_killed_in_their_middle(
    temporal_server: TemporalServer, task_queue: str, held: Held, valkey: ValkeyServer
) -> None:
    client = await Client.connect(temporal_server.address)
    async with held_worker_running(client, task_queue, held):
        runs = await runs_under_way(client, task_queue)
        temporal_server.kill()
        end_activities(held, range(RUNS), "first")
        await asyncio.sleep(OUTAGE_SECONDS)
        temporal_server.start()
        end_activities(held, range(RUNS), "second")
        await until_ended(*map(run_id_of, runs))
        await assert_all_true(client, runs, valkey)


@pytest.mark.database
@pytest.mark.usefixtures("losable_database")
async def test_workflows_go_on_without_the_database_and_end_true(
    client: Client, task_queue: str, held: Held, valkey: ValkeyServer
) -> None:
    some, others = range(RUNS // 2), range(RUNS // 2, RUNS)
    async with held_worker_running(client, task_queue, held):
        runs = await runs_under_way(client, task_queue)
        async with database_lost():
            lost_at = time.monotonic()
            end_activities(held, range(RUNS), "first")
            end_activities(held, some, "second")
            async with asyncio.timeout(OUTAGE_SECONDS):
                await asyncio.gather(*(runs[number].result() for number in some))
            await asyncio.sleep(lost_at + OUTAGE_SECONDS - time.monotonic())
        end_activities(held, others, "second")
        await until_ended(*map(run_id_of, runs))
        await assert_all_true(client, runs, valkey)


@pytest.mark.database
async def test_workflows_go_on_without_valkey_and_its_streams_are_whole_afterwards(
    client: Client, task_queue: str, held: Held, valkey: ValkeyServer
) -> None:
    some, others = range(RUNS // 2), range(RUNS // 2, RUNS)
    async with held_worker_running(client, task_queue, held):
        runs = await runs_under_way(client, task_queue)
        valkey.kill()
        end_activities(held, range(RUNS), "first")
        end_activities(held, some, "second")
        async with asyncio.timeout(OUTAGE_SECONDS):
            await asyncio.gather(*(runs[number].result() for number in some))
        await until_ended(*(run_id_of(runs[number]) for number in some))
        valkey.start()
        end_activities(held, others, "second")
        await until_ended(*map(run_id_of, runs))
        await assert_all_true(client, runs, valkey)
