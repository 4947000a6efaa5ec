"""Many executions with a viewer each, beside few at the same rate of changes.

`python -m tests.benchmarks.side_by_side.many_executions [--many E] [--few F]
[--per-second R] [--changes N]`
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from executions.batches import batches
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.callers import asking_environment, tokens_of_users
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import receiving
from tests.benchmarks.side_by_side.writing import (
    commit_held,
    paced,
    running_executions,
)
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import web_running

HELD_SECONDS: Final = 1.0
"""What is to be published in this time is committed in one transaction, ahead of it.

What is committed for CHECK_SECONDS of the hub and not published is read from the log.
"""

CONNECTING_AT_ONCE: Final = 20
"""More would be a herd, which waits for the few connections that streams are read on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Delays in milliseconds, changes a second, CPU of the web process in ms for each change."""

    p50: float
    p99: float
    published_per_second: float
    recorded_per_second: float
    cpu_milliseconds: float
    valkey_connections: int


class Written:
    """What was written: when each change was handed to the publisher, and how fast it went."""

    def __init__(self) -> None:
        self.moments: dict[str, int] = {}
        self.recording_seconds = 0.0
        self.publishing_seconds = 0.0

    def write(self, executions: Sequence[str], per_second: float) -> None:
        """Change each of the executions once in one transaction; then publish the changes."""
        began = time.monotonic()
        held = commit_held(executions)
        recorded = time.monotonic()
        for number in paced(len(held), per_second):
            self.moments[held[number].key] = time.monotonic_ns()
            held[number].publish()
        self.recording_seconds += recorded - began
        self.publishing_seconds += time.monotonic() - recorded


def measured(
    directory: Path, count: int, changes: int, per_second: float, tokens: Sequence[str]
) -> Measured:
    """With one viewer for each of `count` executions, who says who it is."""
    executions = running_executions(count)
    changes_each = max(1, changes // count)
    turns = executions * changes_each
    written = Written()
    with redis.Redis.from_url(os.environ["VALKEY_URL"]) as valkey:
        others = _connections(valkey)
        with (
            web_running(directory / "web.log", asking_environment()) as web,
            # They replay: with few, too, the web process opens all it needs to read streams.
            receiving(
                [web.stream(name, "0") for name in executions],
                tokens=tokens,
                connecting_at_once=CONNECTING_AT_ONCE,
            ) as viewers,
        ):
            viewers.until_open()
            connections = [_connections(valkey)]
            cpu = cpu_seconds(web.process.pid)
            for part in batches(turns, int(per_second * HELD_SECONDS)):
                written.write(part, per_second)
                connections.append(_connections(valkey))
            received = viewers.until_received(changes_each, written.moments)
            cpu = cpu_seconds(web.process.pid) - cpu
    return Measured(
        received.p50,
        received.p99,
        len(turns) / written.publishing_seconds,
        len(turns) / written.recording_seconds,
        1000 * cpu / len(turns),
        max(connections) - others,
    )


def _connections(valkey: "redis.Redis") -> int:
    return len(valkey.client_list())


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    tokens = tokens_of_users()
    found = {}
    for count in (arguments.few, arguments.many):
        found[count] = measured(
            stage.directory, count, arguments.changes, arguments.per_second, tokens
        )
        show(f"  {count:,} executions: {found[count]}")
    few, many = found[arguments.few], found[arguments.many]
    return Report(
        f"Many executions: a viewer each, {arguments.per_second:g} changes a second in all",
        [
            "executions",
            "p50 ms",
            "p99 ms",
            "published/s",
            "web CPU ms/change",
            "Valkey connections",
        ],
        [
            [
                f"{count:,}",
                f"{each.p50:.2f}",
                f"{each.p99:.2f}",
                f"{each.published_per_second:,.0f}",
                f"{each.cpu_milliseconds:.3f}",
                f"{each.valkey_connections}",
            ]
            for count, each in found.items()
        ],
        [
            Goal(
                f"p99, {arguments.many:,} / {arguments.few:,} executions", many.p99 / few.p99, 1.5
            ),
            Goal("Valkey connections of the web process", many.valkey_connections, 4),
            Goal(
                "Valkey connections, more than with few executions",
                many.valkey_connections - few.valkey_connections,
                0,
            ),
        ],
        [
            "Measured from handing a committed change to the publisher to the socket. "
            "The changes of a second are committed in one transaction, then published at the "
            "pace, in turns: recording so many beside the rest would fill the cores "
            f"(one process recorded {few.recorded_per_second:,.0f} a second, with nothing else "
            "going on).",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--many", type=at_most(10_000), default=5_000)
    parser.add_argument("--few", type=at_most(10_000), default=100)
    parser.add_argument("--per-second", type=float, default=1_000.0)
    parser.add_argument("--changes", type=at_most(100_000), default=10_000)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
