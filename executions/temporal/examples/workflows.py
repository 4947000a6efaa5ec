"""Example workflows: each shows states that a viewer should be seen to show."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from executions.temporal.examples import activities
    from executions.temporal.examples.activities import Step

_STEP_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class PipelineOptions:
    step_seconds: float = 1.0


@dataclass(frozen=True)
class FanOutOptions:
    step_seconds: float = 1.0
    width: int = 10


@dataclass(frozen=True)
class FailingOptions:
    step_seconds: float = 1.0


@dataclass(frozen=True)
class CancellableOptions:
    step_seconds: float = 1.0
    steps: int = 60


@workflow.defn
class PipelineWorkflow:
    """Five steps one after another; process_data fails once and is retried."""

    @workflow.run
    async def run(self, options: PipelineOptions) -> None:
        step = Step(options.step_seconds)
        retries = RetryPolicy(initial_interval=timedelta(seconds=options.step_seconds))
        for activity in (
            activities.fetch_data,
            activities.validate_input,
            activities.process_data,
            activities.send_notification,
            activities.cleanup,
        ):
            await workflow.execute_activity(
                activity, step, start_to_close_timeout=_STEP_TIMEOUT, retry_policy=retries
            )


@workflow.defn
class FanOutWorkflow:
    """Many activities at once, and one that waits for all of them."""

    @workflow.run
    async def run(self, options: FanOutOptions) -> int:
        await asyncio.gather(
            *(
                workflow.execute_activity(
                    activities.process_part,
                    Step(options.step_seconds, part, options.width),
                    start_to_close_timeout=_STEP_TIMEOUT,
                )
                for part in range(options.width)
            )
        )
        return await workflow.execute_activity(
            activities.join_parts,
            Step(options.step_seconds, parts=options.width),
            start_to_close_timeout=_STEP_TIMEOUT,
        )


@workflow.defn
class FailingWorkflow:
    """One step succeeds; the next fails on each of its three attempts, and the run with it."""

    @workflow.run
    async def run(self, options: FailingOptions) -> None:
        step = Step(options.step_seconds)
        await workflow.execute_activity(
            activities.fetch_data, step, start_to_close_timeout=_STEP_TIMEOUT
        )
        await workflow.execute_activity(
            activities.charge_card,
            step,
            start_to_close_timeout=_STEP_TIMEOUT,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=options.step_seconds), maximum_attempts=3
            ),
        )


@workflow.defn
class CancellableWorkflow:
    """A long step that reports its progress and can be cancelled at any time."""

    @workflow.run
    async def run(self, options: CancellableOptions) -> None:
        await workflow.execute_activity(
            activities.render_video,
            Step(options.step_seconds, parts=options.steps),
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(seconds=max(2.0, 3 * options.step_seconds)),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


ALL_WORKFLOWS = (PipelineWorkflow, FanOutWorkflow, FailingWorkflow, CancellableWorkflow)
