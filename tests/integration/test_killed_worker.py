"""kill -9 of the real worker in the middle of real runs: the next one makes them true."""

import asyncio

import pytest
from temporalio.client import Client

from executions.snapshots import read_snapshot
from streaming.stream import stream_key
from tests.integration.full_reads import assert_true
from tests.integration.temporal_runs import in_database, until_ended
from tests.integration.test_temporal_commands import Nexus, line_of
from tests.servers.valkey import ValkeyServer
from tests.truth import assert_log_is_whole
from tests.waiting import wait_until

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True)]

RUNS = 3
KILLS = 2


def progress_of(execution_id: str) -> float | None:
    """The progress of the run's only activity; None before it has told any."""
    snapshot = read_snapshot(execution_id)
    if snapshot is None or not snapshot.document["activities"]:
        return None
    progress: float | None = snapshot.document["activities"][0]["progress"]
    return progress


def test_runs_whose_worker_is_killed_again_and_again_end_true(
    temporal_address: str, task_queue: str, valkey: ValkeyServer
) -> None:
    nexus = Nexus(temporal_address, task_queue)
    started = [
        nexus.run("start_example", "cancellable", "--steps", "30", "--step-seconds", "0.05")
        for _ in range(RUNS)
    ]
    execution_ids = [each.stdout.strip() for each in started]
    for _ in range(KILLS):
        with nexus.worker() as worker:
            line_of(worker)
            wait_until(lambda: all(progress_of(each) for each in execution_ids))
            worker.kill()
            worker.wait()
    with nexus.worker() as worker:
        line_of(worker)
        asyncio.run(end_true(temporal_address, execution_ids))
    for execution_id in execution_ids:
        log = assert_log_is_whole(execution_id)
        expected = [str(event.event_id) for event in log]
        assert valkey.stream_ids(stream_key(execution_id)) == expected


async def end_true(temporal_address: str, execution_ids: list[str]) -> None:
    """Wait for the runs' ends; each document is what a full read of its history gives."""
    await until_ended(*execution_ids)
    client = await Client.connect(temporal_address)
    for execution_id in execution_ids:
        snapshot = await in_database(read_snapshot, execution_id)
        assert snapshot is not None
        assert snapshot.document["status"] == "completed"
        workflow_id = snapshot.document["workflow_id"]
        await assert_true(client, client.get_workflow_handle(workflow_id, run_id=execution_id))
