"""Fan-out: messages a CPU second of the web process, to many viewers of one execution.

`python -m tests.benchmarks.side_by_side.fan_out [--viewers N] [--messages M] [--per-second R]`
"""

import argparse
import json
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.side_by_side.bare import PLACEHOLDER
from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.receiver import Received, receiving
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show
from tests.servers.web import web_running

LIMIT_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Load:
    viewers: int
    messages: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Measured:
    received: Received
    cpu_seconds: float

    @property
    def per_cpu_second(self) -> float:
        return self.received.messages / self.cpu_seconds


def floor(load: Load, directory: Path, example: str) -> Measured:
    application = "tests.benchmarks.side_by_side.bare:application"
    with web_running(directory / "bare.log", os.environ, application) as web:
        addresses = [f"{web.ws}/viewers"] * load.viewers
        with receiving(addresses, first_message=False) as viewers:
            viewers.until_open()
            before = cpu_seconds(web.process.pid)
            url = f"{web.http}/send?messages={load.messages}&per_second={load.per_second}"
            request = urllib.request.Request(url, example.encode(), method="POST")  # noqa: S310
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
                moments = json.load(answer)
            received = viewers.until_received(load.messages, moments)
            return Measured(received, cpu_seconds(web.process.pid) - before)


def of_product(load: Load, directory: Path, application: str, *, group: bool = False) -> Measured:
    from executions.recording import NewActivity, changing, create_execution
    from executions.signals import events_committed
    from executions.statuses import ActivityStatus, ExecutionStatus

    step = NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
    execution_id = create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=[step]
    ).execution_id
    moments: dict[str, int] = {}

    def note(events: Any, **_: Any) -> None:
        moments[str(events[0].event_id)] = time.monotonic_ns()
        if group:
            _send_to_group(execution_id, events[0].message)

    with (
        web_running(directory / "web.log", _many_allowed(), application) as web,
        receiving([web.stream(execution_id)] * load.viewers) as viewers,
    ):
        viewers.until_open()
        before = cpu_seconds(web.process.pid)
        publishing = events_committed.receivers
        events_committed.receivers = []
        events_committed.connect(note, weak=False)
        events_committed.receivers += publishing
        try:
            began = time.monotonic()
            for number in range(load.messages):
                time.sleep(max(0.0, began + number / load.per_second - time.monotonic()))
                with changing(execution_id) as change:
                    change.activity("step").progress = (number + 1) / (load.messages + 1)
        finally:
            events_committed.receivers = publishing
        received = viewers.until_received(load.messages, moments)
        return Measured(received, cpu_seconds(web.process.pid) - before)


def _send_to_group(execution_id: str, text: str) -> None:
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    layer: Any = get_channel_layer()
    message = {"type": "activity.update", "message": json.loads(text)}
    async_to_sync(layer.group_send)(f"execution.{execution_id}", message)


def _many_allowed() -> dict[str, str]:
    many = {f"NEXUS_CONNECTIONS_PER_{what}": "20000" for what in ("USER", "EXECUTION", "PROCESS")}
    return {**os.environ, **many}


def example_text() -> str:
    """A patch as the product sends it, with a placeholder for its event_id."""
    from executions.event_log import read_events
    from executions.recording import NewActivity, changing, create_execution
    from executions.statuses import ActivityStatus

    step = NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
    execution = create_execution(workflow_id="w", workflow_type="W", activities=[step])
    with changing(execution.execution_id) as change:
        change.activity("step").progress = 1 / 3
    [patch] = read_events(execution.execution_id, 0, 1)
    return patch.message.replace(str(patch.event_id), PLACEHOLDER)


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    load = Load(arguments.viewers, arguments.messages, arguments.per_second)
    directory = stage.directory
    nexus = "nexus_project.asgi:application"
    thoughts = "tests.benchmarks.side_by_side.first_thought"
    ways: dict[str, Callable[[], Measured]] = {
        "bare application": lambda: floor(load, directory, example_text()),
        "Nexus": lambda: of_product(load, directory, nexus),
        "consumer with an XREAD of its own": lambda: of_product(
            load, directory, f"{thoughts}:stream_reading"
        ),
        "consumer on channel-layer groups": lambda: of_product(
            load, directory, f"{thoughts}:groups", group=True
        ),
    }
    rows = []
    found: dict[str, float] = {}
    for name, way in ways.items():
        measured = way()
        found[name] = measured.per_cpu_second
        rows.append(
            [
                name,
                f"{measured.per_cpu_second:,.0f}",
                f"{measured.per_cpu_second / found['bare application']:.2f}",
                f"{measured.received.p50:.1f}",
                f"{measured.received.p99:.1f}",
            ]
        )
        show(f"  {name}: {rows[-1][1:]}")
    ours = found["Nexus"]
    return Report(
        f"Fan-out: {load.viewers:,} viewers of one execution, {load.per_second:g} changes a second",
        ["", "messages/CPU s", "x floor", "p50 ms", "p99 ms"],
        rows,
        [
            Goal("Nexus / bare application", ours / found["bare application"], 0.8, at_least=True),
            Goal(
                "Nexus / consumer with an XREAD of its own",
                ours / found["consumer with an XREAD of its own"], 4, at_least=True,
            ),
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--viewers", type=at_most(5_000), default=1_000)
    parser.add_argument("--messages", type=at_most(10_000), default=100)
    parser.add_argument("--per-second", type=float, default=10.0)
    run_part(measure, parser)


if __name__ == "__main__":
    main()
