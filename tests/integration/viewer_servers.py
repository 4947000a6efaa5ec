"""Servers for the viewer to connect to: the reference server, and ones that play a script."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.specs_scripts import DEMO

PATH: Final = "/api/v1/ws/executions/"
DEADLINE_SECONDS: Final = 40

Json = dict[str, Any]
Script = Callable[[ServerConnection, int], Awaitable[None]]


def within_deadline(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work, DEADLINE_SECONDS)

    return asyncio.run(bounded())


@contextmanager
def demo(*options: str) -> Iterator[str]:
    """A reference server on a free port; gives demo-1's address, and ends on Ctrl-C, silently."""
    command = [sys.executable, str(DEMO), "--port", "0", *options]
    pipe = subprocess.PIPE
    # A shell's background job ignores SIGINT, and so do its children unless told otherwise.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed) as process:
        try:
            assert process.stdout is not None
            yield next(line for line in process.stdout if PATH in line).split()[-1]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE_SECONDS)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def event(kind: str, sequence: int, **content: Any) -> str:
    event_id = f"{1000 + sequence}-{sequence}"
    return json.dumps({"type": kind, "execution_id": "x", "event_id": event_id, **content})


def stream(*sequences: int, last: Json | None = None) -> list[str]:
    """Events of an execution: 0 is its snapshot, 3 the final one; each patch counts one up."""
    made = {
        0: event("initial_snapshot", 0, execution={"status": "running", "count": 0}),
        3: event("final_snapshot", 3, execution=last or {"status": "running", "count": 2}),
    }
    for number in (1, 2):
        ops = [{"op": "replace", "path": "/count", "value": number}]
        made[number] = event("activity_patch", number, ops=ops)
    return [made[sequence] for sequence in sequences]


@asynccontextmanager
async def served(
    script: Script, status: Callable[[int], HTTPStatus | None] = lambda _: None
) -> AsyncIterator[str]:
    """A server that plays `script`, given the number of the connection; or answers by HTTP."""
    handshakes = 0
    connections = 0

    async def handshake(connection: ServerConnection, _: Request) -> Response | None:
        nonlocal handshakes
        handshakes += 1
        refusal = status(handshakes)
        return connection.respond(refusal, "") if refusal else None

    async def play(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await script(socket, connections)

    async with serve(play, "127.0.0.1", 0, process_request=handshake) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}{PATH}x"


def sending(*messages: str, code: int = 1000) -> Script:
    async def script(socket: ServerConnection, _: int) -> None:
        for message in messages:
            await socket.send(message)
        await socket.close(code)

    return script
