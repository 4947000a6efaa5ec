"""Size: one change of an execution with thousands of activities, against one with ten.

`python -m tests.benchmarks.side_by_side.large_execution [--activities N] [--changes N]`
"""

import argparse
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from websockets.sync.client import ClientConnection, connect

from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.recording_writer import ACTIVITIES, an_execution, change_progress
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import percentile, show
from tests.servers.web import web_running

FIRST_CHANGES: Final = 50
"""So many of each execution's changes are made before the measured ones."""

RECEIVE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Measured:
    """An execution of so many activities: the time of each change, the bytes of each message."""

    execution_id: str
    activities: int
    milliseconds: list[float] = field(default_factory=list)
    received_bytes: list[int] = field(default_factory=list)

    @property
    def figures(self) -> list[float]:
        bytes_each = sum(self.received_bytes) / len(self.received_bytes)
        return [percentile(self.milliseconds, 50), percentile(self.milliseconds, 99), bytes_each]

    def change(self, number: int) -> None:
        began = time.perf_counter()
        change_progress(self.execution_id, number, self.activities)
        if number >= FIRST_CHANGES:
            self.milliseconds.append((time.perf_counter() - began) * 1_000)

    def receive(self, viewer: ClientConnection) -> None:
        self.received_bytes.append(len(viewer.recv(RECEIVE_SECONDS, decode=False)))


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    small, large = (
        Measured(an_execution(activities), activities)
        for activities in (ACTIVITIES, arguments.activities)
    )
    changes = FIRST_CHANGES + arguments.changes
    with web_running(stage.directory / "web.log", os.environ) as web, ExitStack() as stack:
        viewers = []
        for each in (small, large):
            address = web.stream(each.execution_id)
            viewer = stack.enter_context(connect(address, max_size=None, compression=None))
            viewer.recv(RECEIVE_SECONDS)  # the snapshot
            viewers.append((each, viewer))
        for number in range(changes):
            # In turns, each first every other time: what disturbs one disturbs both.
            for each, viewer in viewers if number % 2 else reversed(viewers):
                each.change(number)
                each.receive(viewer)
    names = [f"{each.activities:,} activities" for each in (small, large)]
    figures = zip(small.figures, large.figures, strict=True)
    ratios = [of_large / of_small for of_small, of_large in figures]
    rows = [
        [name, *(f"{figure:,.2f}" for figure in each.figures)]
        for name, each in zip(names, (small, large), strict=True)
    ]
    rows.append(["ratio", *(f"{ratio:.2f}" for ratio in ratios)])
    show(f"  {rows}")
    time_ratio, _, bytes_ratio = ratios
    return Report(
        f"Size: one activity changes, of {ACTIVITIES} and of {arguments.activities:,}",
        ["", "p50 ms", "p99 ms", "bytes to a viewer"],
        rows,
        [
            Goal("time of a change, p50", time_ratio, 1.3),
            Goal("bytes of its event to a viewer", bytes_ratio, 1.3),
        ],
        [
            f"{arguments.changes:,} changes of each, in turns, through the write path on SQLite, "
            "published on Valkey.",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--activities", type=at_most(50_000), default=5_000)
    parser.add_argument("--changes", type=at_most(10_000), default=1_000)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
