"""kill -9 of workers at random instants, while they run and follow fifty runs: all end true."""

import asyncio
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from executions.document import JsonObject
from executions.temporal.examples.workflows import (
    CancellableOptions,
    CancellableWorkflow,
    FanOutOptions,
    FanOutWorkflow,
    PipelineOptions,
    PipelineWorkflow,
)
from tests.integration.full_reads import assert_streams_equal_logs, assert_true
from tests.integration.held_worker import start_with
from tests.integration.temporal_runs import (
    in_database,
    mirrored_document,
    run_id_of,
    until_ended,
)
from tests.integration.test_temporal_commands import Nexus, line_of
from tests.servers.valkey import ValkeyServer

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

RUNS: Final = 50
WORKERS: Final = 2
KILLS: Final = 7
UNHARMED_SECONDS: Final = (0.3, 3.0)
"""How long the workers are left alone before the next kill."""

TASK_TIMEOUT: Final = timedelta(seconds=1)
"""How soon Temporal gives the workflow task of a worker that was killed to another one."""

Run = WorkflowHandle[Any, Any]


class Workers:
    """Worker processes that can be killed, each replaced at once by another."""

    def __init__(self, nexus: Nexus, ending: ExitStack) -> None:
        self._nexus = nexus
        self._ending = ending
        self._processes = [self._started() for _ in range(WORKERS)]

    def kill_one(self, chance: random.Random) -> None:
        place = chance.randrange(WORKERS)
        self._processes[place].kill()
        self._processes[place].wait()
        self._processes[place] = self._started()

    def wait_until_ready(self) -> None:
        for process in self._processes:
            line_of(process)

    def _started(self) -> "subprocess.Popen[str]":
        return self._ending.enter_context(self._nexus.worker())


@contextmanager
def workers_running(nexus: Nexus) -> Iterator[Workers]:
    with ExitStack() as ending:
        yield Workers(nexus, ending)


async def start_one(client: Client, task_queue: str, chance: random.Random) -> Run:
    """Mostly of the kind that heartbeats: its activity is tried again soon after a kill."""
    pause = chance.uniform(0.05, 0.15)
    workflow, options = chance.choices(
        [
            (CancellableWorkflow, CancellableOptions(pause, chance.randint(15, 40))),
            (FanOutWorkflow, FanOutOptions(10 * pause, chance.randint(2, 12))),
            (PipelineWorkflow, PipelineOptions(4 * pause)),
        ],
        [6, 2, 2],
    )[0]
    return await start_with(client, task_queue, workflow, options, task_timeout=TASK_TIMEOUT)


async def end_all(runs: list[Run]) -> None:
    """Wait for those that can go on; end those whose activity was lost with its worker."""
    waiting = []
    for run in runs:
        described = await run.describe()
        if described.workflow_type == CancellableWorkflow.__name__:
            waiting.append(run.result())
    await asyncio.gather(*waiting)
    for run in runs:
        if (await run.describe()).status is WorkflowExecutionStatus.RUNNING:
            await run.terminate(reason="Its worker was killed")


async def ended_true(client: Client, run: Run) -> JsonObject:
    """The run's document, proven; history says less of what was open when it was terminated."""
    document = await in_database(mirrored_document, run_id_of(run))
    left_open = {
        each["activity_id"]: ("started_at", "retry_count")
        for each in document["activities"]
        if each["status"] == "cancelled"
    }
    return await assert_true(client, run, left_open)


def was_harmed(document: JsonObject) -> bool:
    """Whether a worker was killed in the middle of the run: nothing else makes these fail."""
    retried = any(each["retry_count"] for each in document["activities"])
    is_unfailing = document["workflow_type"] != PipelineWorkflow.__name__
    return document["status"] == "terminated" or (retried and is_unfailing)


@pytest.mark.parametrize("seed", [20261])
async def test_fifty_runs_end_true_though_their_followers_are_killed_again_and_again(
    client: Client, temporal_address: str, task_queue: str, valkey: ValkeyServer, seed: int
) -> None:
    chance = random.Random(seed)
    runs: list[Run] = []
    try:
        with workers_running(Nexus(temporal_address, task_queue)) as workers:
            await asyncio.to_thread(workers.wait_until_ready)
            for kill in range(1, KILLS + 1):
                while len(runs) < RUNS * kill / KILLS:
                    runs.append(await start_one(client, task_queue, chance))
                await asyncio.sleep(chance.uniform(*UNHARMED_SECONDS))
                workers.kill_one(chance)
            await end_all(runs)
            await until_ended(*map(run_id_of, runs))
            documents = [await ended_true(client, run) for run in runs]
            await in_database(assert_streams_equal_logs, valkey, *map(run_id_of, runs))
        assert len(documents) == RUNS
        assert any(map(was_harmed, documents)), "no kill was in the middle of a run"
    except Exception as error:
        raise AssertionError(f"with seed {seed}: {error}") from error
