"""Workflows that go ways the examples do not, for recorded histories and integration tests."""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from tests.histories.features import FEATURE_ACTIVITIES, FEATURE_WORKFLOWS

_LIMIT = timedelta(seconds=30)
_ONCE = RetryPolicy(maximum_attempts=1)


@activity.defn
async def brief(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return "done"


@activity.defn
async def stuck() -> None:
    """Takes longer than its timeout allows."""
    await asyncio.sleep(60)


@activity.defn
async def refuses() -> None:
    raise ApplicationError("No such customer", type="UnknownCustomer", non_retryable=True)


@activity.defn
def crunch(seconds: float) -> int:
    """Runs in a thread or a process, fails at first, and tells its progress."""
    for done in range(1, 5):
        time.sleep(seconds / 4)
        activity.heartbeat(done / 4)
    if activity.info().attempt == 1:
        raise ArithmeticError("The first attempt is always wrong")
    return activity.info().attempt


def _brief(activity_id: str, seconds: float = 0.0) -> "workflow.ActivityHandle[str]":
    return workflow.start_activity(
        brief, seconds, activity_id=activity_id, start_to_close_timeout=_LIMIT
    )


@workflow.defn
class TwoChainsWorkflow:
    """a1 → a2 beside b1 → b2, then joined by c."""

    @workflow.run
    async def run(self) -> None:
        async def chain(name: str, seconds: float) -> None:
            await _brief(f"{name}1", seconds)
            await _brief(f"{name}2", 4 * seconds)

        await asyncio.gather(chain("a", 0.1), chain("b", 0.3))
        await _brief("c")


@workflow.defn
class SignalledWorkflow:
    """One step, then another that waits for a signal; the signal decides which."""

    def __init__(self) -> None:
        self._next: str | None = None

    @workflow.run
    async def run(self) -> None:
        await _brief("before")
        await workflow.wait_condition(lambda: self._next is not None)
        await _brief(self._next or "")

    @workflow.signal
    def go_on(self, activity_id: str) -> None:
        self._next = activity_id


@workflow.defn
class RepeatedIdsWorkflow:
    """Uses one activity id three times, one after another."""

    @workflow.run
    async def run(self, seconds: float = 0.0) -> None:
        for _ in range(3):
            await _brief("again", seconds)


@workflow.defn
class ContinuingWorkflow:
    """Runs one activity and continues as new, until none are left."""

    @workflow.run
    async def run(self, left: int) -> None:
        await _brief("step")
        if left:
            workflow.continue_as_new(left - 1)


@workflow.defn
class CompensatingWorkflow:
    """A step times out and another is refused; the workflow cleans up and completes."""

    @workflow.run
    async def run(self) -> None:
        with suppress(ActivityError):
            await workflow.execute_activity(
                stuck, start_to_close_timeout=timedelta(seconds=0.3), retry_policy=_ONCE
            )
        try:
            await workflow.execute_activity(refuses, start_to_close_timeout=_LIMIT)
        except ActivityError:
            await _brief("clean-up")


@workflow.defn
class AbandoningWorkflow:
    """Returns while one of its activities runs and another waits for a worker that is not there."""

    @workflow.run
    async def run(self, wait_seconds: float) -> None:
        workflow.start_activity(stuck, start_to_close_timeout=_LIMIT, activity_id="running")
        workflow.start_activity(
            brief,
            start_to_close_timeout=_LIMIT,
            activity_id="queued",
            task_queue="nobody-works-here",
        )
        await workflow.sleep(wait_seconds)


@workflow.defn
class CrunchingWorkflow:
    """Runs the one activity that is not asynchronous."""

    @workflow.run
    async def run(self, seconds: float) -> int:
        return await workflow.execute_activity(
            crunch,
            seconds,
            start_to_close_timeout=_LIMIT,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.01)),
        )


ODD_WORKFLOWS = (
    CrunchingWorkflow,
    TwoChainsWorkflow,
    SignalledWorkflow,
    RepeatedIdsWorkflow,
    ContinuingWorkflow,
    CompensatingWorkflow,
    AbandoningWorkflow,
    *FEATURE_WORKFLOWS,
)
ODD_ACTIVITIES = (brief, stuck, refuses, *FEATURE_ACTIVITIES)
