"""How soon a viewer sees what state an activity is in.

`python -m tests.benchmarks.live_states [--runs N] [--seconds S] [--without-plugin]` runs
N workflows at once, whose activities follow one another and fail now and then, with a
WebSocket viewer for each, and prints the time from the moment at which an activity's
attempt begins, or fails, to the arrival of the patch that says *running*, or *retrying*.

First on a worker with the plugin. Then on one without it, mirrored by another process:
there attempts and backoffs last longer than the promised time, because a state that has
passed before it is seen has no latency; `seen` tells how many were seen at all.
With --without-plugin only the latter. The clock is the machine's wall clock.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import jsonpatch
from temporalio.client import Client, WorkflowHandle
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.load import Stepping, SteppingWorkflow
from tests.benchmarks.processes import worker_running
from tests.benchmarks.stage import Stage, at_most, stage_set
from tests.benchmarks.tables import percentile, show, table
from tests.servers.web import WebServer, web_running

AGAIN_SECONDS: Final = 0.1
FOUND_WITHIN_SECONDS: Final = 30.0
ENDED_WITHIN_SECONDS: Final = 60.0

State = tuple[str, str, str, int]
"""An execution_id, an activity_id of it, a status, and the retry_count with it."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of being mirrored; steps take `step_seconds` on average, and so do backoffs."""

    name: str
    step_seconds: float
    worker_plugin: str
    others_mirror: bool


WITH_PLUGIN: Final = Mode("with the plugin", 0.5, "queue", others_mirror=False)
WITHOUT_PLUGIN: Final = Mode("without it", 3.0, "none", others_mirror=True)


async def view(url: str, is_viewing: asyncio.Event, arrivals: dict[State, int]) -> None:
    """Note when each state was first told, in nanoseconds since the epoch, until the run's end."""
    while True:
        async with connect(url, compression=None, max_size=None) as connection:
            try:
                await follow(connection, is_viewing, arrivals)
            except ConnectionClosed:
                # There is no such execution yet.
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return


async def follow(connection: Any, is_viewing: asyncio.Event, arrivals: dict[State, int]) -> None:
    document: dict[str, Any] = {}
    while True:
        text = await connection.recv()
        now = time.time_ns()
        message = json.loads(text)
        if message["type"] == "final_snapshot":
            return
        if message["type"] == "initial_snapshot":
            document = message["execution"]
            is_viewing.set()
        elif message["type"] == "activity_patch":
            document = jsonpatch.apply_patch(document, message["ops"], in_place=True)
        for activity in document["activities"]:
            state = (
                document["execution_id"],
                activity["activity_id"],
                activity["status"],
                activity["retry_count"],
            )
            arrivals.setdefault(state, now)


async def run_and_view(
    stage: Stage, web: WebServer, mode: Mode, runs: int, seconds: float, notes: Path
) -> dict[State, int]:
    """When each state of each run was first told."""
    client = await Client.connect(stage.temporal_address)
    options = Stepping(seconds, mode.step_seconds, str(notes))
    started = await asyncio.gather(
        *(
            client.start_workflow(
                SteppingWorkflow.run, options, id=f"bench-{uuid4().hex}", task_queue=queue(mode)
            )
            for _ in range(runs)
        )
    )
    arrivals: dict[State, int] = {}
    viewing = [asyncio.Event() for _ in started]
    async with asyncio.TaskGroup() as viewers:
        for run, is_viewing in zip(started, viewing, strict=True):
            url = web.stream(run.result_run_id or "")
            viewers.create_task(view(url, is_viewing, arrivals))
        async with asyncio.timeout(FOUND_WITHIN_SECONDS):
            await asyncio.gather(*(each.wait() for each in viewing))
        await let_go(started, mode.step_seconds)
        async with asyncio.timeout(seconds + ENDED_WITHIN_SECONDS):
            await asyncio.gather(*(run.result() for run in started))
    return arrivals


async def let_go(started: Sequence[WorkflowHandle[Any, Any]], within_seconds: float) -> None:
    """Let the runs go one after another, so that their states are spread over time."""
    for run in started:
        await run.signal(SteppingWorkflow.go)
        await asyncio.sleep(within_seconds / len(started))


def measure(stage: Stage, web: WebServer, mode: Mode, runs: int, seconds: float) -> None:
    """Run and show one mode."""
    notes = stage.directory / f"{queue(mode)}-notes"
    with ExitStack() as running:
        running.enter_context(worker_running(stage, queue(mode), plugin=mode.worker_plugin))
        if mode.others_mirror:
            running.enter_context(worker_running(stage, "bench-mirror", plugin="namespace"))
        arrivals = asyncio.run(run_and_view(stage, web, mode, runs, seconds, notes))
    noted = [json.loads(line) for line in notes.read_text().splitlines()]
    show(
        f"\n{mode.name.capitalize()}: {runs} runs for {seconds:g} s, steps and backoffs of "
        f"about {mode.step_seconds:g} s"
    )
    begun = [note for note in noted if note["attempt"] == 1]
    retried = [note for note in noted if note["attempt"] > 1]
    failed = [note for note in noted if note["failed_at_ns"] is not None]
    show(
        table(
            ["milliseconds to the viewer", "n", "seen", "p50", "p95", "max"],
            [
                row("running, first attempt", begun, "began_at_ns", "running", arrivals),
                row("retrying", failed, "failed_at_ns", "retrying", arrivals),
                row("running, second attempt", retried, "began_at_ns", "running", arrivals),
            ],
        )
    )


def row(
    name: str,
    noted: Sequence[Mapping[str, Any]],
    moment: str,
    status: str,
    arrivals: Mapping[State, int],
) -> list[str]:
    latencies = []
    for note in noted:
        # A description counts the attempt that is waited for, a worker the one that failed.
        told = [
            arrivals[state]
            for retries in (note["attempt"] - 1, note["attempt"])
            if retries < note["attempt"] or status == "retrying"
            if (state := (note["run_id"], note["activity_id"], status, retries)) in arrivals
        ]
        if told:
            latencies.append((min(told) - note[moment]) / 1_000_000)
    counts = [str(len(noted)), str(len(latencies))]
    if not latencies:
        return [name, *counts, "-", "-", "-"]
    figures = percentile(latencies, 50), percentile(latencies, 95), max(latencies)
    return [name, *counts, *(f"{figure:.1f}" for figure in figures)]


def queue(mode: Mode) -> str:
    return f"bench-live-{mode.worker_plugin}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=at_most(200), default=20)
    parser.add_argument("--seconds", type=at_most(300), default=20)
    parser.add_argument("--without-plugin", action="store_true")
    arguments = parser.parse_args()
    modes = [WITHOUT_PLUGIN] if arguments.without_plugin else [WITH_PLUGIN, WITHOUT_PLUGIN]
    limit_seconds = len(modes) * (arguments.seconds + 120)
    with (
        stage_set(limit_seconds) as stage,
        web_running(stage.directory / "web.log", os.environ) as web,
    ):
        for mode in modes:
            measure(stage, web, mode, arguments.runs, arguments.seconds)


if __name__ == "__main__":
    main()
