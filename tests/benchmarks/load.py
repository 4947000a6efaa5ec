"""Workflows and activities that benchmarks run."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

_LIMIT = timedelta(hours=1)

FAILS_EVERY = 3
"""Of so many activities of a stepping run, the first fails once."""

HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Stepping:
    """Steps one after another until `seconds` are over; `notes` is the file for their moments."""

    seconds: float
    step_seconds: float
    notes: str


@dataclass(frozen=True)
class Step:
    """Takes `seconds` on average."""

    seconds: float
    fails_once: bool
    notes: str


@activity.defn
async def step(asked: Step) -> None:
    """Notes when it began, and when it failed, in nanoseconds since the epoch."""
    began_at_ns = time.time_ns()
    # Temporal's timers make retries of several runs begin together; this parts them again.
    await asyncio.sleep(asked.seconds * random.uniform(0.5, 1.5))
    info = activity.info()
    fails = asked.fails_once and info.attempt == 1
    note: dict[str, object] = {
        "run_id": info.workflow_run_id,
        "activity_id": info.activity_id,
        "attempt": info.attempt,
        "began_at_ns": began_at_ns,
        "failed_at_ns": time.time_ns() if fails else None,
    }
    _append(asked.notes, note)
    if fails:
        raise ApplicationError("Not in the first attempt", type="NotYet")


@workflow.defn
class SteppingWorkflow:
    """Begins when it is told to go."""

    def __init__(self) -> None:
        self._may_go = False

    @workflow.signal
    def go(self) -> None:
        self._may_go = True

    @workflow.run
    async def run(self, options: Stepping) -> None:
        await workflow.wait_condition(lambda: self._may_go)
        ends_at = workflow.now() + timedelta(seconds=options.seconds)
        number = 0
        while workflow.now() < ends_at:
            number += 1
            await workflow.execute_activity(
                step,
                Step(options.step_seconds, number % FAILS_EVERY == 1, options.notes),
                activity_id=f"step-{number}",
                start_to_close_timeout=_LIMIT,
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=options.step_seconds)),
            )


@activity.defn
async def nothing() -> None:
    """Over as soon as it has begun."""


@workflow.defn
class BurstWorkflow:
    """So many activities at once, each of which takes no time."""

    @workflow.run
    async def run(self, width: int) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity(nothing, start_to_close_timeout=_LIMIT)
                for _ in range(width)
            )
        )


@activity.defn
async def endure(seconds: float) -> None:
    """Takes that long, and tells its progress by heartbeats."""
    beats = int(seconds / HEARTBEAT_SECONDS)
    for beat in range(beats):
        activity.heartbeat(beat / beats)
        await asyncio.sleep(HEARTBEAT_SECONDS)


@dataclass(frozen=True)
class Enduring:
    """One long activity; or timers of `pause_seconds` on average with an activity after each."""

    seconds: float
    pause_seconds: float | None


# Without the sandbox, which costs the load's worker and not the process that is measured.
@workflow.defn(sandboxed=False)
class EnduringWorkflow:
    """Stays open, whatever signals come."""

    @workflow.signal
    def poke(self) -> None:
        """Leaves its trace in the history, and nowhere else."""

    @workflow.run
    async def run(self, options: Enduring) -> None:
        if options.pause_seconds is None:
            await workflow.execute_activity(
                endure,
                options.seconds,
                start_to_close_timeout=_LIMIT,
                heartbeat_timeout=timedelta(seconds=5 * HEARTBEAT_SECONDS),
            )
            return
        ends_at = workflow.now() + timedelta(seconds=options.seconds)
        while workflow.now() < ends_at:
            await asyncio.sleep(workflow.random().uniform(0.5, 1.5) * options.pause_seconds)
            await workflow.execute_activity(nothing, start_to_close_timeout=_LIMIT)


WORKFLOWS = (SteppingWorkflow, BurstWorkflow, EnduringWorkflow)
ACTIVITIES = (step, nothing, endure)


def _append(notes: str, note: dict[str, object]) -> None:
    with Path(notes).open("a") as file:
        file.write(json.dumps(note) + "\n")
