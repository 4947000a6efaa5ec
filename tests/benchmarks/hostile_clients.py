"""What hostile clients cost a web process, and those who use it meanwhile.

`python -m tests.benchmarks.hostile_clients [--seconds S] [--only NAME,NAME]` starts a Valkey
and a web server of its own on a fresh database. One execution changes 50 times a second; a
viewer of it and a client that asks for an unrelated document ten times a second, each time on
a new connection, are measured first alone and then under each attack of `attacks.py` for S
seconds. Memory is the web process': how far its peak rose above what it held before. All
share one machine: an attack's own work slows the others, too.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import connect

from tests.benchmarks.attacks import ATTACKS
from tests.benchmarks.stage import at_most, stage_set
from tests.benchmarks.tables import percentile, show, table
from tests.servers import end_with_parent

CHANGES_PER_SECOND: Final = 50
REQUESTS_PER_SECOND: Final = 10
ACTIVITIES: Final = 300
AFTER_SECONDS: Final = 1.0
"""After an attack, for what it has left under way to end."""


async def witness(stream_url: str, port: int, path: str) -> None:
    """View and ask until stdin ends; then print what came when, in monotonic nanoseconds."""
    arrivals: list[tuple[str, int]] = []
    answers: list[tuple[int, int | None]] = []

    async def view() -> None:
        async with connect(stream_url, compression=None, max_size=None) as connection:
            async for text in connection:
                now = time.monotonic_ns()
                message = json.loads(text)
                if message["type"] == "activity_patch":
                    arrivals.append((message["event_id"], now))
                elif message["type"] == "initial_snapshot":
                    show("viewing")

    async def ask() -> None:
        while True:
            began = time.monotonic_ns()
            answers.append((began, None))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            answers[-1] = (began, time.monotonic_ns() - began)
            writer.close()
            await asyncio.sleep(1 / REQUESTS_PER_SECOND)

    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    running = [asyncio.create_task(view()), asyncio.create_task(ask())]
    done, _ = await asyncio.wait([ended, *running], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    json.dump({"arrivals": arrivals, "answers": answers}, sys.stdout)


class Execution:
    """The execution that changes; when each change was committed, by its event_id."""

    def __init__(self) -> None:
        from executions.recording import NewActivity, create_execution
        from executions.signals import events_committed
        from executions.statuses import ActivityStatus, ExecutionStatus

        self.committed: dict[str, int] = {}
        self.execution_id = create_execution(
            workflow_id="busy",
            workflow_type="W",
            status=ExecutionStatus.RUNNING,
            activities=[
                NewActivity(
                    activity_id=f"step-{number}",
                    activity_name=f"step {number}",
                    status=ActivityStatus.RUNNING,
                )
                for number in range(ACTIVITIES)
            ],
        ).execution_id
        publishing = events_committed.receivers
        events_committed.receivers = []
        events_committed.connect(self._note, weak=False)
        events_committed.receivers += publishing
        self._changes = 0

    def change_for(self, seconds: float, ends: "subprocess.Popen[bytes] | None" = None) -> None:
        """Change at the pace for so long, and until `ends` has ended."""
        from executions.recording import changing

        began = time.monotonic()
        number = 0
        while time.monotonic() < began + seconds or (ends and ends.poll() is None):
            time.sleep(max(0.0, began + number / CHANGES_PER_SECOND - time.monotonic()))
            number += 1
            self._changes += 1
            with changing(self.execution_id) as change:
                activity = change.activity(f"step-{number % ACTIVITIES}")
                activity.progress = (self._changes % 1000 + 1) / 1001

    def _note(self, events: Any, **_: Any) -> None:
        self.committed[str(events[0].event_id)] = time.monotonic_ns()


class Memory:
    """A process' resident memory, by the kernel's word (Linux)."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc", str(pid))

    def forget_peak(self) -> None:
        (self._proc / "clear_refs").write_text("5")

    def kibibytes(self, field: str) -> int:
        """VmRSS, or VmHWM: the peak since it was forgotten."""
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise LookupError(field)


def measure(directory: Path, names: list[str], seconds: float) -> str:
    """Run it all; the table of figures."""
    from executions.recording import create_execution
    from tests.servers.web import web_running

    busy = Execution()
    quiet_id = create_execution(workflow_id="quiet", workflow_type="W").execution_id
    stream_path = f"/api/v1/ws/executions/{busy.execution_id}"
    with web_running(directory / "web.log", os.environ) as web:
        port = int(web.http.rpartition(":")[2])
        witnessing = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--witness", web.stream(busy.execution_id),
             str(port), f"/api/v1/executions/{quiet_id}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        assert witnessing.stdout is not None
        assert witnessing.stdout.readline() == "viewing\n"
        busy.change_for(2)
        memory = Memory(web.process.pid)
        rows = []
        for name in ["", *names]:
            held = memory.kibibytes("VmRSS")
            memory.forget_peak()
            began = time.monotonic_ns()
            if name:
                attacker = subprocess.Popen(
                    [sys.executable, "-m", "tests.benchmarks.attacks",
                     name, str(port), stream_path, str(seconds)],
                    preexec_fn=end_with_parent,
                )  # fmt: skip
                busy.change_for(seconds, attacker)
                assert attacker.returncode == 0, f"the attack {name} failed"
            else:
                busy.change_for(seconds)
            ended = time.monotonic_ns()
            growth = (memory.kibibytes("VmHWM") - held) / 1024
            rows.append((name, began, ended, growth))
            busy.change_for(AFTER_SECONDS)
            assert web.process.poll() is None, "the web server ended"
        told, _ = witnessing.communicate()
    seen = json.loads(told)
    return table(
        ["attack", "memory MB", "message p50 ms", "p99", "missing", "request p50 ms", "p99"],
        [
            _row(ATTACKS[name][0] if name else "none", growth, began, ended, busy.committed, seen)
            for name, began, ended, growth in rows
        ],
    )


def _row(
    name: str, growth: float, began: int, ended: int, committed: dict[str, int], seen: Any
) -> list[str]:
    arrived: dict[str, int] = dict(seen["arrivals"])
    within = {each: at for each, at in committed.items() if began <= at < ended}
    messages = [(arrived[each] - at) / 1e6 for each, at in within.items() if each in arrived]
    requests = [
        # One that was not answered to the end took at least until then.
        (min(took, ended - at) if took is not None else ended - at) / 1e6
        for at, took in seen["answers"]
        if at < ended and (took is None or at + took >= began)
    ]
    return [
        name,
        f"{growth:+.0f}",
        *_middle_and_worst(messages),
        str(len(within) - len(messages)),
        *_middle_and_worst(requests),
    ]


def _middle_and_worst(milliseconds: list[float]) -> list[str]:
    if not milliseconds:
        return ["none", "none"]
    return [f"{percentile(milliseconds, each):.1f}" for each in (50, 99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=at_most(60), default=5)
    parser.add_argument("--only", default=",".join(ATTACKS), help="names of attacks, with commas")
    parser.add_argument("--witness", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.witness:
        stream_url, port, path = arguments.witness
        asyncio.run(witness(stream_url, int(port), path))
        return
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in ATTACKS]:
        parser.error(f"no attack is {', '.join(unknown)}; the attacks are {', '.join(ATTACKS)}")
    limit_seconds = 60 + (len(names) + 1) * (arguments.seconds + 10)
    with stage_set(limit_seconds, with_temporal=False) as stage:
        show(measure(stage.directory, names, arguments.seconds))


if __name__ == "__main__":
    main()
