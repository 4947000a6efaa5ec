"""The ActivitySyncService where things go wrong, are odd, or happened before it looked."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import pytest
from django.db import OperationalError
from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes

from executions.event_log import read_events
from executions.models import Execution
from executions.recording import UnacceptableValueError
from executions.temporal import activity_sync_service
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.examples.workflows import (
    CancellableOptions,
    CancellableWorkflow,
    FailingOptions,
    FailingWorkflow,
    FanOutOptions,
    FanOutWorkflow,
    PipelineOptions,
    PipelineWorkflow,
)
from executions.temporal.following import hint_recorder, leases, run_follower
from executions.temporal.live.hints import AttemptBegan, HintQueue
from executions.temporal.mirroring import histories, live_states
from tests.histories.workflows import (
    AbandoningWorkflow,
    ContinuingWorkflow,
    RepeatedIdsWorkflow,
)
from tests.integration.full_reads import assert_true
from tests.integration.temporal_runs import (
    in_database,
    mirrored_document,
    run_id_of,
    start,
    states_told,
    until,
    until_activity,
    until_ended,
    worker_running,
)

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "discovery_often"),
    pytest.mark.database,
]


RECORDING: list[tuple[Any, str]] = [
    (histories, "record_start"),
    (histories, "record_history"),
    (hint_recorder, "record_hints"),
    (live_states, "record_descriptions"),
]


@contextmanager
def database_unreliable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Each write fails before its commit, then after it, then succeeds; counts the failures."""
    failed: Counter[str] = Counter()

    def unreliable(name: str, job: Any) -> Any:
        outcomes = cycle(("away", "lost", "well"))

        def run(*told: Any) -> Any:
            outcome = next(outcomes)
            done = None if outcome == "away" else job(*told)
            if outcome != "well":
                failed[name] += 1
                raise OperationalError(f"the database is {outcome}")
            return done

        return run

    with monkeypatch.context() as patched:
        patched.setattr(run_follower, "RETRY_SECONDS", (0.01, 0.05))
        for room, name in RECORDING:
            patched.setattr(room, name, unreliable(name, getattr(room, name)))
        yield failed


@contextmanager
def database_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*told: object) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patched:
        for room, name in (*RECORDING, (leases, "claim"), (leases, "take_over")):
            patched.setattr(room, name, fail)
        yield


async def test_two_services_over_the_same_runs_record_each_thing_once(
    client: Client, task_queue: str
) -> None:
    second = ActivitySyncService(client, HintQueue(), task_queue=task_queue)
    async with worker_running(client, task_queue), second:
        runs = [
            await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.05)),
            await start(client, task_queue, FailingWorkflow, FailingOptions(0.05)),
            *[
                await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.05, 10))
                for _ in range(4)
            ],
        ]
        await until_ended(*map(run_id_of, runs))
    for run in runs:
        await assert_true(client, run)


@pytest.mark.parametrize("ending", ["", ", it's"])
async def test_run_that_ended_while_nobody_looked_is_mirrored_later(
    client: Client, task_queue: str, ending: str
) -> None:
    task_queue += ending
    async with worker_running(client, task_queue, plugins=[]):
        run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.01))
        await run.result()
    async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    assert document["activities"][2]["retry_count"] == 1


async def test_open_run_is_found_when_the_service_starts_in_its_middle(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue, plugins=[]):
        run = await start(client, task_queue, CancellableWorkflow, CancellableOptions(0.02, 10_000))
        async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
            await until_activity(run_id_of(run), "1", "pending")
            await run.cancel()
            await until_ended(run_id_of(run))
    await assert_true(client, run)


async def test_runs_of_other_task_queues_are_left_alone(client: Client, task_queue: str) -> None:
    other = f"{task_queue}-other"
    async with (
        worker_running(client, other, plugins=[]),
        worker_running(client, task_queue),
    ):
        foreign = await start(client, other, PipelineWorkflow, PipelineOptions(0.01))
        await foreign.result()
        own = await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.01))
        await until_ended(run_id_of(own))
    assert not await in_database(Execution.objects.filter(pk=run_id_of(foreign)).exists)


async def test_what_could_not_be_written_is_written_when_the_database_is_back(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_unreliable(monkeypatch) as failed:
        async with worker_running(client, task_queue):
            run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.5))
            await until_ended(run_id_of(run))
            log = await in_database(read_events, run_id_of(run), -1, 1_000)
    assert min(failed["record_history"], failed["record_hints"]) >= 6
    assert states_told(log, "3") == ["pending", "running", "retrying", "running", "completed"]
    await assert_true(client, run)


async def test_workflows_run_on_without_a_database_and_are_mirrored_afterwards(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_away(monkeypatch):
        async with worker_running(client, task_queue):
            run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.01, 5))
            assert await run.result() == 5
    async with worker_running(client, task_queue):
        await until_ended(run_id_of(run))
    await assert_true(client, run)


async def test_end_of_the_worker_waits_until_what_happened_is_recorded(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.01, 10))
        await run.result()
    await assert_true(client, run)


async def test_service_ends_soon_and_records_what_it_was_told_last(
    client: Client, task_queue: str
) -> None:
    hints = HintQueue()
    run = await start(client, task_queue, CancellableWorkflow, CancellableOptions())
    async with worker_running(client, task_queue, plugins=[]):
        async with ActivitySyncService(client, hints, task_queue=task_queue):
            queued = await until_activity(run_id_of(run), "1", "pending")
            scheduled_at = datetime.fromisoformat(queued["scheduled_at"])
            about: Any = {"workflow_id": run.id, "run_id": run_id_of(run), "activity_id": "1"}
            began = AttemptBegan(
                **about, scheduled_at=scheduled_at, attempt=1, started_at=datetime.now(UTC)
            )
            hints.put(began)
            ending = time.monotonic()
        assert time.monotonic() - ending < activity_sync_service.FINISH_SECONDS / 2
        document = await in_database(mirrored_document, run_id_of(run))
        await run.terminate()
    assert document["activities"][0]["status"] == "running"


async def test_continued_run_is_followed_into_its_successors(
    client: Client, task_queue: str
) -> None:
    # Hints do not announce the successors here: only the end of each run does.
    async with worker_running(client, task_queue, plugins=[]):
        run = await start(client, task_queue, ContinuingWorkflow, 2)
        await client.get_workflow_handle(run.id).result()
    async with ActivitySyncService(
        client, HintQueue(), task_queue="nothing-to-discover"
    ) as service:
        service.follow(run.id, run_id_of(run))
        await until("the third run's end", lambda: in_database(statuses_of, run.id, 3))
    chain = await in_database(statuses_of, run.id, 3)
    assert chain == ["continued_as_new", "continued_as_new", "completed"]


def statuses_of(workflow_id: str, runs: int) -> list[str] | None:
    """The statuses of the workflow's runs, oldest first, once there are that many, all ended."""
    rows = list(Execution.objects.filter(workflow_id=workflow_id).order_by("created_at"))
    if len(rows) < runs or any(row.completed_at is None for row in rows):
        return None
    return [row.status for row in rows]


async def test_terminated_run_takes_its_open_activities_along(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, AbandoningWorkflow, 60.0)
        running = await until_activity(run_id_of(run), "running", "running")
        await run.terminate(reason="Out of budget")
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    assert states_told(log, "running") == ["pending", "running", "cancelled"]
    assert states_told(log, "queued") == ["pending", "cancelled"]
    document = await in_database(mirrored_document, run_id_of(run))
    assert document["status"] == "terminated"
    assert document["error_details"] == {"type": "TerminatedError", "message": "Out of budget"}
    abandoned = document["activities"][0]
    assert abandoned["started_at"] == running["started_at"]
    assert abandoned["error_details"] == {
        "type": "RunClosed",
        "message": "Still open when the run ended as terminated: Out of budget",
    }


async def test_hints_find_the_right_one_of_activities_with_the_same_id(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, RepeatedIdsWorkflow, 0.5)
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    await assert_true(client, run)
    for activity_id in ("again", "again~2", "again~3"):
        assert states_told(log, activity_id) == ["pending", "running", "completed"]


async def test_encoded_failures_are_told_through_the_clients_converter(
    temporal_address: str, task_queue: str
) -> None:
    encoding = DataConverter(failure_converter_class=DefaultFailureConverterWithEncodedAttributes)
    client = await Client.connect(temporal_address, data_converter=encoding)
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, FailingWorkflow, FailingOptions(0.01))
        await until_ended(run_id_of(run))
    document = await in_database(mirrored_document, run_id_of(run))
    reason = {"type": "CardDeclined", "message": "The card was declined"}
    assert document["error_details"] == reason
    assert document["activities"][1]["error_details"] == reason


async def test_run_that_can_never_be_recorded_is_given_up_and_the_others_are_not(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    record_history = histories.record_history

    def refuse_one(execution_id: str, *told: Any) -> None:
        if execution_id == run_id_of(odd):
            refused.append(execution_id)
            raise UnacceptableValueError("workflow_id", "is not acceptable to this test")
        record_history(execution_id, *told)

    async with worker_running(client, task_queue, plugins=[]):
        odd = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.0, 1))
        run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.0, 1))
        await odd.result()
        monkeypatch.setattr(histories, "record_history", refuse_one)
        async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
            await until_ended(run_id_of(run))
            later = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.0, 1))
            await until_ended(run_id_of(later))
    assert refused == [run_id_of(odd)]


async def test_following_that_fails_for_no_known_reason_is_taken_up_again(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_history = histories.record_history
    failures = iter([ZeroDivisionError("a mistake")])

    def stumble_once(execution_id: str, *told: Any) -> None:
        for failure in failures:
            raise failure
        record_history(execution_id, *told)

    monkeypatch.setattr(histories, "record_history", stumble_once)
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(0.1))
        await until_ended(run_id_of(run))
    await assert_true(client, run)


async def test_discovery_goes_on_after_it_failed(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = leases.claim
    failures = iter([OperationalError("the database is away"), ZeroDivisionError("a mistake")])

    def stumble(*told: Any) -> dict[str, int]:
        for failure in failures:
            raise failure
        return claim(*told)

    async with worker_running(client, task_queue, plugins=[]):
        run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(0.0, 1))
        await run.result()
    monkeypatch.setattr(leases, "claim", stumble)
    async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
        await until_ended(run_id_of(run))
    assert list(failures) == []


async def test_run_that_temporal_does_not_have_is_given_up(client: Client, task_queue: str) -> None:
    async with ActivitySyncService(client, HintQueue(), task_queue=task_queue) as service:
        missing = "00000000-0000-4000-8000-000000000000"
        service.follow("nobody", missing)

        async def given_up() -> bool:
            return missing not in service.followed

        await until("the run to be given up", given_up)
    assert not await in_database(Execution.objects.filter(pk=missing).exists)
