"""The clients of one process of a proving run: `python -m tests.prove.clients RUN_FILE PROCESS`.

Each keeps its cursor and reconnects as the protocol says (sections 7 and 8), and lives by its
habit; all they receive is recorded word for word. Prints its status as a JSON line every
half second. A line on its standard input says that nothing is written any more; when it is closed
the process ends, with everything recorded.
"""

import asyncio
import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.prove.plan import Life, Plan, PlannedClient
from tests.prove.recorder import ConnectionRecorder
from tests.prove.records import Connection, Habit, Reading
from tests.prove.run_file import RunFile, read_run_file, wait_to_begin
from tests.servers.caddy import WEB_HEADER

STATUS_SECONDS: Final = 0.5
OPEN_SECONDS: Final = 20.0
SEGMENT_BYTES: Final = 1400
SMALL_BUFFER_BYTES: Final = 16 * 1024
"""Of the socket of a client that is going not to read: what it leaves is to be felt soon."""

READERS: Final = 2
READING_PAUSE_SECONDS: Final = (0.1, 0.7)
READING_TIMEOUT_SECONDS: Final = 25.0
RETURNING_SECONDS: Final = (0.5, 3.0)
SEEN_EVERY: Final = 5
LONGEST_BACKOFF_SECONDS: Final = 30.0

_STOPPING_CODES: Final = (4400, 4401, 4404)


class Ending(Enum):
    """How a connection ended, for its client."""

    DONE = auto()
    LOST = auto()
    STOPPED = auto()
    LEFT = auto()


class _Envelope(msgspec.Struct):
    """What a client needs of a message to keep its cursor."""

    type: str
    event_id: str | None = None
    resync: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


@dataclass
class World:
    """What the clients of a process share."""

    run: RunFile
    plan: Plan
    recorder: ConnectionRecorder
    began_at: float
    seen: dict[str, list[str]]
    """By execution_id, some of its event_ids, in order."""
    opened: int = 0
    is_settled: bool = False
    """Whether nothing is written any more, and no fault is at work."""

    @property
    def moment(self) -> float:
        """Seconds since the traffic's beginning."""
        return time.monotonic() - self.began_at

    @property
    def is_quiet(self) -> bool:
        """Whether the traffic is over: from then on every client stays."""
        return self.moment >= self.plan.seconds

    def see(self, execution_id: str, event_id: str) -> None:
        """Remember some event_ids, as others' or old cursors."""
        sequence = _sequence(event_id)
        seen = self.seen.setdefault(execution_id, [])
        if sequence % SEEN_EVERY == 0 and (not seen or _sequence(seen[-1]) < sequence):
            seen.append(event_id)

    def door(self, random: Random) -> tuple[int, str]:
        """A port to ask at, and the web process there; empty where a proxy chooses it."""
        web = random.randrange(len(self.run.webs))
        return (
            (self.run.webs[web], f"web-{web}") if self.run.proxy is None else (self.run.proxy, "")
        )

    def web_behind(self, connection: ClientConnection) -> str:
        """The web process that the proxy chose."""
        assert connection.response is not None
        port = connection.response.headers[WEB_HEADER].rpartition(":")[2]
        return f"web-{self.run.webs.index(int(port))}"

    def headers(self, caller: str) -> dict[str, str]:
        cookie = self.run.cookies.get(caller)
        return {} if cookie is None else {"Cookie": f"sessionid={cookie}"}


class Client:
    """One client of the plan, watching one execution after another."""

    def __init__(self, world: World, planned: PlannedClient) -> None:
        self._world = world
        self._planned = planned
        self._slot = world.plan.slots[planned.slot]
        self._random = Random(f"{world.plan.seed}:client:{planned.name}")
        self._cursor: str | None = None
        self._something_came = False
        self._left = False
        self._may_read = asyncio.Event()
        self._watched: Life | None = None
        self._finished: set[str] = set()
        self._is_refused = False
        self._heard_caught_up = False

    @property
    def is_settled(self) -> bool:
        """Whether it is caught up in the quiet, or will never be."""
        return (
            self._heard_caught_up
            or self._is_refused
            or self._planned.habit is Habit.NEVER_READS
            or self._slot.lives[-1].execution_id in self._finished
        )

    async def live(self) -> None:
        """Watch until cancelled."""
        await asyncio.sleep(max(0.0, self._planned.arrives_at - self._world.moment))
        while True:
            life = self._slot.life_at(self._world.moment)
            if life.execution_id in self._finished and (
                self._world.is_quiet or self._random.random() < 0.8
            ):
                # While there is traffic, one that has ended is sometimes watched once more.
                await asyncio.sleep(self._random.uniform(*RETURNING_SECONDS))
                continue
            await self._watch(life)

    async def _watch(self, life: Life) -> None:
        """Watch one execution until there is no more of it, or the client has had enough."""
        execution_id = life.execution_id
        self._cursor = None
        attempts = 0
        while True:
            self._something_came = False
            ending = await self._visit(execution_id, self._replay(execution_id))
            match ending:
                case Ending.DONE:
                    self._finished.add(execution_id)
                    return
                case Ending.STOPPED:
                    self._is_refused = True
                    await asyncio.sleep(self._random.uniform(*RETURNING_SECONDS))
                    return
                case Ending.LEFT:
                    attempts = 0
                    await self._stay_away()
                    if self._planned.habit in (Habit.OLD_CURSOR, Habit.FOREIGN_CURSOR):
                        return
                case Ending.LOST:
                    attempts = 1 if self._something_came else attempts + 1
                    longest = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2 ** (attempts - 1))
                    await asyncio.sleep(self._random.uniform(0, longest))

    def _replay(self, execution_id: str) -> str | None:
        seen = self._world.seen
        if self._cursor is not None:
            return self._cursor
        if self._planned.habit is Habit.OLD_CURSOR and seen.get(execution_id):
            return self._random.choice(seen[execution_id])
        others = [ids for name, ids in seen.items() if name != execution_id and ids]
        if self._planned.habit is Habit.FOREIGN_CURSOR and others:
            return self._random.choice(self._random.choice(others))
        return self._random.choice([None, "0"])

    async def _stay_away(self) -> None:
        if self._planned.habit is not Habit.HERD and not self._world.is_quiet:
            await asyncio.sleep(self._random.uniform(0, 4))

    async def _visit(self, execution_id: str, replay: str | None) -> Ending:
        """One connection, from its request to its end."""
        world, planned = self._world, self._planned
        port, web = world.door(self._random)
        number = world.recorder.asked(
            Connection(
                client=planned.name,
                caller=planned.caller,
                habit=planned.habit,
                web=web,
                execution_id=execution_id,
                replay=replay,
                asked_at=time.monotonic(),
            )
        )
        self._left = False
        if replay != "0":
            self._cursor = replay
        code, reason = None, ""
        is_open = False
        try:
            connection = await self._connect(port, execution_id, replay)
            is_open = True
            world.opened += 1
            world.recorder.opened(number, time.monotonic(), web or world.web_behind(connection))
            try:
                await self._stay(connection, number, execution_id)
            finally:
                connection.transport.abort()
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, reason = closed.rcvd.code, closed.rcvd.reason
        except InvalidStatus as refused:
            reason = f"HTTP {refused.response.status_code}"
        except (OSError, TimeoutError, InvalidHandshake) as error:
            reason = f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            self._left = True
            raise
        finally:
            world.opened -= is_open
            if self._left:
                code, reason = None, ""
            world.recorder.ended(number, time.monotonic(), code, reason, left_by_client=self._left)
        if self._left:
            return Ending.LEFT
        if code == 1000:
            return Ending.DONE
        return Ending.STOPPED if code in _STOPPING_CODES else Ending.LOST

    async def _connect(self, port: int, execution_id: str, replay: str | None) -> ClientConnection:
        query = "" if replay is None else f"?replay={replay}"
        sock = None
        if self._planned.habit in (Habit.STALLS, Habit.NEVER_READS):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            # The loopback's own segments are larger than the buffer, so that its emptying is
            # told only when the other side asks, seconds later.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            except BaseException:
                sock.close()
                raise
        return await connect(
            f"ws://127.0.0.1:{port}/api/v1/ws/executions/{execution_id}{query}",
            additional_headers=self._world.headers(self._planned.caller),
            compression=None,
            max_size=None,
            open_timeout=OPEN_SECONDS,
            ping_interval=None,
            proxy=None,
            sock=sock,
        )

    async def _stay(self, connection: ClientConnection, number: int, execution_id: str) -> None:
        """Read until the connection ends, or the client leaves by its habit."""
        self._may_read.set()
        if self._planned.habit is Habit.NEVER_READS:
            await self._endure(connection, number)
            return
        conduct = asyncio.create_task(self._conduct(connection))
        try:
            while True:
                if not self._may_read.is_set():
                    await self._pause(connection, number)
                text = await connection.recv()
                assert isinstance(text, str)
                self._world.recorder.frame(number, time.monotonic(), text)
                if not self._take(text, execution_id):
                    self._left = True
                    return
        finally:
            conduct.cancel()

    def _take(self, text: str, execution_id: str) -> bool:
        """Move the cursor as the message says; False at a gap."""
        self._something_came = True
        self._is_refused = False
        try:
            message = _decode(text)
        except (msgspec.DecodeError, UnicodeError):
            return True  # what it was is judged from the records
        if message.event_id is None:
            return True
        if message.type == "heartbeat":
            if self._world.is_settled and message.event_id == self._cursor:
                self._heard_caught_up = True
            return self._cursor is None or _sequence(message.event_id) <= _sequence(self._cursor)
        if message.type == "initial_snapshot" and (self._cursor is None or message.resync):
            self._cursor = message.event_id
        elif self._cursor is not None:
            ahead = _sequence(message.event_id) - _sequence(self._cursor)
            if ahead > 1:
                return False
            if ahead == 1:
                self._cursor = message.event_id
        self._world.see(execution_id, message.event_id)
        return True

    async def _pause(self, connection: ClientConnection, number: int) -> None:
        began = time.monotonic()
        connection.transport.pause_reading()
        try:
            await self._may_read.wait()
        finally:
            self._world.recorder.not_reading(number, began, time.monotonic())
            connection.transport.resume_reading()

    async def _endure(self, connection: ClientConnection, number: int) -> None:
        began = time.monotonic()
        connection.transport.pause_reading()
        try:
            await asyncio.sleep(self._random.uniform(20, 90))
        finally:
            self._left = True
            self._world.recorder.not_reading(number, began, time.monotonic())

    async def _conduct(self, connection: ClientConnection) -> None:
        """What the habit does to the connection while it is read."""
        match self._planned.habit:
            case Habit.VANISHES:
                await self._leave_after(connection, self._random.uniform(1, 12))
            case Habit.OLD_CURSOR | Habit.FOREIGN_CURSOR:
                await self._leave_after(connection, self._random.uniform(1, 6))
            case Habit.HERD:
                moment = self._world.moment
                for herd_at in self._world.plan.herds_at:
                    if herd_at > moment:
                        await self._leave_after(connection, herd_at - moment)
            case Habit.STALLS:
                await self._stall()

    async def _leave_after(self, connection: ClientConnection, seconds: float) -> None:
        if self._world.moment + seconds >= self._world.plan.seconds:
            return
        await asyncio.sleep(seconds)
        self._left = True
        if self._random.random() < 0.5:
            connection.transport.abort()
        else:
            await connection.close()

    async def _stall(self) -> None:
        while not self._world.is_quiet:
            await asyncio.sleep(self._random.uniform(1, 6))
            self._may_read.clear()
            left = self._world.plan.seconds - self._world.moment
            await asyncio.sleep(max(0.0, min(left, self._random.uniform(1, 20))))
            self._may_read.set()


class RestReader:
    """Reads documents over REST at a steady pace."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._random = Random(f"{world.plan.seed}:reader:{number}")

    async def live(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*READING_PAUSE_SECONDS))
            caller = self._random.choice(self._world.plan.callers)
            slot = self._random.choice(self._world.plan.slots)
            moment = self._world.moment
            life = self._random.choice([slot.life_at(moment)] * 2 + slot.ended_at(moment)[-1:])
            port, _ = self._world.door(self._random)
            reading = await asyncio.to_thread(self._read, caller, life.execution_id, port)
            if reading is not None:
                self._world.recorder.add(reading)

    def _read(self, caller: str, execution_id: str, port: int) -> Reading | None:
        """The answer; None where there was none."""
        asked_at = time.monotonic()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/executions/{execution_id}?include=activities",
            headers=self._world.headers(caller),
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=READING_TIMEOUT_SECONDS) as answer:
                body, status = answer.read(), answer.status
                event_id = answer.headers["Nexus-Event-Id"]
        except urllib.error.HTTPError as refused:
            try:
                body, status = refused.read(), refused.code
            except OSError:
                return None
            event_id = refused.headers["Nexus-Event-Id"]
        except (OSError, ValueError):
            return None
        is_document = status == 200
        return Reading(
            at=time.monotonic(),
            caller=caller,
            execution_id=execution_id,
            status=status,
            event_id=event_id,
            document=json.loads(body) if is_document else None,
            asked_at=asked_at,
            text="" if is_document else body.decode(errors="replace"),
        )


def _sequence(event_id: str) -> int:
    return int(event_id.rpartition("-")[2])


async def _tell_status(world: World, clients: list[Client]) -> None:
    while True:
        await asyncio.sleep(STATUS_SECONDS)
        settled = sum(client.is_settled for client in clients)
        status = {
            "open": world.opened,
            "connections": world.recorder.connections,
            "settled": settled if world.is_settled else 0,
            "clients": len(clients),
        }
        print(json.dumps(status), flush=True)  # noqa: T201


async def _follow_input(world: World) -> None:
    """A line says that the run has settled, the end that it is over."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        world.is_settled = True


def _failures(tasks: list["asyncio.Task[None]"]) -> Iterator[BaseException]:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            yield error


async def _live(run_file: Path, process: str) -> None:
    run, plan = read_run_file(run_file)
    name = f"clients-{process}"
    recorder = ConnectionRecorder(run.records / f"{name}.jsonl")
    world = World(run, plan, recorder, wait_to_begin(run_file, name), {})
    clients = [
        Client(world, planned) for planned in plan.clients if planned.process == int(process)
    ]
    tasks = [asyncio.create_task(client.live()) for client in clients]
    tasks += [
        asyncio.create_task(RestReader(world, READERS * int(process) + number).live())
        for number in range(READERS)
    ]
    tasks.append(asyncio.create_task(_tell_status(world, clients)))
    await _follow_input(world)
    failures = list(_failures(tasks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    recorder.close()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    asyncio.run(_live(Path(sys.argv[1]), sys.argv[2]))
