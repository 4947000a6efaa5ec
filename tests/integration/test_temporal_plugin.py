"""Adopting Nexus: the plugin in workers of every kind, and in the SDK's replayer."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, SharedStateManager

from executions.event_log import read_events
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.examples.workflows import (
    ALL_WORKFLOWS,
    FanOutOptions,
    FanOutWorkflow,
    PipelineOptions,
    PipelineWorkflow,
)
from executions.temporal.live.interceptors import NexusInterceptor
from executions.temporal.plugin import NexusPlugin
from tests.histories.workflows import ODD_WORKFLOWS, CrunchingWorkflow
from tests.integration.full_reads import assert_true
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    start,
    states_told,
    until_activity,
    until_ended,
    worker_running,
)

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

HISTORIES = [
    WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "histories").glob("*.json"))
]
WORKFLOWS = [*ALL_WORKFLOWS, *ODD_WORKFLOWS]


@pytest.mark.filterwarnings("ignore:The same plugin type")
@pytest.mark.parametrize("same", [True, False])
async def test_plugin_on_client_and_worker_acts_once(
    temporal_address: str, task_queue: str, services: list[ActivitySyncService], same: bool
) -> None:
    plugin = NexusPlugin()
    client = await Client.connect(temporal_address, plugins=[plugin])
    plugins = [plugin if same else NexusPlugin()]
    async with worker_running(client, task_queue, plugins=plugins) as worker:
        ours = [
            item
            for item in worker.config(active_config=True)["interceptors"]
            if isinstance(item, NexusInterceptor)
        ]
        run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.05, 3))
        await until_ended(run_id_of(run))
    assert (len(ours), len(services)) == (1, 1)
    await assert_true(client, run)


async def test_plugin_on_a_client_serves_each_of_its_workers(
    temporal_address: str, task_queue: str, services: list[ActivitySyncService]
) -> None:
    client = await Client.connect(temporal_address, plugins=[NexusPlugin()])
    queues = [task_queue, f"{task_queue}-too"]
    async with (
        worker_running(client, queues[0], plugins=[]),
        worker_running(client, queues[1], plugins=[]),
    ):
        runs = [
            await start(client, queue, PipelineWorkflow, PipelineOptions(0.05)) for queue in queues
        ]
        await until_ended(*map(run_id_of, runs))
    assert len(services) == 2
    for run in runs:
        await assert_true(client, run)


async def test_whole_namespace_includes_the_runs_of_other_workers(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, f"{task_queue}-other", plugins=[]):
        foreign = await start(client, f"{task_queue}-other", FanOutWorkflow, FanOutOptions(0.0, 1))
        await foreign.result()
        async with worker_running(client, task_queue, plugins=[NexusPlugin(whole_namespace=True)]):
            await until_ended(run_id_of(foreign))
    await assert_true(client, foreign)


@contextmanager
def executor_of(kind: str) -> Iterator[dict[str, Any]]:
    """Worker options that run synchronous activities in threads or in processes."""
    if kind == "threads":
        with ThreadPoolExecutor(5) as threads:
            yield {"activity_executor": threads, "max_concurrent_activities": 5}
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as processes, context.Manager() as manager:
        yield {
            "activity_executor": processes,
            "shared_state_manager": SharedStateManager.create_from_multiprocessing(manager),
            "max_concurrent_activities": 2,
        }


@pytest.mark.parametrize("kind", ["threads", "processes"])
async def test_activities_in_threads_and_processes_are_seen_live(
    client: Client, task_queue: str, kind: str
) -> None:
    with executor_of(kind) as options:
        async with worker_running(client, task_queue, **options):
            run = await start(client, task_queue, CrunchingWorkflow, 2.0)
            seen = await until_activity(
                run_id_of(run), "1", "running", having=lambda activity: activity["progress"]
            )
            assert seen["progress"] in (0.25, 0.5, 0.75, 1.0)
            await until_ended(run_id_of(run))
            log = await in_database(read_events, run_id_of(run), -1, 1_000)
    await assert_true(client, run)
    assert states_told(log, "1") == ["pending", "running", "retrying", "running", "completed"]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.workflow_id)
async def test_histories_recorded_without_nexus_replay_with_it(history: WorkflowHistory) -> None:
    replayer = Replayer(workflows=WORKFLOWS, plugins=[NexusPlugin()])
    await replayer.replay_workflow(history)
    [ours] = replayer.config(active_config=True)["interceptors"]
    assert isinstance(ours, NexusInterceptor)
    hints, _ = ours.hints.take()
    # A run whose first task was never done is not replayed: its task runs for the first time.
    was_begun = any(
        event.HasField("workflow_task_completed_event_attributes") for event in history.events
    )
    assert len(hints) == (0 if was_begun else 1)


async def test_history_recorded_with_nexus_replays_without_it(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.01))
        await run.result()
    await Replayer(workflows=WORKFLOWS).replay_workflow(await run.fetch_history())


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True
    )


def test_importing_the_plugin_does_not_set_up_django() -> None:
    done = python(
        "import sys, executions.temporal.plugin\n"
        "assert not any(name in sys.modules for name in ('django.db', 'executions.models'))"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting_up", "problem"),
    [
        (
            "settings.configure(INSTALLED_APPS=[]); django.setup()",
            "lacks executions, executions.te",
        ),
        ("import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'no.such'", "No module named 'no'"),
    ],
)
def test_worker_without_nexus_in_its_project_is_refused_at_once(
    setting_up: str, problem: str
) -> None:
    done = python(
        "import django\n"
        "from django.conf import settings\n"
        f"{setting_up}\n"
        "from executions.temporal.plugin import NexusPlugin\n"
        "NexusPlugin().configure_worker({})"
    )
    assert done.returncode == 1
    assert problem in done.stderr
