"""How long a committed change takes to reach a viewer.

`python -m tests.benchmarks.commit_to_viewer [--viewers N] [--changes-per-second R]
[--seconds S]` starts a Valkey and a web server of its own on a fresh database, writes
changes of one execution at the given pace, and prints the time from each commit to the
arrival of its message at each viewer. NEXUS_TEST_DATABASE=postgresql takes a PostgreSQL
instead of SQLite. Viewers run in a process of their own; the clock is the machine's
monotonic one.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from websockets.asyncio.client import connect

from tests.benchmarks.stage import stage_set
from tests.benchmarks.tables import show
from tests.servers import end_with_parent

STARTING_AND_ENDING_SECONDS: Final = 120


async def receive(url: str, viewers: int) -> None:
    """Print the arrival of each event at each viewer, in monotonic nanoseconds, until closed."""
    arrivals: list[tuple[str, int]] = []

    async def view() -> None:
        async with connect(url, compression=None, max_size=None) as connection:
            async for text in connection:
                now = time.monotonic_ns()
                message = json.loads(text)
                if message["type"] == "activity_patch":
                    arrivals.append((message["event_id"], now))
                elif message["type"] == "initial_snapshot":
                    print("viewing", flush=True)  # noqa: T201

    await asyncio.gather(*(view() for _ in range(viewers)))
    json.dump(arrivals, sys.stdout)


def write(execution_id: str, changes: int, changes_per_second: float) -> dict[str, int]:
    """Make the changes at their pace; the moment of each commit by its event_id."""
    from executions.recording import changing
    from executions.signals import events_committed
    from executions.statuses import ExecutionStatus

    committed: dict[str, int] = {}

    def note(events: Any, **_: Any) -> None:
        committed[str(events[0].event_id)] = time.monotonic_ns()

    # First in line, so that the publication counts as part of the way to the viewer.
    publishing = events_committed.receivers
    events_committed.receivers = []
    events_committed.connect(note, weak=False)
    events_committed.receivers += publishing
    started = time.monotonic()
    for number in range(changes):
        time.sleep(max(0.0, started + number / changes_per_second - time.monotonic()))
        with changing(execution_id) as change:
            change.activity("step").progress = (number + 1) / (changes + 1)
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED
    return committed


def measure(directory: Path, viewers: int, changes_per_second: float, seconds: float) -> str:
    """Run it all in `directory`; the line of figures."""
    from executions.recording import NewActivity, create_execution
    from executions.statuses import ActivityStatus, ExecutionStatus
    from tests.servers.web import web_running

    step = NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
    execution_id = create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=[step]
    ).execution_id
    with web_running(directory / "web.log", os.environ) as web:
        receiver = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--receive", web.stream(execution_id),
             "--viewers", str(viewers)],
            stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        assert receiver.stdout is not None
        for _ in range(viewers):
            assert receiver.stdout.readline() == "viewing\n"
        changes = int(seconds * changes_per_second)
        committed = write(execution_id, changes, changes_per_second)
        arrivals = json.loads(receiver.stdout.read())
        receiver.wait(20)
    milliseconds = [
        (arrived - committed[event_id]) / 1_000_000
        for event_id, arrived in arrivals
        if event_id in committed
    ]
    # The closing patch is no part of the paced load.
    expected = (changes + 1) * viewers
    assert len(milliseconds) == expected, f"{len(milliseconds)} of {expected} arrived"
    hundredths = quantiles(milliseconds, n=100)
    return (
        f"{viewers} viewers, {changes_per_second:g} changes/s for {seconds:g} s: commit to viewer "
        f"p50 {hundredths[49]:.2f} ms, p99 {hundredths[98]:.2f} ms, max {max(milliseconds):.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=int, default=1)
    parser.add_argument("--changes-per-second", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        asyncio.run(receive(arguments.receive, arguments.viewers))
        return
    limit_seconds = int(arguments.seconds) + STARTING_AND_ENDING_SECONDS
    with stage_set(limit_seconds, with_temporal=False) as stage:
        viewers, pace = arguments.viewers, arguments.changes_per_second
        show(measure(stage.directory, viewers, pace, arguments.seconds))


if __name__ == "__main__":
    main()
