"""Messages a second of one and of several web processes, until the cores are full.

`python -m tests.benchmarks.side_by_side.web_processes [--viewers N] [--changes C]
[--processes P]`
"""

import argparse
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from operator import neg
from pathlib import Path
from typing import Any, Final

import redis

from tests.benchmarks.processes import cpu_seconds, idle_seconds
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import receiving
from tests.benchmarks.side_by_side.writing import (
    commit_held,
    many_allowed,
    running_execution,
)
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import web_running

ROUNDS: Final = 5
"""So that no viewer has so much to take at once that it counts as slow."""

CORES: Final = len(os.sched_getaffinity(0))

GROWTH_BOUND: Final = 0.9
"""The rest is what it costs when processes share cores."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Messages delivered, in how many seconds; CPU seconds of each side, and idle ones of cores."""

    messages: int
    seconds: float
    web: float
    viewers: float
    rest: float
    idle: float

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds

    @property
    def cores(self) -> float:
        """How many cores were busy, on average."""
        return CORES - self.idle / self.seconds


def measured(directory: Path, processes: int, viewers: int, changes: int) -> Measured:
    """The viewers, spread over the processes, get changes of one execution at full speed."""
    execution_id = running_execution()
    seconds, spent = 0.0, [0.0] * 4
    with ExitStack() as stack:
        valkey = stack.enter_context(redis.Redis.from_url(os.environ["VALKEY_URL"]))
        webs = [
            stack.enter_context(web_running(directory / f"web-{number}.log", many_allowed()))
            for number in range(processes)
        ]
        addresses = [
            webs[viewer // CORES % processes].stream(execution_id) for viewer in range(viewers)
        ]
        # As many processes of viewers as cores: one would go on alone when all is sent.
        receivers = [
            stack.enter_context(receiving(addresses[number::CORES])) for number in range(CORES)
        ]
        for receiver in receivers:
            receiver.until_open()

        def cpu() -> list[float]:
            web = sum(cpu_seconds(web.process.pid) for web in webs)
            rest = time.process_time() + _cpu_seconds_of(valkey)
            viewing = sum(cpu_seconds(receiver.process_id) for receiver in receivers)
            return [web, viewing, rest, idle_seconds()]

        for total in range(changes, ROUNDS * changes + 1, changes):
            held = commit_held([execution_id] * changes)
            before = cpu()
            began = time.monotonic_ns()
            for change in held:
                change.publish()
            for receiver in receivers:
                receiver.until_received(total, {})
            spent = [sum(part) for part in zip(spent, cpu(), map(neg, before), strict=True)]
            # With all moments at the beginning, the longest delay ends with the last arrival.
            moments = dict.fromkeys((change.key for change in held), began)
            received = [receiver.until_received(total, moments) for receiver in receivers]
            seconds += max(each.hundredths[-1] for each in received) / 1000
    return Measured(viewers * ROUNDS * changes, seconds, *spent)


def _cpu_seconds_of(valkey: "redis.Redis") -> float:
    told: Any = valkey.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    found = {}
    for processes in range(1, arguments.processes + 1):
        found[processes] = measured(
            stage.directory, processes, arguments.viewers, arguments.changes
        )
        show(f"  {processes} web processes: {found[processes].per_second:,.0f} messages/s")
    one = found[1]
    rows = [
        [
            f"{processes}",
            f"{each.per_second:,.0f}",
            f"{each.per_second / one.per_second:.2f}",
            *(f"{part / each.seconds:.2f}" for part in (each.web, each.viewers, each.rest)),
            f"{each.cores:.2f}",
            f"{each.messages / each.web:,.0f}",
        ]
        for processes, each in found.items()
    ]
    filling = min(CORES, arguments.processes)
    possible = min(filling, CORES / one.cores)
    return Report(
        f"Web processes: {arguments.viewers:,} viewers of one execution get {ROUNDS} times "
        f"{arguments.changes:,} changes at once; {CORES} cores",
        [
            "web processes", "messages/s", "x one", "web cores", "viewers' cores",
            "writer's and Valkey's", "cores busy", "messages/CPU s of web",
        ],
        rows,
        [
            Goal(
                f"growth with {filling} processes, of what the cores that one left idle allow",
                found[filling].per_second / one.per_second / possible,
                GROWTH_BOUND,
                at_least=True,
            )
        ],
        [
            "Cores are CPU seconds of all threads a second; cores busy, all that were not idle, "
            "with what the kernel does for sockets. The viewers' processes run on the "
            "same cores: what it takes is not there for web processes.",
            "The changes of a round are committed beforehand and published as fast as one "
            "process can, so that nothing waits for the writer: many are sent in one write.",
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=at_most(5_000), default=1_000)
    parser.add_argument("--changes", type=at_most(2_000), default=300)
    parser.add_argument("--processes", type=at_most(16), default=3)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
