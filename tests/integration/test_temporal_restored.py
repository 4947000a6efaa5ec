"""The mirror after its database went back to an older state, or executions were removed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.client import Client

from executions.models import Execution
from executions.retention import remove_executions
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.live.hints import HintQueue
from executions.temporal.models import ClosedRunsSeen, FollowedRun
from tests.integration.full_reads import assert_true
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import Held, HeldOptions, HeldWorkflow
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    until_activity,
    until_ended,
)
from tests.servers.backups import back_up, restore

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [
    pytest.mark.database,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.fixture
def held() -> Held:
    return Held()


async def test_worker_that_begins_afterwards_catches_up_with_what_happened_since(
    client: Client, task_queue: str, held: Held, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    async with held_worker_running(client, task_queue, held):
        ended_since, still_open = [
            await start_with(client, task_queue, HeldWorkflow, HeldOptions([name]))
            for name in ("ends", "stays")
        ]
        await until_activity(run_id_of(ended_since), "ends", "running")
        await until_activity(run_id_of(still_open), "stays", "running")
        await in_database(back_up, backup)
        held.fail("stays")
        held.complete("ends")
        begun_since = await start_with(client, task_queue, HeldWorkflow, HeldOptions(["new"]))
        held.complete("new")
        await until_ended(run_id_of(ended_since), run_id_of(begun_since))
    await in_database(restore, backup)
    assert not await in_database(Execution.objects.filter(pk=run_id_of(begun_since)).exists)
    async with held_worker_running(client, task_queue, held):
        await until_ended(run_id_of(ended_since), run_id_of(begun_since))
        held.complete("stays")
        await until_ended(run_id_of(still_open))
    for run in (ended_since, still_open, begun_since):
        await assert_true(client, run)
    assert not await in_database(FollowedRun.objects.exists)


def remove_everything_that_ended() -> None:
    assert any(removed.is_whole for removed in remove_executions(datetime.now(UTC)))


async def test_runs_of_removed_executions_are_not_found_again(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        removed = await start_with(client, task_queue, HeldWorkflow, HeldOptions(["a"]))
        held.complete("a")
        await until_ended(run_id_of(removed))
    await in_database(remove_everything_that_ended)
    # as of a process that has never looked
    await in_database(lambda: ClosedRunsSeen.objects.exclude(namespace="").delete())
    async with held_worker_running(client, task_queue, held, plugins=[]):
        later = await start_with(client, task_queue, HeldWorkflow, HeldOptions(["b"]))
        held.complete("b")
        await later.result()
        async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
            await until_ended(run_id_of(later))
    assert not await in_database(Execution.objects.filter(pk=run_id_of(removed)).exists)
