"""Idle connections: what each costs the web process in memory, and all together in CPU.

`python -m tests.benchmarks.side_by_side.idle_connections [--few N] [--many N] [--seconds S]`
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from tests.benchmarks.hostile_clients import Memory
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.callers import asking_environment, tokens_of_users
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import Receiver, receiving
from tests.benchmarks.side_by_side.writing import running_executions
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import WebServer, web_running

EXECUTIONS: Final = 100
HEARTBEAT_SECONDS: Final = 30
"""The default of NEXUS_HEARTBEAT_SECONDS: so long is measured that each connection has one."""

PING_SECONDS: Final = 60
"""How often our Daphne asks a client whether it is there."""

GOAL_BYTES: Final = 32 * 1024
GOAL_CORES: Final = 0.05


@dataclass(slots=True)
class Held:
    """A web process that holds connections."""

    web: WebServer
    bytes_each: float
    later_viewers: Receiver
    cores: float = 0


@contextmanager
def holding(
    web: WebServer, addresses: Sequence[str], few: int, tokens: Sequence[str]
) -> Iterator[Held]:
    """Connect a few, then the others: the difference is free of what a process needs anyway."""
    first_message = bool(tokens)
    with receiving(addresses[:few], first_message=first_message, tokens=tokens) as viewers:
        viewers.until_open()
        memory = Memory(web.process.pid)
        before = memory.kibibytes("VmRSS")
        with receiving(addresses[few:], first_message=first_message, tokens=tokens) as others:
            others.until_open()
            grown = memory.kibibytes("VmRSS") - before
            yield Held(web, grown * 1024 / (len(addresses) - few), others)


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    bare_application = "tests.benchmarks.side_by_side.bare:application"
    application = "nexus_project.asgi:application"
    many, few = arguments.many, arguments.few
    executions = running_executions(EXECUTIONS)
    with (
        web_running(stage.directory / "bare.log", os.environ, bare_application) as bare_web,
        web_running(stage.directory / "web.log", asking_environment(), application) as web,
    ):
        streams = list(islice(cycle(map(web.stream, executions)), many))
        with (
            holding(bare_web, [f"{bare_web.ws}/viewers"] * many, few, ()) as bare,
            holding(web, streams, few, tokens_of_users()) as ours,
        ):
            show(f"  {many:,} connections to each are open")
            before = [cpu_seconds(held.web.process.pid) for held in (bare, ours)]
            began = time.monotonic()
            time.sleep(arguments.seconds)
            for held, used in zip((bare, ours), before, strict=True):
                held.cores = cpu_seconds(held.web.process.pid) - used
                held.cores /= time.monotonic() - began
            if arguments.seconds >= HEARTBEAT_SECONDS:
                ours.later_viewers.until_received(1, {})
    rows = [
        [name, f"{held.bytes_each:,.0f}", f"{held.cores:.1%}"]
        for name, held in (("bare application", bare), ("Nexus", ours))
    ]
    for row in rows:
        show(f"  {row[0]}: {row[1:]}")
    return Report(
        f"{many:,} idle connections with tokens, over {EXECUTIONS} executions",
        ["", "bytes/connection", "CPU, of a core"],
        rows,
        [
            Goal("memory of an idle connection, bytes", ours.bytes_each, GOAL_BYTES),
            Goal(f"CPU of {many:,} idle connections, of a core", ours.cores, GOAL_CORES),
        ],
        [
            f"Memory: what the process grew by from {few:,} connections to {many:,}, each. "
            f"CPU: over {arguments.seconds:g} s, with two heartbeats and a ping for each, "
            "and looks at everybody's access every two seconds."
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--few", type=at_most(5_000), default=2_000)
    parser.add_argument("--many", type=at_most(15_000), default=10_000)
    parser.add_argument("--seconds", type=float, default=PING_SECONDS + 2)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
