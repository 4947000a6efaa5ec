"""What it costs to follow very many runs at once, and how soon another process takes them over.

`python -m tests.benchmarks.thousand_runs [--runs N] [--seconds S]` opens N runs: half of
them with one long activity that sends heartbeats, half with a timer and now and then an
activity. One process without any work of its own mirrors them: shown are how long it took
until it followed them all, and what it needed over S seconds. Then it is killed (-9)
with a second one standing by, and every run is sent a signal: shown is when the second
had taken them all over, and when the signals were in the database.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Self

from temporalio.client import Client

from tests.benchmarks.load import Enduring, EnduringWorkflow
from tests.benchmarks.processes import WorkerProcess, worker_running
from tests.benchmarks.stage import Stage, at_most, stage_set
from tests.benchmarks.tables import show, table
from tests.benchmarks.worker import TRANSACTIONS, WRITES

LOAD_QUEUE: Final = "bench-load"

PAUSE_SECONDS: Final = 30.0
"""Of the timers, on average."""

OPEN_SECONDS: Final = 900.0
"""How much longer than it is measured a run would stay open."""

CALLS_AT_ONCE: Final = 50
DEADLINE_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.1

EVENTS: Final = "events"


async def for_each(
    stage: Stage, runs: int, call: Callable[[Client, int], Awaitable[object]]
) -> None:
    """Make a call to Temporal for each run, some at once."""
    client = await Client.connect(stage.temporal_address)
    at_once = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(number: int) -> None:
        async with at_once:
            await call(client, number)

    await asyncio.gather(*(one(number) for number in range(runs)))


def open_runs(stage: Stage, runs: int, seconds: float) -> None:
    async def open_run(client: Client, number: int) -> None:
        options = Enduring(seconds, PAUSE_SECONDS if number % 2 else None)
        await client.start_workflow(
            EnduringWorkflow.run, options, id=f"bench-{number}", task_queue=LOAD_QUEUE
        )

    asyncio.run(for_each(stage, runs, open_run))


def poke_runs(stage: Stage, runs: int) -> None:
    async def poke(client: Client, number: int) -> None:
        await client.get_workflow_handle(f"bench-{number}").signal(EnduringWorkflow.poke)

    asyncio.run(for_each(stage, runs, poke))


def seconds_until(count: Callable[[], int], reached: int, since: float) -> float:
    """Wait until so many are counted; the seconds from `since` to then. Fails at a deadline."""
    while (counted := count()) < reached:
        waited = time.monotonic() - since
        assert waited < DEADLINE_SECONDS, f"{counted} of {reached} after {waited:.0f} s"
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - since


@dataclass(frozen=True, slots=True)
class Sample:
    """What a mirroring process has needed up to a moment."""

    worker: WorkerProcess
    cpu_seconds: float
    counters: Counter[str]
    moment: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, worker: WorkerProcess) -> Self:
        from executions.models import Event

        counters = worker.counters() | Counter({EVENTS: Event.objects.count()})
        return cls(worker, worker.cpu_seconds(), counters)

    def show_since(self, before: "Sample") -> None:
        seconds = self.moment - before.moment
        pace = {
            name: (count - before.counters[name]) / seconds for name, count in self.counters.items()
        }
        cpu = (self.cpu_seconds - before.cpu_seconds) / seconds
        resident, peak = (self.worker.status(name) / 1024 for name in ("VmRSS", "VmHWM"))
        threads, of_sdk = self.worker.threads()
        show(
            f"Over {seconds:.0f} s: CPU {cpu:.1%} of one core, resident {resident:.0f} MiB "
            f"(peak {peak:.0f}), {threads} threads ({of_sdk} of them the SDK's)"
        )
        own = (EVENTS, TRANSACTIONS, WRITES)
        calls = sorted((name for name in pace if name not in own), key=lambda name: -pace[name])
        rows = [[name, f"{pace.get(name, 0.0):.2f}"] for name in (*own, *calls)]
        show(table(["a second", ""], [row for row in rows if row[1] != "0.00"]))


def measure(stage: Stage, runs: int, seconds: int) -> None:
    began = time.monotonic()
    open_runs(stage, runs, seconds + OPEN_SECONDS)
    show(f"{runs} runs opened in {time.monotonic() - began:.1f} s")
    with worker_running(stage, "bench-first", plugin="namespace", with_metrics=True) as first:
        began, cpu = time.monotonic(), first.cpu_seconds()
        followed = seconds_until(followed_runs, runs, began)
        cpu = first.cpu_seconds() - cpu
        show(
            f"All followed {followed:.1f} s after the mirroring process was ready (CPU {cpu:.1f} s)"
        )
        before = Sample.of(first)
        time.sleep(seconds)
        Sample.of(first).show_since(before)
        with worker_running(stage, "bench-second", plugin="namespace", with_metrics=True) as second:
            show_takeover(stage, runs, first, second)


def show_takeover(stage: Stage, runs: int, first: WorkerProcess, second: WorkerProcess) -> None:
    from executions.models import Point
    from executions.temporal.models import FollowedRun, FollowerProcess

    first_id = FollowerProcess.objects.get().process_id
    seconds_until(FollowerProcess.objects.count, 2, time.monotonic())
    free = FollowedRun.objects.filter(follower__isnull=False).exclude(follower=first_id)
    pokes = Point.objects.filter(name=EnduringWorkflow.poke.__name__)
    cpu = second.cpu_seconds()
    first.kill()
    killed = time.monotonic()
    poke_runs(stage, runs)
    show(f"kill -9; every run was sent a signal within {time.monotonic() - killed:.1f} s; then")
    rows = [["all runs taken over", f"{seconds_until(free.count, runs, killed):.1f}"]]
    rows += [
        [f"{share} of the signals visible", f"{seconds_until(pokes.count, count, killed):.1f}"]
        for share, count in (("the first", 1), ("half", -(-runs // 2)), ("all", runs))
    ]
    show(table(["seconds after the kill", ""], rows))
    show(f"CPU of the second process until then: {second.cpu_seconds() - cpu:.1f} s")


def followed_runs() -> int:
    """How many runs a process follows and has recorded something of."""
    from executions.temporal.models import FollowedRun

    return FollowedRun.objects.filter(follower__isnull=False, position__gt=0).count()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=at_most(4_000), default=1_000)
    parser.add_argument("--seconds", type=at_most(600), default=60)
    arguments = parser.parse_args()
    with (
        stage_set(limit_seconds=arguments.seconds + 5 * int(DEADLINE_SECONDS)) as stage,
        worker_running(stage, LOAD_QUEUE, activities_at_once=arguments.runs),
    ):
        measure(stage, arguments.runs, arguments.seconds)


if __name__ == "__main__":
    main()
