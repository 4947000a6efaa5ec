"""Workflows that use what Temporal offers beside ordinary activities, each in a small way."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
)
from temporalio.service import RPCError
from temporalio.workflow import ActivityCancellationType, ParentClosePolicy

_LIMIT = timedelta(seconds=30)
_ONCE = RetryPolicy(maximum_attempts=1)
_SOON = RetryPolicy(initial_interval=timedelta(seconds=0.02), backoff_coefficient=1.0)


@activity.defn
async def later(failures: int, seconds: float = 0.0) -> int:
    """Succeeds, in that time, once so many attempts have failed; returns the attempt."""
    await asyncio.sleep(seconds)
    attempt = activity.info().attempt
    if attempt <= failures:
        raise ApplicationError(f"Not in attempt {attempt}", type="NotYet")
    return attempt


@activity.defn
async def patient() -> None:
    """Goes on until it is cancelled."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.02)


def _step(activity_id: str, failures: int = 0, seconds: float = 0.0) -> Awaitable[int]:
    return workflow.start_activity(
        later,
        args=[failures, seconds],
        activity_id=activity_id,
        start_to_close_timeout=_LIMIT,
        retry_policy=_SOON,
    )


def _local(
    activity_id: str,
    failures: int = 0,
    seconds: float = 0.0,
    retry_policy: RetryPolicy = _SOON,
    limit: timedelta = _LIMIT,
) -> Awaitable[int]:
    return workflow.start_local_activity(
        later,
        args=[failures, seconds],
        activity_id=activity_id,
        start_to_close_timeout=limit,
        retry_policy=retry_policy,
    )


@workflow.defn
class LocalActivitiesWorkflow:
    """first → left and right at once → flaky → after (an ordinary one) → refused → slow."""

    @workflow.run
    async def run(self) -> None:
        await _local("first")
        await asyncio.gather(_local("left", seconds=0.02), _local("right", seconds=0.05))
        await _local("flaky", failures=2)
        await _step("after")
        with suppress(FailureError):
            await _local("refused", 1, retry_policy=_ONCE)
        with suppress(FailureError):
            await _local("slow", 0, 60.0, _ONCE, timedelta(seconds=0.1))


@workflow.defn
class PatientLocalActivityWorkflow:
    """A local activity whose second attempt waits for so long that a timer does the waiting."""

    @workflow.run
    async def run(self) -> int:
        attempt: int = await workflow.execute_local_activity(
            later,
            1,
            start_to_close_timeout=_LIMIT,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.2)),
            local_retry_threshold=timedelta(seconds=0.1),
        )
        return attempt


@workflow.defn
class ChildWorkflow:
    """Does as it is told: `complete`, `fail` or `wait`."""

    @workflow.run
    async def run(self, how: str) -> str:
        if how == "fail":
            raise ApplicationError("The child was told to fail", type="ToldToFail")
        if how == "wait":
            await workflow.sleep(60)
        return how


@workflow.defn
class ChildrenWorkflow:
    """Children that complete, fail, cannot start, time out, are cancelled, and are left alone."""

    @workflow.run
    async def run(self) -> None:
        mine = workflow.info().workflow_id
        await workflow.execute_child_workflow(ChildWorkflow.run, "complete", id=f"{mine}/completed")
        with suppress(ChildWorkflowError):
            await workflow.execute_child_workflow(ChildWorkflow.run, "fail", id=f"{mine}/failed")
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(ChildWorkflow.run, "complete", id=mine)
        with suppress(ChildWorkflowError):
            await workflow.execute_child_workflow(
                ChildWorkflow.run,
                "wait",
                id=f"{mine}/timed-out",
                run_timeout=timedelta(seconds=1),
            )
        cancelled = await workflow.start_child_workflow(
            ChildWorkflow.run, "wait", id=f"{mine}/cancelled"
        )
        cancelled.cancel()
        with suppress(ChildWorkflowError, asyncio.CancelledError):
            await cancelled
        await workflow.start_child_workflow(
            ChildWorkflow.run,
            "wait",
            id=f"{mine}/abandoned",
            parent_close_policy=ParentClosePolicy.ABANDON,
        )


@workflow.defn
class TimersWorkflow:
    """Waits, works, and cancels a longer wait."""

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(0.05, summary="Cooling down")
        longer = asyncio.create_task(workflow.sleep(60))
        await _step("after-the-wait")
        longer.cancel()
        with suppress(asyncio.CancelledError):
            await longer


@workflow.defn
class TalkingWorkflow:
    """Starts a step that takes a moment, then one for each signal, until told to finish."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._finished = False

    @workflow.run
    async def run(self, seconds: float = 0.0) -> None:
        opening = _step("opening", seconds=seconds)
        while not self._finished:
            await workflow.wait_condition(lambda: self._finished or bool(self._said))
            if self._said:
                await _step(self._said.pop(0))
        await opening

    @workflow.signal
    def say(self, activity_id: str) -> None:
        self._said.append(activity_id)

    @workflow.signal
    def finish(self) -> None:
        self._finished = True

    @workflow.update
    async def ask(self, number: int) -> int:
        """Answers after a step; refuses 13 as it runs."""
        await _step(f"answer-{number}")
        if number == 13:
            raise ApplicationError("Not that number", type="Unlucky")
        return number + 1

    @ask.validator
    def validate_ask(self, number: int) -> None:
        if number < 0:
            raise ApplicationError("No negative numbers", type="Negative")


@workflow.defn
class ReachingWorkflow:
    """Signals and cancels another workflow, and one that there is not; upserts its memo."""

    @workflow.run
    async def run(self, other: str) -> None:
        workflow.upsert_memo({"reached": other})
        for workflow_id in (other, f"{other}-missing"):
            handle: workflow.ExternalWorkflowHandle[Any] = workflow.get_external_workflow_handle(
                workflow_id
            )
            with suppress(ApplicationError, RPCError):
                await handle.signal("say", "hello")
            with suppress(ApplicationError, RPCError):
                await handle.cancel()


@workflow.defn
class TimeoutsWorkflow:
    """Every kind of timeout at once."""

    @workflow.run
    async def run(self) -> None:
        def one(activity_id: str, *args: Any, **options: Any) -> Awaitable[int]:
            return workflow.start_activity(
                later,
                args=args,
                activity_id=activity_id,
                **{"retry_policy": _ONCE} | options,
            )

        moment = timedelta(seconds=0.3)
        await asyncio.gather(
            one("start-to-close", 0, 60.0, start_to_close_timeout=moment),
            one(
                "schedule-to-start",
                0,
                start_to_close_timeout=_LIMIT,
                schedule_to_start_timeout=moment,
                task_queue="nobody-works-here",
            ),
            one("schedule-to-close", 99, schedule_to_close_timeout=moment * 2, retry_policy=_SOON),
            one("heartbeat", 0, 60.0, start_to_close_timeout=_LIMIT, heartbeat_timeout=moment),
            return_exceptions=True,
        )


@workflow.defn
class ImpatientWorkflow:
    """Cancels one of its activities and waits for that."""

    @workflow.run
    async def run(self) -> None:
        handle = workflow.start_activity(
            patient,
            activity_id="patient",
            start_to_close_timeout=_LIMIT,
            heartbeat_timeout=timedelta(seconds=2),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await _step("meanwhile", seconds=0.1)
        handle.cancel()
        with suppress(ActivityError, asyncio.CancelledError):
            await handle


@workflow.defn
class BranchingWorkflow:
    """check → ship or refund, as it is told → report."""

    @workflow.run
    async def run(self, branch: str = "ship") -> None:
        await _step("check")
        await _step("pack-and-ship" if branch == "ship" else "refund")
        await _step("report")


@workflow.defn
class SecondTryWorkflow:
    """Its first run fails, the retry of it completes."""

    @workflow.run
    async def run(self) -> int:
        await _step("try")
        attempt = workflow.info().attempt
        if attempt == 1:
            raise ApplicationError("The first run is always wrong", type="FirstRun")
        return attempt


FEATURE_WORKFLOWS = (
    LocalActivitiesWorkflow,
    PatientLocalActivityWorkflow,
    ChildWorkflow,
    ChildrenWorkflow,
    TimersWorkflow,
    TalkingWorkflow,
    ReachingWorkflow,
    TimeoutsWorkflow,
    ImpatientWorkflow,
    BranchingWorkflow,
    SecondTryWorkflow,
)
FEATURE_ACTIVITIES = (later, patient)
