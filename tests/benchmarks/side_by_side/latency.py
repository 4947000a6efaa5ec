"""Latency from commit to socket, beside raw XADD and PUBLISH heard by a bare application.

`python -m tests.benchmarks.side_by_side.latency [--executions E] [--viewers N]
[--per-second R] [--seconds S]`
"""

import argparse
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.bare import PLACEHOLDER
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import receiving
from tests.benchmarks.side_by_side.writing import (
    advance,
    commits_told,
    example_text,
    many_allowed,
    paced,
    running_executions,
)
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import percentile, show
from tests.servers.web import WebServer, web_running

_HUB: Final = "nexus_stream_to_socket_seconds"


@dataclass(frozen=True, slots=True)
class Load:
    executions: int
    viewers: int
    per_second: float
    seconds: float

    @property
    def changes_each(self) -> int:
        """How many changes each execution gets."""
        return max(1, round(self.per_second * self.seconds / self.executions))

    def of_all_viewers(self, addresses: Sequence[str]) -> list[str]:
        """An address for each viewer, those of the executions in turn."""
        return [addresses[viewer % len(addresses)] for viewer in range(self.viewers)]

    def turns(self) -> Iterator[int]:
        """The number of each change, at its time; executions have their turns one by one."""
        return paced(self.changes_each * self.executions, self.per_second)


@dataclass(slots=True)
class Moments:
    """Of each change, by the key that viewers know it by, in monotonic nanoseconds."""

    committed: dict[str, int] = field(default_factory=dict)
    appended: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delays:
    """In milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> "Delays":
        return cls(percentile(nanoseconds, 50) / 1e6, percentile(nanoseconds, 99) / 1e6)


@dataclass(frozen=True, slots=True)
class Measured:
    """`load` says at which pace, and what share of a core writer and web process needed."""

    to_socket: Delays
    append: Delays
    from_append: Delays
    load: str


def watched(
    load: Load,
    web: WebServer,
    addresses: Sequence[str],
    write: Callable[[Moments], None],
    *,
    first_message: bool,
) -> Measured:
    """Let viewers watch what `write` writes, which notes when."""
    moments = Moments()
    with receiving(load.of_all_viewers(addresses), first_message=first_message) as viewers:
        viewers.until_open()
        web_cpu, own_cpu, began = (
            cpu_seconds(web.process.pid),
            time.process_time(),
            time.monotonic(),
        )
        write(moments)
        seconds = time.monotonic() - began
        own_cpu = time.process_time() - own_cpu
        received = viewers.until_received(load.changes_each, moments.committed)
        web_cpu = cpu_seconds(web.process.pid) - web_cpu
        later = viewers.until_received(load.changes_each, moments.appended)
    return Measured(
        Delays(received.p50, received.p99),
        Delays.of([moments.appended[key] - then for key, then in moments.committed.items()]),
        Delays(later.p50, later.p99),
        f"{len(moments.committed) / seconds:.0f} changes/s; of a core, the writer took "
        f"{own_cpu / seconds:.0%}, the web process {web_cpu / seconds:.0%}",
    )


def floor(load: Load, directory: Path, example: str) -> Measured:
    client = redis.Redis.from_url(os.environ["VALKEY_URL"])
    keys = [f"execution:floor-{number}:events" for number in range(load.executions)]

    def write(moments: Moments) -> None:
        for number in load.turns():
            event_id = f"{10**12 + number}-{number}"
            key, text = keys[number % len(keys)], example.replace(PLACEHOLDER, event_id)
            pipeline: Any = client.pipeline(transaction=False)
            moments.committed[event_id] = time.monotonic_ns()
            pipeline.xadd(key, {"message": text}, id=event_id).publish(key, text).execute()
            moments.appended[event_id] = time.monotonic_ns()

    application = "tests.benchmarks.side_by_side.bare_listener:application"
    with client, web_running(directory / "bare.log", os.environ, application) as web:
        addresses = [f"{web.ws}/{key}" for key in keys]
        return watched(load, web, addresses, write, first_message=False)


def of_product(load: Load, directory: Path) -> tuple[Measured, Delays, float]:
    """The way to the socket; the transactions before it; hub and send, a mean in ms."""
    executions = running_executions(load.executions)
    transactions: list[int] = []

    def write(moments: Moments) -> None:
        def note(noted: dict[str, int]) -> Callable[..., None]:
            def receiver(execution_id: str, events: Sequence[Any], **_: Any) -> None:
                noted[f"{execution_id} {events[0].event_id}"] = time.monotonic_ns()

            return receiver

        with commits_told(note(moments.committed), note(moments.appended)):
            for number in load.turns():
                began = time.monotonic_ns()
                advance(executions[number % len(executions)], (number + 1) / 10**6)
                transactions.append(next(reversed(moments.committed.values())) - began)

    with web_running(directory / "web.log", many_allowed()) as web:
        addresses = list(map(web.stream, executions))
        before = _metrics(web)
        measured = watched(load, web, addresses, write, first_message=True)
        after = _metrics(web)
    messages = after[f"{_HUB}_count"] - before[f"{_HUB}_count"]
    seconds = after[f"{_HUB}_sum"] - before[f"{_HUB}_sum"]
    return measured, Delays.of(transactions), 1000 * seconds / messages


def _metrics(web: WebServer) -> Mapping[str, float]:
    with urllib.request.urlopen(f"{web.http}/metrics", timeout=10) as answer:  # noqa: S310
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    load = Load(arguments.executions, arguments.viewers, arguments.per_second, arguments.seconds)
    bare = floor(load, stage.directory, example_text())
    show(f"  bare: {bare.to_socket}, {bare.load}")
    ours, transaction, hub_milliseconds = of_product(load, stage.directory)
    show(f"  Nexus: {ours.to_socket}, {ours.load}")
    rows = [
        _row("bare: before XADD and PUBLISH to the socket", bare.to_socket),
        _row("  to their answer", bare.append),
        _row("  from their answer", bare.from_append),
        _row("Nexus: commit to the socket", ours.to_socket, bare.to_socket),
        _row("  append: to the script's answer", ours.append, bare.append),
        _row("  hub and send: from its answer", ours.from_append, bare.from_append),
        _row("  (the transaction before the commit)", transaction),
    ]
    return Report(
        f"Latency: {load.viewers:,} viewers over {load.executions:,} executions, "
        f"{load.per_second:g} changes a second for {load.seconds:g} s",
        ["", "p50 ms", "p99 ms", "x floor p50", "x floor p99"],
        rows,
        [
            Goal("p50, Nexus / bare", ours.to_socket.p50 / bare.to_socket.p50, 1.5),
            Goal("p99, Nexus / bare", ours.to_socket.p99 / bare.to_socket.p99, 3),
        ],
        [
            "Nexus counts from the signal after the commit, the floor from just before its one "
            "pipeline of XADD and PUBLISH: both from the moment the writer turns to Valkey. "
            "Valkey announces before it answers, so the two parts overlap a little.",
            f"Within the web process, heard to sent: mean {hub_milliseconds:.2f} ms.",
            f"Bare: {bare.load}. Nexus: {ours.load}.",
        ],
    )


def _row(name: str, delays: Delays, beside: Delays | None = None) -> list[str]:
    ratios = (
        ["", ""]
        if beside is None
        else [f"{delays.p50 / beside.p50:.2f}", f"{delays.p99 / beside.p99:.2f}"]
    )
    return [name, f"{delays.p50:.2f}", f"{delays.p99:.2f}", *ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--executions", type=at_most(2_000), default=200)
    parser.add_argument("--viewers", type=at_most(5_000), default=1_000)
    parser.add_argument("--per-second", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
