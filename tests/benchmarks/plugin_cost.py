"""What the plugin costs a worker, per activity.

`python -m tests.benchmarks.plugin_cost [--activities N] [--rounds R]` has the same N
activities that take no time run, R times in turn, by a worker without the plugin; by one
with it; by one whose plugin's database is at an address where nobody listens; and by one
whose plugin's database is locked by somebody else. Each time by a fresh process, after a
little of the same. It prints the medians of wall time and of the worker process' CPU time
per activity; with the plugin, that includes mirroring to the end. Last, what the
interceptors alone add to an activity's attempt, measured in this process.
"""

import argparse
import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final
from uuid import uuid4

from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
)

from tests.benchmarks.load import BurstWorkflow, nothing
from tests.benchmarks.processes import WorkerProcess, worker_running
from tests.benchmarks.stage import Stage, at_most, stage_set
from tests.benchmarks.tables import show, table
from tests.waiting import wait_until

WIDTH: Final = 20
"""Activities of one run."""

BURST_SECONDS: Final = 120.0
MIRRORED_SECONDS: Final = 120.0

CALLS: Final = 500
"""Calls of an interceptor between two emptyings of its queue."""

REPEATS: Final = 40


@dataclass(frozen=True, slots=True)
class Mode:
    name: str
    plugin: str
    environment: Mapping[str, str]
    is_mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one activity, in milliseconds."""

    wall: float
    cpu: float


async def burst(stage: Stage, task_queue: str, runs: int) -> list[str]:
    """Have the activities run; the ids of their runs."""
    client = await Client.connect(stage.temporal_address)
    async with asyncio.timeout(BURST_SECONDS):
        started = await asyncio.gather(
            *(
                client.start_workflow(
                    BurstWorkflow.run, WIDTH, id=f"bench-{uuid4().hex}", task_queue=task_queue
                )
                for _ in range(runs)
            )
        )
        await asyncio.gather(*(run.result() for run in started))
    return [run.result_run_id or "" for run in started]


def measured(stage: Stage, mode: Mode, task_queue: str, runs: int) -> Cost:
    with worker_running(
        stage, task_queue, plugin=mode.plugin, environment=mode.environment
    ) as worker:
        perform(stage, mode, worker, task_queue, 2)
        return perform(stage, mode, worker, task_queue, runs)


def perform(stage: Stage, mode: Mode, worker: WorkerProcess, task_queue: str, runs: int) -> Cost:
    began, cpu = time.monotonic(), worker.cpu_seconds()
    run_ids = asyncio.run(burst(stage, task_queue, runs))
    wall = time.monotonic() - began
    if mode.is_mirrored:
        wait_until(lambda: are_mirrored(run_ids), MIRRORED_SECONDS)
    cpu = worker.cpu_seconds() - cpu
    activities = runs * WIDTH
    return Cost(wall / activities * 1_000, cpu / activities * 1_000)


def are_mirrored(run_ids: list[str]) -> bool:
    from executions.models import Execution
    from executions.statuses import ExecutionStatus

    completed = Execution.objects.filter(pk__in=run_ids, status=ExecutionStatus.COMPLETED)
    return completed.count() == len(run_ids)


@contextmanager
def modes(stage: Stage) -> Iterator[list[Mode]]:
    """The four ways of working; while the block lasts, one database is away and one locked."""
    file = stage.directory / "locked.sqlite3"
    locked = {"DATABASE_URL": f"sqlite:///{file}"}
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        env=os.environ | locked, check=True,
    )  # fmt: skip
    # Bound and not listening: nobody can be reached here, nor take the port.
    with socket.socket() as nobody, sqlite3.connect(file, isolation_level=None) as somebody:
        nobody.bind(("127.0.0.1", 0))
        away = {"DATABASE_URL": f"postgresql://nexus@127.0.0.1:{nobody.getsockname()[1]}/nexus"}
        somebody.execute("BEGIN EXCLUSIVE")
        yield [
            Mode("without the plugin", "none", {}),
            Mode("with it", "queue", {}, is_mirrored=True),
            Mode("with it, database away", "queue", away),
            Mode("with it, database locked", "queue", locked),
        ]


def show_worker_costs(stage: Stage, activities: int, rounds: int) -> None:
    runs = max(1, activities // WIDTH)
    with modes(stage) as all_modes:
        costs: dict[str, list[Cost]] = {mode.name: [] for mode in all_modes}
        for number in range(rounds):
            # Another one first each time: what else the machine does may grow or fade.
            first = number % len(all_modes)
            for mode in all_modes[first:] + all_modes[:first]:
                task_queue = f"bench-{mode.name.replace(', ', '-').replace(' ', '-')}-{number + 1}"
                costs[mode.name].append(measured(stage, mode, task_queue, runs))
    medians = {
        name: Cost(median(each.wall for each in several), median(each.cpu for each in several))
        for name, several in costs.items()
    }
    without = medians["without the plugin"]
    show(f"\n{runs * WIDTH} activities in runs of {WIDTH}, median of {rounds}")
    show(
        table(
            ["milliseconds per activity", "wall", "more", "ratio", "CPU", "more", "ratio"],
            [
                [
                    name,
                    *compared(cost.wall, without.wall),
                    *compared(cost.cpu, without.cpu),
                ]
                for name, cost in medians.items()
            ],
        )
    )


def compared(figure: float, standard: float) -> list[str]:
    return [f"{figure:.2f}", f"{figure - standard:+.2f}", f"{figure / standard:.2f}"]


class Innermost(ActivityInboundInterceptor):
    """Stands for the worker's own: does nothing, or fails, or sends a heartbeat."""

    def __init__(self, act: Callable[[ActivityOutboundInterceptor], None]) -> None:
        self._act = act

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = outbound

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self._act(self._outbound)


class Outermost(ActivityOutboundInterceptor):
    """Stands for the worker's own: sends nothing."""

    def __init__(self, info: Any) -> None:
        self._info = info

    def info(self) -> Any:
        return self._info

    def heartbeat(self, *details: Any) -> None:
        pass


def complete(outbound: ActivityOutboundInterceptor) -> None:
    pass


def fail(outbound: ActivityOutboundInterceptor) -> None:
    raise ApplicationError("The connection was reset after 512 rows", type="ConnectionReset")


def send_heartbeat(outbound: ActivityOutboundInterceptor) -> None:
    outbound.heartbeat({"progress": 0.5})


def microseconds_added(act: Callable[[ActivityOutboundInterceptor], None]) -> float:
    """What Nexus' interceptor adds to one attempt that acts so: the median of many."""
    from executions.temporal.live.hints import HintQueue
    from executions.temporal.live.interceptors import NexusInterceptor

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, retry_policy=RetryPolicy())
    hints = HintQueue()
    plain = Innermost(act)
    ours = NexusInterceptor(hints, "worker").intercept_activity(Innermost(act))
    for inbound in (plain, ours):
        inbound.init(Outermost(environment.info))
    input = ExecuteActivityInput(fn=nothing, args=[], executor=None, headers={})

    async def timed(inbound: ActivityInboundInterceptor) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            with suppress(ApplicationError):
                await inbound.execute_activity(input)
        return time.perf_counter() - began

    async def alternate() -> list[float]:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(hints.take)

        hints.call_when_filled(wake)
        added = []
        for _ in range(REPEATS):
            added.append(-await timed(plain) + await timed(ours))
            # Lets the queue be emptied.
            await asyncio.sleep(0)
        return added

    return median(asyncio.run(environment.run(alternate))) / CALLS * 1_000_000


def show_interceptor_costs() -> None:
    acts = {"that completes": complete, "that fails": fail, "with a heartbeat": send_heartbeat}
    show("\nAdded by the interceptors alone")
    show(
        table(
            ["microseconds per attempt", "added"],
            [[name, f"{microseconds_added(act):.1f}"] for name, act in acts.items()],
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--activities", type=at_most(10_000), default=1_000)
    parser.add_argument("--rounds", type=at_most(10), default=3)
    arguments = parser.parse_args()
    with stage_set(limit_seconds=arguments.rounds * 4 * 120) as stage:
        show_worker_costs(stage, arguments.activities, arguments.rounds)
        show_interceptor_costs()


if __name__ == "__main__":
    main()
