"""Fan-out: messages a CPU second of the web process, to many viewers of one execution.

`python -m tests.benchmarks.side_by_side.fan_out [--viewers N] [--messages M] [--per-second R]`
The pace is one that all ways can keep up with, or delays would be those of a queue that grows.
"""

import argparse
import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from nexus_project.web.entrance import raise_open_files_limit
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side import nats_client, nats_server
from tests.benchmarks.side_by_side.bare import PLACEHOLDER
from tests.benchmarks.side_by_side.eventstream_publisher import publishing
from tests.benchmarks.side_by_side.nats_server import nats_running
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import Received, receiving
from tests.benchmarks.side_by_side.uvicorn_server import uvicorn_running
from tests.benchmarks.side_by_side.writing import (
    advance,
    commits_told,
    example_text,
    many_allowed,
    paced,
    running_execution,
)
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import WebServer, web_running

LIMIT_SECONDS: Final = 300
SUBJECT: Final = "execution"

FLOOR: Final = "bare application"
NEXUS: Final = "Nexus"
STREAM_READING: Final = "consumer with an XREAD of its own"
GROUPS: Final = "consumer on channel-layer groups"
EVENTSTREAM: Final = "django-eventstream"
NATS_CONSUMERS: Final = "NATS JetStream, ordered consumers"
NATS_SUBSCRIPTIONS: Final = "NATS, plain subscriptions"

NOTES: Final = {
    FLOOR: "sends ready bytes; keeps nothing, resumes nothing, and knows no one",
    f"{NEXUS} on uvicorn": "without what our Daphne bounds: stalled readers, pings, leaving",
    STREAM_READING: "a Valkey connection for each viewer, JSON for each viewer; no access control, "
    "no snapshot, and nothing while Valkey is away",
    GROUPS: "at most once: no replay, and no word of what was dropped",
    EVENTSTREAM: "Server-Sent Events, stored in the database; resumes with Last-Event-ID, keeps "
    "24 hours; ten messages wait for a viewer, more are read again from the database",
    NATS_CONSUMERS: "Go; a consumer for each viewer, flow controlled, in order, replays by "
    "sequence; access by subject alone, and the client must notice gaps and ask anew",
    NATS_SUBSCRIPTIONS: "Go; the same stream stores them, but viewers get them at most once, "
    "without replay; who reads slowly is cut off",
}

Running = Callable[[Path, Mapping[str, str], str], AbstractContextManager[WebServer]]


@dataclass(frozen=True, slots=True)
class Load:
    viewers: int
    messages: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What the viewers received, without their snapshots, and what that cost the web process."""

    load: Load
    received: Received
    cpu_seconds: float

    @property
    def per_cpu_second(self) -> float:
        return self.load.viewers * self.load.messages / self.cpu_seconds


def floor(load: Load, directory: Path, example: str, running: Running = web_running) -> Measured:
    application = "tests.benchmarks.side_by_side.bare:application"
    with running(directory / "bare.log", os.environ, application) as web:
        addresses = [f"{web.ws}/viewers"] * load.viewers
        with receiving(addresses, first_message=False) as viewers:
            viewers.until_open()
            before = cpu_seconds(web.process.pid)
            url = f"{web.http}/send?messages={load.messages}&per_second={load.per_second}"
            request = urllib.request.Request(url, example.encode(), method="POST")  # noqa: S310
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
                moments = json.load(answer)
            received = viewers.until_received(load.messages, moments)
            return Measured(load, received, cpu_seconds(web.process.pid) - before)


def of_product(
    load: Load,
    directory: Path,
    application: str,
    *,
    group: bool = False,
    running: Running = web_running,
) -> Measured:
    execution_id = running_execution()
    moments: dict[str, int] = {}

    def note(events: Any, **_: Any) -> None:
        moments[str(events[0].event_id)] = time.monotonic_ns()
        if group:
            _send_to_group(execution_id, events[0].message)

    with (
        running(directory / "web.log", many_allowed(), application) as web,
        receiving([web.stream(execution_id)] * load.viewers) as viewers,
    ):
        viewers.until_open()
        before = cpu_seconds(web.process.pid)
        with commits_told(note):
            for number in paced(load.messages, load.per_second):
                advance(execution_id, (number + 1) / (load.messages + 1))
        received = viewers.until_received(load.messages, moments)
        return Measured(load, received, cpu_seconds(web.process.pid) - before)


def of_eventstream(load: Load, directory: Path, example: str) -> Measured:
    application = "tests.benchmarks.side_by_side.eventstream_site:application"
    with (
        publishing(SUBJECT) as publish,
        web_running(directory / "eventstream.log", os.environ, application) as web,
        receiving([f"{web.http}/events/{SUBJECT}/"] * load.viewers) as viewers,
    ):
        viewers.until_open()
        before = cpu_seconds(web.process.pid)
        received = viewers.until_received(load.messages, _published(load, example, publish))
        return Measured(load, received, cpu_seconds(web.process.pid) - before)


def of_nats(load: Load, directory: Path, example: str, scheme: str) -> Measured:
    with nats_running(directory / scheme) as nats:
        nats.create_stream(SUBJECT)
        address = f"{scheme}://{nats_server.HOST}:{nats.websocket_port}/{SUBJECT}"
        with receiving([address] * load.viewers, first_message=False) as viewers:
            viewers.until_open()
            before = cpu_seconds(nats.process_id)
            moments = _published(load, example, lambda text: nats.publish(SUBJECT, text))
            received = viewers.until_received(load.messages, moments)
            return Measured(load, received, cpu_seconds(nats.process_id) - before)


def _published(load: Load, example: str, publish: Callable[[str], None]) -> dict[str, int]:
    """Publish the example at the load's pace; the moment before each, by its event_id."""
    moments = {}
    for number in paced(load.messages, load.per_second):
        event_id = f"1-{number + 1}"
        moments[event_id] = time.monotonic_ns()
        publish(example.replace(PLACEHOLDER, event_id))
    return moments


def _send_to_group(execution_id: str, text: str) -> None:
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    layer: Any = get_channel_layer()
    message = {"type": "activity.update", "message": json.loads(text)}
    async_to_sync(layer.group_send)(f"execution.{execution_id}", message)


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    raise_open_files_limit()
    load = Load(arguments.viewers, arguments.messages, arguments.per_second)
    directory = stage.directory
    example = example_text()
    nexus = "nexus_project.asgi:application"
    thoughts = "tests.benchmarks.side_by_side.first_thought"
    ways: dict[str, Callable[[], Measured]] = {
        FLOOR: lambda: floor(load, directory, example),
        NEXUS: lambda: of_product(load, directory, nexus),
        STREAM_READING: lambda: of_product(load, directory, f"{thoughts}:stream_reading"),
        GROUPS: lambda: of_product(load, directory, f"{thoughts}:groups", group=True),
    }
    absent = []
    if find_spec("uvicorn") and find_spec("uvloop"):
        ways |= {
            f"{FLOOR} on uvicorn": lambda: floor(load, directory, example, uvicorn_running),
            f"{NEXUS} on uvicorn": lambda: of_product(
                load, directory, nexus, running=uvicorn_running
            ),
        }
    else:
        absent.append("uvicorn")
    if find_spec("django_eventstream"):
        ways[EVENTSTREAM] = lambda: of_eventstream(load, directory, example)
    else:
        absent.append(EVENTSTREAM)
    if nats_server.BINARY.exists():
        ways |= {
            NATS_CONSUMERS: lambda: of_nats(load, directory, example, nats_client.CONSUMING),
            NATS_SUBSCRIPTIONS: lambda: of_nats(load, directory, example, nats_client.SUBSCRIBED),
        }
    else:
        absent.append("NATS")
    rows = []
    found: dict[str, float] = {}
    for name, way in ways.items():
        measured = way()
        found[name] = measured.per_cpu_second
        rows.append(
            [
                name,
                f"{measured.per_cpu_second:,.0f}",
                f"{measured.per_cpu_second / found[FLOOR]:.2f}",
                f"{measured.received.p50:.1f}",
                f"{measured.received.p99:.1f}",
            ]
        )
        show(f"  {name}: {rows[-1][1:]}")
    return Report(
        f"Fan-out: {load.viewers:,} viewers of one execution, {load.per_second:g} changes a second",
        ["", "messages/CPU s", "x floor", "p50 ms", "p99 ms"],
        rows,
        [
            Goal(f"{NEXUS} / {FLOOR}", found[NEXUS] / found[FLOOR], 0.8, at_least=True),
            Goal(
                f"{NEXUS} / {STREAM_READING}", found[NEXUS] / found[STREAM_READING], 4,
                at_least=True,
            ),
        ],
        [
            "Delays: Nexus and the consumers from the commit, the others from before publishing.",
            *(f"{name}: {NOTES[name]}." for name in ways if name in NOTES),
            *(f"{name} is not installed and was left out: `make bench` has it." for name in absent),
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=at_most(5_000), default=1_000)
    parser.add_argument("--messages", type=at_most(10_000), default=20)
    parser.add_argument("--per-second", type=float, default=4.0)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
