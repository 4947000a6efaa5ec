#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["websockets>=15"]
# ///
# ruff: noqa: T201 (a command prints)
"""The execution stream protocol as one small server, to read and to try clients against.

    workflow-stream-demo.py              serve an example execution on 127.0.0.1:8765
    workflow-stream-demo.py --stdout     print the messages of one run, one JSON text a line

The example runs five activities in a row; process_data fails once, backs off and is retried,
and then a signal approves of it. A served execution starts when its first viewer connects, and
all its events are kept. What protocol.md asks of a server is here, except what needs a database
and users: events live in memory, and whoever reaches the port may look.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

ADDRESS = "/api/v1/ws/executions/"
ACTIVITIES = ["fetch_data", "validate_input", "process_data", "send_notification", "cleanup"]
FAILURE = {"type": "ConnectionError", "message": "the warehouse did not answer"}
LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
CLIENT_MESSAGES_ACCEPTED = 20


# The execution: a document, and the log of the events that made it.


class EventId(NamedTuple):
    """`<milliseconds>-<sequence>`. Milliseconds never go back, the sequence never skips."""

    milliseconds: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        if not re.fullmatch(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", text):
            raise ValueError(text)
        return cls(*map(int, text.split("-")))


@dataclass(frozen=True)
class Event:
    event_id: EventId
    message: str


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Execution:
    """One execution. Its log is only ever appended to, so a place in it is a cursor."""

    def __init__(self, execution_id: str) -> None:
        self.seconds = time.time()
        self.log: list[Event] = []
        self.finished = False
        self.grown = asyncio.Event()
        self.document: dict[str, Any] = {
            "execution_id": execution_id,
            "workflow_id": "order-1042",
            "workflow_type": "ExamplePipeline",
            "run_id": execution_id,
            "status": "pending",
            "created_at": timestamp(self.seconds),
            "started_at": None,
            "completed_at": None,
            "error_details": None,
            "parent_execution_id": None,
            "previous_execution_id": None,
            "next_execution_id": None,
            "latest_point": None,
            "activities": [
                {
                    "activity_id": str(number),
                    "activity_name": name,
                    "activity_type": "activity",
                    "status": "pending",
                    "pending_state": None,
                    "scheduled_at": None,
                    "started_at": None,
                    "completed_at": None,
                    "error_details": None,
                    "retry_count": 0,
                    "next_attempt_at": None,
                    "depends_on": [str(number - 1)] if number > 1 else [],
                    "progress": None,
                    "child_execution_id": None,
                }
                for number, name in enumerate(ACTIVITIES, start=1)
            ],
        }
        self._append("initial_snapshot", execution=self.document)

    def now(self) -> str:
        """The time, which never goes back."""
        self.seconds = max(self.seconds, time.time())
        return timestamp(self.seconds)

    def in_seconds(self, seconds: float) -> str:
        self.now()
        return timestamp(self.seconds + seconds)

    def change(self, values: dict[str, Any]) -> None:
        """Writes `values`, by their paths in the document; what they change is one event."""
        self.now()
        ops = []
        for path, value in values.items():
            *parents, field = path.removeprefix("/").split("/")
            target: Any = self.document
            for part in parents:
                target = target[int(part)] if isinstance(target, list) else target[part]
            if target[field] != value:
                target[field] = value
                ops.append({"op": "replace", "path": path, "value": value})
        self._append("activity_patch", ops=ops)

    def finish(self) -> None:
        """Closes the log with the whole document, for clients to compare theirs with."""
        self.finished = True
        self._append("final_snapshot", execution=self.document)

    def snapshot(self, **extra: Any) -> Event:
        """The document as it is, under the event_id that it is true at.

        Of a finished execution that is the event before the final snapshot, which then follows.
        """
        event_id = self.log[-2].event_id if self.finished else self.log[-1].event_id
        return self._event("initial_snapshot", event_id, execution=self.document, **extra)

    def _append(self, kind: str, **content: Any) -> None:
        event_id = EventId(int(self.seconds * 1000), sequence=len(self.log))
        self.log.append(self._event(kind, event_id, **content))
        self.grown.set()
        self.grown = asyncio.Event()

    def _event(self, kind: str, event_id: EventId, **content: Any) -> Event:
        message = {
            "type": kind,
            "execution_id": self.document["execution_id"],
            "event_id": str(event_id),
            "timestamp": timestamp(event_id.milliseconds / 1000),
            **content,
        }
        return Event(event_id, json.dumps(message))


async def run(execution: Execution, speed: float) -> None:
    """The example: each `change` is one event, each pause is work being done."""

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds / speed)

    await work(1.0)
    execution.change({"/status": "running", "/started_at": execution.now()})
    for position, name in enumerate(ACTIVITIES):
        at = f"/activities/{position}"
        execution.change({f"{at}/scheduled_at": execution.now()})
        await work(0.3)
        execution.change({f"{at}/status": "running", f"{at}/started_at": execution.now()})
        await work(1.0)
        if name == "process_data":
            execution.change({f"{at}/progress": 0.4})
            await work(0.8)
            backoff_seconds = 1.5
            execution.change(
                {
                    f"{at}/status": "retrying",
                    f"{at}/error_details": FAILURE,
                    f"{at}/next_attempt_at": execution.in_seconds(backoff_seconds / speed),
                    f"{at}/progress": None,
                }
            )
            await work(backoff_seconds)
            execution.change({f"{at}/next_attempt_at": None})
            await work(0.2)
            # What went wrong stays to be seen until an attempt has completed.
            execution.change(
                {
                    f"{at}/status": "running",
                    f"{at}/started_at": execution.now(),
                    f"{at}/retry_count": 1,
                }
            )
            for progress in (0.5, 0.9):
                await work(0.6)
                execution.change({f"{at}/progress": progress})
        execution.change(
            {
                f"{at}/status": "completed",
                f"{at}/completed_at": execution.now(),
                f"{at}/error_details": None,
                f"{at}/progress": None,
            }
        )
        if name == "process_data":
            await work(0.5)
            signal = {"kind": "signal", "name": "approve", "at": execution.now()}
            execution.change({"/latest_point": signal})
    execution.change({"/status": "completed", "/completed_at": execution.now()})
    execution.finish()


# The protocol: where a connection begins, and how it goes on.


class RefusedError(Exception):
    """The connection is closed with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def first_events(execution: Execution, replay: list[str]) -> tuple[list[Event], int]:
    """What a connection gets first, and the sequence from which it goes on in the log."""
    if not replay:
        snapshot = execution.snapshot()
        return [snapshot], snapshot.event_id.sequence + 1
    if replay == ["0"]:
        return [], 0
    try:
        (text,) = replay
        cursor = EventId.parse(text)
    except ValueError:
        accepted = "replay must be 0 or an event_id such as 1691431234100-1, or be left out"
        raise RefusedError(4400, accepted) from None
    if any(event.event_id == cursor for event in execution.log[cursor.sequence :][:1]):
        return [], cursor.sequence + 1
    snapshot = execution.snapshot(resync={"reason": "unknown"})
    return [snapshot], snapshot.event_id.sequence + 1


class Demo:
    """The server: its executions, and what one connection does."""

    def __init__(self, executions: int, speed: float, heartbeat_seconds: float) -> None:
        names = [f"demo-{number}" for number in range(1, executions + 1)]
        self.executions = {name: Execution(name) for name in names}
        self.runs: dict[str, asyncio.Task[None]] = {}
        self.speed = speed
        self.heartbeat_seconds = heartbeat_seconds

    async def connection(self, socket: ServerConnection) -> None:
        """Serves one client until either side closes; leaves no task behind."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(socket))
            await self._listen(socket)
            following.cancel()

    async def _follow(self, socket: ServerConnection) -> None:
        try:
            await self._send_events(socket)
            await socket.close(1000)
        except RefusedError as refused:
            await socket.close(refused.code, refused.reason)
        except ConnectionClosed:
            pass

    async def _send_events(self, socket: ServerConnection) -> None:
        address = urlsplit(socket.request.path if socket.request else "")
        name = unquote(address.path.removeprefix(ADDRESS))
        execution = self.executions.get(name)
        if execution is None:
            raise RefusedError(4404, "no such execution")
        replay = parse_qs(address.query, keep_blank_values=True).get("replay", [])
        first, sequence = first_events(execution, replay)
        if name not in self.runs:
            self.runs[name] = asyncio.create_task(run(execution, self.speed))

        for event in first:
            await socket.send(event.message)
        while True:
            while sequence < len(execution.log):
                await socket.send(execution.log[sequence].message)
                sequence += 1
            if execution.finished:
                return
            try:
                await asyncio.wait_for(execution.grown.wait(), self.heartbeat_seconds)
            except TimeoutError:
                caught_up = execution.log[sequence - 1].event_id
                heartbeat = {"type": "heartbeat", "timestamp": timestamp(time.time())}
                await socket.send(json.dumps({**heartbeat, "event_id": str(caught_up)}))

    async def _listen(self, socket: ServerConnection) -> None:
        """Drops what the client sends, and ends the connection when that becomes too much."""
        received = 0
        with suppress(ConnectionClosed):
            async for _ in socket:
                received += 1
                if received > CLIENT_MESSAGES_ACCEPTED:
                    await socket.close(4400, "this server accepts no messages")


# The command.


async def print_run(speed: float) -> None:
    execution = Execution("demo-1")
    running = asyncio.create_task(run(execution, speed))
    running.add_done_callback(lambda _: execution.grown.set())
    printed = 0
    while printed < len(execution.log) or not running.done():
        if printed == len(execution.log):
            await execution.grown.wait()
        else:
            print(execution.log[printed].message, flush=True)
            printed += 1
    await running


async def serve_runs(demo: Demo, host: str, port: int) -> None:
    origins = [None, LOCAL_ORIGIN]
    async with serve(demo.connection, host, port, origins=origins, max_size=2**16) as server:
        bound_port = next(iter(server.sockets)).getsockname()[1]
        base = f"ws://{f'[{host}]' if ':' in host else host}:{bound_port}{ADDRESS}"
        viewer = Path(__file__).with_name("workflow-stream-viewer.py")
        print("Watch, in another terminal (Ctrl-C here ends the server):")
        for name in demo.executions:
            print(f"  {sys.executable} {viewer} {base}{name}", flush=True)
        await server.serve_forever()


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--serve", action="store_true", help="serve over WebSocket (the default)")
    mode.add_argument("--stdout", action="store_true", help="print one run's messages and end")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (%(default)s)")
    parser.add_argument("--port", default=8765, type=int, help="0 takes a free one (%(default)s)")
    parser.add_argument("--speed", default=1.0, type=positive, help="2 is twice as fast")
    parser.add_argument("--heartbeat-seconds", default=30.0, type=positive, help="(%(default)s)")
    parser.add_argument("--executions", default=1, type=int, help="how many: demo-1, demo-2, ...")
    options = parser.parse_args()
    try:
        if options.stdout:
            asyncio.run(print_run(options.speed))
        else:
            demo = Demo(options.executions, options.speed, options.heartbeat_seconds)
            asyncio.run(serve_runs(demo, options.host, options.port))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"Cannot serve: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
