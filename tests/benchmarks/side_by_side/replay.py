"""Replay: events a second of a long execution, from its beginning, to those who come late.

`python -m tests.benchmarks.side_by_side.replay [--events N] [--viewers N]`
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import receiving
from tests.benchmarks.side_by_side.recording_writer import an_execution, change_progress
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import WebServer, web_running

FILL_SECONDS: Final = 60.0
TIMES_ALONE: Final = 5

NEXUS: Final = "nexus_project.asgi:application"
BARE: Final = "tests.benchmarks.side_by_side.bare_replay:application"


@dataclass(frozen=True, slots=True)
class Load:
    execution_id: str
    events: int
    viewers: int

    @property
    def messages(self) -> int:
        return self.events * self.viewers


@dataclass(frozen=True, slots=True)
class Measured:
    per_second: float
    per_cpu_second: float


def long_execution(events: int) -> str:
    """An execution whose log and stream have so many events."""
    from django.db import transaction

    from streaming.activity_update_publisher import publisher
    from tests.truth import nobody_listening

    with nobody_listening(), transaction.atomic():
        execution_id = an_execution()
        for number in range(events - 1):
            change_progress(execution_id, number)
    publisher().fill(execution_id)
    if not publisher().wait_until_filled(FILL_SECONDS):
        raise RuntimeError(f"the stream was not filled within {FILL_SECONDS:g} s")
    return execution_id


def forget_in_valkey(execution_id: str) -> None:
    """Trim the stream to its newest entry, so that the event log alone has the others."""
    from streaming.stream import stream_key
    from streaming.valkey.clients import writing_client

    writing_client().xtrim(stream_key(execution_id), maxlen=1, approximate=False)


def replayed(
    load: Load, directory: Path, application: str, address: Callable[[WebServer, str], str]
) -> Measured:
    """Have the viewers read all of it: the server's first time does not count.

    One viewer is soon done, so that chance tells: its is the median of several times.
    """
    found = []
    with web_running(directory / "web.log", os.environ, application) as web:
        url = address(web, load.execution_id)
        with receiving([url], first_message=False) as first:
            first.until_open()
            first.until_received(load.events, {})
        for _ in range(TIMES_ALONE if load.viewers == 1 else 1):
            before = cpu_seconds(web.process.pid)
            with receiving([url] * load.viewers, first_message=False) as viewers:
                viewers.until_open()
                received = viewers.until_received(load.events, {})
                found.append((received.last_seconds, cpu_seconds(web.process.pid) - before))
    return Measured(*(load.messages / median(each) for each in zip(*found, strict=True)))


def of_nexus(load: Load, directory: Path) -> Measured:
    return replayed(load, directory, NEXUS, lambda web, name: web.stream(name, "0"))


def of_bare_application(load: Load, directory: Path) -> Measured:
    from streaming.stream import stream_key

    return replayed(load, directory, BARE, lambda web, name: f"{web.ws}/{stream_key(name)}")


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    execution_id = long_execution(arguments.events)
    loads = [Load(execution_id, arguments.events, viewers) for viewers in (1, arguments.viewers)]
    floors = [of_bare_application(load, stage.directory) for load in loads]
    from_streams = [of_nexus(load, stage.directory) for load in loads]
    forget_in_valkey(execution_id)
    from_logs = [of_nexus(load, stage.directory) for load in loads]
    rows, goals = [], []
    for load, floor, from_stream, from_log in zip(
        loads, floors, from_streams, from_logs, strict=True
    ):
        who = "one viewer" if load.viewers == 1 else f"{load.viewers} viewers at once"
        ways = {
            "bare application, XRANGE and send": floor,
            "Nexus, from the stream": from_stream,
            "Nexus, from the event log": from_log,
        }
        rows += [
            [
                f"{who}: {way}",
                f"{each.per_second:,.0f}",
                f"{each.per_second / floor.per_second:.2f}",
                f"{each.per_cpu_second:,.0f}",
            ]
            for way, each in ways.items()
        ]
        goals.append(
            Goal(f"{who}: Nexus, from the stream / bare application",
                 from_stream.per_second / floor.per_second, 0.5, at_least=True)
        )  # fmt: skip
    show(f"  {rows}")
    return Report(
        f"Replay: {arguments.events:,} events from the beginning",
        ["", "events/s", "x floor", "events/CPU s"],
        rows,
        goals,
        [
            "From the event log is read what the stream no longer keeps, here on SQLite. All the",
            "time counts, from the first connection to the last message.",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=at_most(100_000), default=10_000)
    parser.add_argument("--viewers", type=at_most(500), default=20)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
