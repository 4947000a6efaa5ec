"""What Temporal really says of a pending activity, in each state that it can be in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus, PendingState
from executions.temporal.history.changes import ErrorDetails
from executions.temporal.live.descriptions import DescribedActivity, described
from executions.temporal.live.precedence import Standing
from tests.integration.temporal_runs import run_id_of, start, until

pytest_plugins = ["tests.integration.temporal_fixtures"]

WORKER = "the-worker"
PENDING, RUNNING, RETRYING = (
    ActivityStatus.PENDING,
    ActivityStatus.RUNNING,
    ActivityStatus.RETRYING,
)
SOON, LATER = 1.0, 60.0
"""Seconds to the next attempt: one that comes, and one that the test does not see."""

Run = WorkflowHandle[Any, Any]


@workflow.defn(sandboxed=False)
class OneObedientActivityWorkflow:
    """Runs the activity `obey` on a task queue of its own, whose worker may be away."""

    @workflow.run
    async def run(self, retry_seconds: float, timeout_seconds: float) -> None:
        await workflow.execute_activity(
            "obey",
            activity_id="a",
            task_queue=f"{workflow.info().task_queue}-activities",
            start_to_close_timeout=timedelta(seconds=timeout_seconds),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=retry_seconds), backoff_coefficient=1.0
            ),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


class Activities:
    """A worker's activity, and what it is told to do next."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = f"{task_queue}-activities"
        self._orders: asyncio.Queue[str] = asyncio.Queue()

    def order(self, what: str) -> None:
        self._orders.put_nowait(what)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with Worker(
            self._client,
            task_queue=self._task_queue,
            activities=[self._obey],
            identity=WORKER,
        ):
            yield

    @activity.defn(name="obey")
    async def _obey(self) -> None:
        while await self._orders.get() == "heartbeat":
            activity.heartbeat({"progress": 0.5})
        raise ApplicationError("declined", type="Declined")


@pytest.fixture
def activities(client: Client, task_queue: str) -> Activities:
    return Activities(client, task_queue)


@asynccontextmanager
async def running(
    client: Client, task_queue: str, retry_seconds: float = LATER, timeout_seconds: float = LATER
) -> AsyncIterator[Run]:
    worker = Worker(client, task_queue=task_queue, workflows=[OneObedientActivityWorkflow])
    async with worker:
        run = await start(
            client, task_queue, OneObedientActivityWorkflow, retry_seconds, timeout_seconds
        )
        try:
            yield run
        finally:
            with suppress(RPCError):
                await run.terminate()


async def until_told(
    run: Run,
    attempt: int,
    status: ActivityStatus,
    asked: PendingState | None = None,
    having: Callable[[DescribedActivity], object] = bool,
) -> DescribedActivity:
    async def found() -> list[DescribedActivity]:
        pending = map(described, (await run.describe()).raw_description.pending_activities)
        return [told for told in pending if stands(told.standing) and having(told)]

    def stands(told: Standing) -> bool:
        return (told.attempt, told.status, told.pending_state) == (attempt, status, asked)

    [told] = await until(f"{attempt} {status} {asked}", found)
    return told


def address(client: Client, run: Run) -> dict[str, Any]:
    execution = WorkflowExecution(workflow_id=run.id, run_id=run_id_of(run))
    return {"namespace": client.namespace, "execution": execution, "id": "a"}


async def pause(client: Client, run: Run) -> None:
    await client.workflow_service.pause_activity(PauseActivityRequest(**address(client, run)))


async def unpause(client: Client, run: Run) -> None:
    await client.workflow_service.unpause_activity(UnpauseActivityRequest(**address(client, run)))


async def test_queued_running_and_backing_off(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue) as run:
        queued = await until_told(run, 1, PENDING)
        assert queued.engine_activity_id == "a"
        assert queued.scheduled_at is not None
        assert (queued.error, queued.notes) == (None, ())
        async with activities.working():
            begun = await until_told(run, 1, RUNNING)
            [note] = begun.notes
            assert begun.scheduled_at == note.scheduled_at == queued.scheduled_at
            assert begun.started_at is not None
            assert begun.started_at == note.started_at
            assert begun.started_at > queued.scheduled_at
            assert (note.number, note.worker_identity) == (1, WORKER)
            assert (note.outcome, note.heartbeat_at) == (AttemptOutcome.RUNNING, None)

            activities.order("heartbeat")
            beating = await until_told(run, 1, RUNNING, having=lambda told: told.progress)
            [note] = beating.notes
            assert beating.progress == 0.5
            assert note.heartbeat_at is not None
            assert note.heartbeat_details is not None
            assert [shown["value"] for shown in note.heartbeat_details] == [{"progress": 0.5}]

            activities.order("fail")
            waiting = await until_told(run, 1, RETRYING)
            due = waiting.standing.next_attempt_at
            assert due is not None
            assert due > datetime.now(UTC)
            assert waiting.error is not None
            assert (waiting.error.type, waiting.error.message) == ("Declined", "declined")
            [note] = waiting.notes
            assert (note.number, note.outcome) == (1, AttemptOutcome.FAILED)
            assert (note.worker_identity, note.next_attempt_at) == (WORKER, due)
            assert note.ended_at is not None
            assert due - note.ended_at == pytest.approx(
                timedelta(seconds=LATER), abs=timedelta(seconds=1)
            )
            assert "_obey" in (note.failure or {})["stack_trace"]
            assert note.heartbeat_at is not None


async def test_queued_for_its_retry_and_running_again(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue, retry_seconds=3 * SOON) as run:
        async with activities.working():
            activities.order("heartbeat")
            activities.order("fail")
            waiting = await until_told(run, 1, RETRYING)
            due = waiting.standing.next_attempt_at
            assert due is not None
        queued = await until_told(
            run, 1, RETRYING, having=lambda told: told.standing.next_attempt_at is None
        )
        assert queued.scheduled_at == due
        assert [note.number for note in queued.notes] == [1]
        async with activities.working():
            again = await until_told(run, 2, RUNNING)
            earlier, note = again.notes
            assert earlier.outcome is AttemptOutcome.FAILED
            assert earlier.heartbeat_at is not None
            assert earlier.next_attempt_at == note.scheduled_at == due
            assert note.started_at is not None
            assert note.started_at >= due
            # The failed attempt's heartbeats are not those of the one that runs.
            assert (again.progress, note.heartbeat_at) == (None, None)
            assert again.error == ErrorDetails(
                "Declined", "declined", (earlier.failure or {})["stack_trace"]
            )


async def test_timed_out_and_backing_off(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue, SOON, SOON) as run, activities.working():
        activities.order("fail")
        waiting = await until_told(run, 2, RETRYING)
        assert waiting.standing.next_attempt_at is not None
        [note] = waiting.notes
        # The server still tells when the attempt ended that failed before.
        assert (note.outcome, note.ended_at) == (AttemptOutcome.TIMED_OUT, None)


async def test_asked_to_cancel(client: Client, task_queue: str, activities: Activities) -> None:
    async with running(client, task_queue) as run, activities.working():
        await until_told(run, 1, RUNNING)
        await run.cancel()
        told = await until_told(run, 1, RUNNING, PendingState.CANCEL_REQUESTED)
        assert [note.number for note in told.notes] == [1]
        # Which of the two is told where both were asked:
        await pause(client, run)
        await until_told(run, 1, RUNNING, PendingState.CANCEL_REQUESTED)


async def test_paused_before_it_began(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue) as run:
        await until_told(run, 1, PENDING)
        await pause(client, run)
        assert (await until_told(run, 1, PENDING, PendingState.PAUSED)).notes == ()
        await unpause(client, run)
        await until_told(run, 1, PENDING)


async def test_asked_to_pause_then_paused_then_running_again(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue) as run, activities.working():
        await until_told(run, 1, RUNNING)
        await pause(client, run)
        asked = await until_told(run, 1, RUNNING, PendingState.PAUSE_REQUESTED)
        assert asked.started_at is not None
        activities.order("fail")
        paused = await until_told(run, 1, RETRYING, PendingState.PAUSED)
        assert (paused.standing.next_attempt_at, paused.started_at) == (None, None)
        [note] = paused.notes
        assert (note.number, note.outcome) == (1, AttemptOutcome.FAILED)
        assert (note.ended_at is not None, note.next_attempt_at) == (True, None)
        await unpause(client, run)
        again = await until_told(run, 2, RUNNING)
        # Unpausing makes the server forget why the attempt before it failed.
        assert again.error is None
        assert [note.number for note in again.notes] == [2]


async def test_paused_while_backing_off(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue) as run, activities.working():
        activities.order("fail")
        await until_told(run, 1, RETRYING)
        await pause(client, run)
        paused = await until_told(run, 1, RETRYING, PendingState.PAUSED)
        assert paused.standing.next_attempt_at is None
        [note] = paused.notes
        assert (note.number, note.worker_identity) == (1, WORKER)


async def test_cancelled_while_backing_off_is_pending_no_more(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async def nothing_pending() -> bool:
        return not (await run.describe()).raw_description.pending_activities

    async with running(client, task_queue) as run, activities.working():
        activities.order("fail")
        await until_told(run, 1, RETRYING)
        await run.cancel()
        await until("nothing pending", nothing_pending)


async def test_reset_while_running_again(
    client: Client, task_queue: str, activities: Activities
) -> None:
    async with running(client, task_queue, retry_seconds=SOON) as run, activities.working():
        activities.order("fail")
        await until_told(run, 2, RUNNING)
        await client.workflow_service.reset_activity(ResetActivityRequest(**address(client, run)))
        told = await until_told(run, 1, RUNNING)
        assert [note.number for note in told.notes] == [1]
        assert told.error is not None
