"""A herd: many viewers of one execution that all come at once.

`python -m tests.benchmarks.side_by_side.herd [--viewers N]`
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.callers import asking_environment, metric, tokens_of_users
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import Received, receiving
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import WebServer, web_running

ACTIVITIES: Final = 20

VIEWERS_PER_READ: Final = 200
"""At least so many viewers share one read of the document, on average."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`reads`: how often the document was read from the database."""

    received: Received
    cpu_seconds: float
    reads: float = 0


def floor(viewers: int, directory: Path) -> Measured:
    application = "tests.benchmarks.side_by_side.bare:application"
    with web_running(directory / "bare.log", os.environ, application) as web:
        return _come(web, [f"{web.ws}/viewers"] * viewers, [])


def of_product(viewers: int, directory: Path) -> Measured:
    from executions.recording import NewActivity, create_execution
    from executions.statuses import ActivityStatus, ExecutionStatus

    activities = [
        NewActivity(
            activity_id=f"step-{number}", activity_name="step", status=ActivityStatus.RUNNING
        )
        for number in range(ACTIVITIES)
    ]
    execution = create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=activities
    )
    tokens = tokens_of_users()
    application = "nexus_project.asgi:application"
    with web_running(directory / "web.log", asking_environment(), application) as web:
        return _come(web, [web.stream(execution.execution_id)] * viewers, tokens)


def _come(web: WebServer, addresses: list[str], tokens: list[str]) -> Measured:
    is_product = bool(tokens)
    before = cpu_seconds(web.process.pid)
    with receiving(
        addresses, first_message=is_product, tokens=tokens, connecting_at_once=len(addresses)
    ) as viewers:
        viewers.until_open()
        took = cpu_seconds(web.process.pid) - before
        received = viewers.until_received(0, {})
        reads = metric(web, tokens[0], "nexus_snapshots_read_total") if is_product else 0
        return Measured(received, took, reads)


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    bare = floor(arguments.viewers, stage.directory)
    ours = of_product(arguments.viewers, stage.directory)
    rows = [
        [
            name,
            f"{each.received.connect_seconds:.2f}",
            f"{each.received.snapshot_seconds:.2f}",
            f"{each.cpu_seconds / arguments.viewers * 1e3:.2f}",
            f"{each.reads:.0f}" if each.reads else "",
        ]
        for name, each in (("bare application", bare), ("Nexus", ours))
    ]
    for row in rows:
        show(f"  {row[0]}: {row[1:]}")
    return Report(
        f"A herd: {arguments.viewers:,} viewers with tokens come to one execution at once",
        ["", "all connected s", "all have their snapshot s", "CPU ms/viewer", "document reads"],
        rows,
        [
            Goal(
                "Nexus' snapshots / bare application's handshakes",
                ours.received.snapshot_seconds / bare.received.connect_seconds, 2,
            ),
            Goal("viewers per document read", arguments.viewers / ours.reads, VIEWERS_PER_READ,
                 at_least=True),
        ],
        ["The bare application answers the handshake and sends nothing."],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=at_most(5_000), default=2_000)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
