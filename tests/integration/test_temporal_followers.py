"""Who follows a run: one of several, another when that one is gone, from wherever it is."""

import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from temporalio.client import Client

from executions.models import Execution
from executions.temporal import activity_sync_service
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.examples.workflows import CancellableOptions, CancellableWorkflow
from executions.temporal.following import leases, run_follower
from executions.temporal.following.discovery import VISIBILITY_LAG
from executions.temporal.following.run_follower import RunFollower
from executions.temporal.live.hints import HintQueue
from executions.temporal.models import ClosedRunsSeen, FollowedRun
from executions.temporal.plugin import NexusPlugin
from tests.integration.full_reads import assert_true, attempts_of, values_told
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import EchoWorkflow, Held, HeldOptions, HeldWorkflow
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    until,
    until_activity,
    until_ended,
)
from tests.integration.test_temporal_commands import Nexus, line_of

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

SLACK_SECONDS: Final = 1.5
"""What a machine that is busy with other things may take longer."""

ELSEWHERE_SECONDS: Final = 3.0
"""How soon a state is seen that no worker with Nexus tells of."""


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def positions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions from which runs are followed during the test."""
    begun: list[int] = []

    class Noted(RunFollower):
        def __init__(self, workflow_id: str, run_id: str, position: int, *more: Any) -> None:
            begun.append(position)
            super().__init__(workflow_id, run_id, position, *more)

    monkeypatch.setattr(activity_sync_service, "RunFollower", Noted)
    return begun


@pytest.fixture
def never_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is seen live can have come from a worker's hints alone."""
    monkeypatch.setattr(run_follower, "DESCRIBE_SECONDS", 600.0)


def service_of(client: Client, task_queue: str | None) -> ActivitySyncService:
    """A service beside no worker."""
    return ActivitySyncService(client, HintQueue(), task_queue=task_queue)


async def until_followed(service: ActivitySyncService, run_id: str) -> None:
    async def is_followed() -> bool:
        return run_id in service.followed

    await until(f"{run_id} to be followed", is_followed)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"took {took:.2f} s, not {seconds:g}"


async def told_each_once(client: Client, run: Any, activity_id: str) -> list[str]:
    """The run is true, none of its activity's statuses was told twice; these statuses."""
    await assert_true(client, run)
    statuses = await in_database(values_told, run_id_of(run), activity_id, "status")
    assert len(set(statuses)) == len(statuses)
    return statuses


@pytest.mark.database
async def test_each_run_is_followed_by_exactly_one_of_two_workers(
    client: Client,
    temporal_address: str,
    task_queue: str,
    held: Held,
    services: list[ActivitySyncService],
) -> None:
    other = await Client.connect(temporal_address, identity="the other")
    async with (
        held_worker_running(client, task_queue, held),
        held_worker_running(other, task_queue, held),
    ):
        runs = [
            await start_with(client, task_queue, HeldWorkflow, HeldOptions([f"step-{number}"]))
            for number in range(12)
        ]
        run_ids = {run_id_of(run) for run in runs}
        first, second = services

        async def all_followed() -> bool:
            assert not first.followed & second.followed
            return first.followed | second.followed == run_ids

        await until("all runs to be followed", all_followed)
        followers = await in_database(
            lambda: dict(FollowedRun.objects.values_list("pk", "follower"))
        )
        assert set(followers) == run_ids
        assert None not in followers.values()
        for number in range(12):
            held.complete(f"step-{number}")
        await until_ended(*run_ids)

        async def none_followed() -> bool:
            return not first.followed | second.followed

        # A run's end is committed a moment before its follower lets go of it.
        await until("no run to be followed", none_followed)
    for run in runs:
        await assert_true(client, run)
    assert not await in_database(FollowedRun.objects.exists)


@pytest.mark.database
@pytest.mark.usefixtures("never_described")
async def test_worker_that_does_not_follow_a_run_has_its_hints_recorded_as_they_come(
    client: Client, task_queue: str, held: Held, services: list[ActivitySyncService]
) -> None:
    run = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
    run_id = run_id_of(run)
    async with service_of(client, task_queue) as follower:
        await until_followed(follower, run_id)
        async with held_worker_running(client, task_queue, held):
            await until_activity(run_id, "held", "running")
            held.heartbeat(0.5)
            await until_activity(run_id, "held", "running", lambda each: each["progress"] == 0.5)
            [of_the_worker] = services
            assert run_id in follower.followed
            assert run_id not in of_the_worker.followed
            held.fail()
            retried = await until_activity(run_id, "held", "running", lambda e: e["retry_count"])
            assert retried["error_details"]["type"] == "ToldToFail"
            held.complete()
            await until_ended(run_id)
    await assert_true(client, run)
    statuses = await in_database(values_told, run_id, "held", "status")
    assert statuses == ["pending", "running", "retrying", "running", "completed"]


@pytest.mark.database
async def test_run_that_is_let_go_is_taken_over_at_once_and_from_its_position(
    client: Client, task_queue: str, held: Held, positions: list[int]
) -> None:
    async with held_worker_running(client, task_queue, held, plugins=[]):
        run = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
        run_id = run_id_of(run)
        async with service_of(client, "another") as second:
            async with service_of(client, task_queue) as first:
                await until_followed(first, run_id)
                await until_activity(run_id, "held", "running")
                assert run_id not in second.followed
            with within(leases.HOLD_SECONDS + SLACK_SECONDS):
                await until_followed(second, run_id)
            held.complete()
            await until_ended(run_id)
    assert await told_each_once(client, run, "held") == ["pending", "running", "completed"]
    beginning, taken_over = positions
    assert beginning == 0
    # Up to the activity's scheduling: its beginning is not in the history yet.
    assert taken_over == 5


@pytest.mark.database
async def test_run_of_a_process_that_hangs_is_taken_over_when_its_lease_lapses(
    client: Client, temporal_address: str, task_queue: str, positions: list[int]
) -> None:
    """And nothing is harmed when that process goes on, and follows it too for a moment."""
    with Nexus(temporal_address, task_queue).worker() as process:
        line_of(process)
        run = await start_with(client, task_queue, CancellableWorkflow, CancellableOptions(9.0, 1))
        run_id = run_id_of(run)
        await until_activity(run_id, "1", "running")
        async with service_of(client, task_queue) as second:
            await until(
                "the second to have looked",
                lambda: in_database(ClosedRunsSeen.objects.filter(task_queue=task_queue).exists),
            )
            assert run_id not in second.followed
            process.send_signal(signal.SIGSTOP)
            try:
                with within(leases.LEASE_SECONDS + leases.HOLD_SECONDS + SLACK_SECONDS):
                    await until_followed(second, run_id)
            finally:
                process.send_signal(signal.SIGCONT)
            await until_ended(run_id)
    # One heartbeat, at the end, may have come before the end.
    assert await told_each_once(client, run, "1") == ["pending", "running", "completed"]
    assert positions == [5]


@pytest.fixture
def everything_followed_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if leases did not keep processes from following the same runs."""
    claimed: set[str] = set()

    def claim(process_id: Any, namespace: str, runs: dict[str, str]) -> dict[str, int]:
        claimed.update(runs)
        return dict.fromkeys(runs, 0)

    monkeypatch.setattr(leases, "claim", claim)
    monkeypatch.setattr(leases, "hold", lambda process_id: frozenset(claimed))


@pytest.mark.database
@pytest.mark.usefixtures("discovery_often", "everything_followed_by_all")
async def test_two_that_follow_one_run_at_once_do_no_harm(
    client: Client, task_queue: str, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_follower, "DESCRIBE_SECONDS", 0.05)
    async with (
        held_worker_running(client, task_queue, held, plugins=[]),
        service_of(client, task_queue) as first,
        service_of(client, task_queue) as second,
    ):
        run = await start_with(
            client, task_queue, HeldWorkflow, HeldOptions([*"abc", "last"], retry_seconds=0.3)
        )
        run_id = run_id_of(run)
        await until_followed(first, run_id)
        await until_followed(second, run_id)
        for activity_id in "abc":
            await until_activity(run_id, activity_id, "running")
            held.fail(activity_id)
            await until_activity(run_id, activity_id, "retrying")
            held.complete(activity_id)
        assert run_id in first.followed & second.followed
        held.complete("last")
        await until_ended(run_id)
    await assert_true(client, run)
    for activity_id in "abc":
        statuses = await in_database(values_told, run_id, activity_id, "status")
        assert statuses in (
            ["pending", "running", "retrying", "running", "completed"],
            ["pending", "running", "retrying", "completed"],
        )


@pytest.mark.usefixtures("discovery_often")
async def test_states_of_a_worker_without_nexus_are_seen_from_elsewhere(
    client: Client, task_queue: str, held: Held
) -> None:
    await in_database(everything_closed_was_seen, client.namespace, "")
    plugin = NexusPlugin(whole_namespace=True)
    async with (
        held_worker_running(client, f"{task_queue}-mirror", held, [plugin]),
        held_worker_running(client, task_queue, held, plugins=[], no_remote_activities=True),
    ):
        options = HeldOptions(retry_seconds=2.0, heartbeat_seconds=20.0)
        run = await start_with(client, task_queue, HeldWorkflow, options)
        run_id = run_id_of(run)
        await until_activity(run_id, "held", "pending", lambda each: each["scheduled_at"])
        async with activities_running(client, task_queue, held):
            with within(ELSEWHERE_SECONDS):
                await until_activity(run_id, "held", "running")
            held.fail()
            with within(ELSEWHERE_SECONDS):
                backing_off = await until_activity(
                    run_id, "held", "retrying", lambda each: each["next_attempt_at"]
                )
            assert backing_off["error_details"]["type"] == "ToldToFail"
        due = datetime.fromisoformat(backing_off["next_attempt_at"]) - datetime.now(UTC)
        with within(max(0.0, due.total_seconds()) + ELSEWHERE_SECONDS):
            await until_activity(
                run_id, "held", "retrying", lambda each: each["next_attempt_at"] is None
            )
        async with activities_running(client, task_queue, held):
            with within(ELSEWHERE_SECONDS):
                retried = await until_activity(run_id, "held", "running")
            assert retried["retry_count"] == 1
            held.heartbeat(0.5)
            with within(ELSEWHERE_SECONDS):
                await until_activity(
                    run_id, "held", "running", lambda each: each["progress"] == 0.5
                )
            held.complete()
            await until_ended(run_id)
    await assert_true(client, run)
    failed, completed = await in_database(attempts_of, run_id, "held")
    assert (failed.outcome, failed.failure["type"]) == ("failed", "ToldToFail")
    assert failed.worker_identity == completed.worker_identity == client.identity
    assert failed.started_at < failed.ended_at < failed.next_attempt_at < completed.started_at
    assert completed.heartbeat_details[0]["value"] == {"progress": 0.5}


@asynccontextmanager
async def activities_running(client: Client, task_queue: str, held: Held) -> AsyncIterator[None]:
    async with held_worker_running(client, task_queue, held, plugins=[], workflows=[]):
        yield


def everything_closed_was_seen(namespace: str, task_queue: str) -> None:
    """As if somebody had just looked for runs that have closed."""
    ClosedRunsSeen.objects.create(
        namespace=namespace, task_queue=task_queue, closed_before=datetime.now(UTC)
    )


async def a_closed_run(client: Client, task_queue: str) -> Any:
    run = await start_with(client, task_queue, EchoWorkflow, 1)
    await run.result()
    return run


@pytest.mark.usefixtures("discovery_often")
async def test_runs_that_closed_since_somebody_looked_are_found_and_earlier_ones_are_not(
    client: Client, task_queue: str, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_worker_running(client, task_queue, held, plugins=[]):
        earlier = await a_closed_run(client, task_queue)
        await in_database(everything_closed_was_seen, client.namespace, task_queue)
        since = await a_closed_run(client, task_queue)
        async with service_of(client, task_queue):
            await until_ended(run_id_of(since))
    await assert_true(client, since)
    assert not await in_database(Execution.objects.filter(pk=run_id_of(earlier)).exists)


@pytest.mark.database
@pytest.mark.usefixtures("discovery_often")
async def test_it_is_noted_up_to_when_closed_runs_were_looked_for(
    client: Client, task_queue: str, held: Held
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    await in_database(
        ClosedRunsSeen.objects.create,
        namespace=client.namespace,
        task_queue=task_queue,
        closed_before=long_ago,
    )
    async with held_worker_running(client, task_queue, held, plugins=[]):
        run = await a_closed_run(client, task_queue)
        began = datetime.now(UTC)
        async with service_of(client, task_queue):
            await until_ended(run_id_of(run))

            def noted() -> datetime | None:
                seen = ClosedRunsSeen.objects.get(task_queue=task_queue).closed_before
                return seen if seen > long_ago else None

            seen = await until("that it was looked", lambda: in_database(noted))
    assert seen is not None
    assert began - VISIBILITY_LAG <= seen <= datetime.now(UTC) - VISIBILITY_LAG
    await assert_true(client, run)
