"""A web process that stops: who is connected leaves in peace, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from executions.recording import NewActivity, changing, create_execution
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.integration.daphne_process import ServerProcess
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.waiting import wait_until

HELD = b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """It tells 30 clients a second to leave, where there is more time than that."""
    running = ServerProcess(tmp_path / "server.log", bounds={"CLOSES_PER_SECOND": 30})
    yield running
    running.process.kill()
    running.process.wait()


@contextlib.contextmanager
def raw(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        yield client


def stop(server: ServerProcess) -> None:
    """Send SIGTERM, and wait until no more connections are accepted."""
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not accepts(server))


def accepts(server: ServerProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except ConnectionError:
        return False
    return True


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def test_clients_leave_few_at_a_time(server: ServerProcess) -> None:
    left_at: list[float] = []

    async def client() -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/echo", compression=None) as opened:
            await opened.send("a")
            await opened.recv()
            all_are_here.release()
            with pytest.raises(ConnectionClosed) as closed:
                await opened.recv()
            left_at.append(time.monotonic())
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001

    async def clients() -> None:
        running = [asyncio.create_task(client()) for _ in range(45)]
        for _ in running:
            await all_are_here.acquire()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*running)

    all_are_here = asyncio.Semaphore(0)
    asyncio.run(clients())
    assert 1 < left_at[-1] - left_at[0] < 4
    assert max(b - a for a, b in itertools.pairwise(left_at)) < 0.5, "they leave all at once"
    assert server.process.wait(10) == 0


def test_request_under_way_is_answered_after_the_viewers_have_left(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server.log", bounds={"LEAVE_SECONDS": 0})
    with raw(server) as client, server.connect("/echo") as viewer:
        client.sendall(HELD)
        wait_until(lambda: "held" in server.log)
        stop(server)
        with pytest.raises(ConnectionClosed):
            viewer.recv(timeout=20)
        assert read_to_end(client).endswith(b"held\r\n0\r\n\r\n")
    assert server.process.wait(10) == 0
    assert "Traceback" not in server.log


def test_request_half_sent_is_answered_and_its_connection_closed(server: ServerProcess) -> None:
    with raw(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n")
        assert server.ask()
        stop(server)
        client.sendall(b"\r\n")
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer
    assert server.process.wait(10) == 0


def test_idle_connections_delay_nothing(server: ServerProcess) -> None:
    with raw(server) as fresh, raw(server) as kept_alive:
        kept_alive.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b" 200 " in kept_alive.recv(4096)
        server.process.send_signal(signal.SIGTERM)
        assert read_to_end(fresh) == b""
        assert server.process.wait(2.5) == 0


def test_second_signal_ends_at_once(server: ServerProcess) -> None:
    with raw(server) as client:
        client.sendall(HELD)
        wait_until(lambda: "held" in server.log)
        stop(server)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(2) == -signal.SIGTERM


class Follower:
    """A viewer that comes back with its cursor, to another server when one says it goes away."""

    def __init__(self, servers: list[WebServer], execution_id: str) -> None:
        self.event_ids: list[str] = []
        self.types: set[str] = set()
        self.close_codes: list[int] = []
        self._servers = servers
        self._execution_id = execution_id

    async def follow(self) -> None:
        for server in itertools.cycle(self._servers):
            cursor = self.event_ids[-1] if self.event_ids else "0"
            async with connect(
                server.stream(self._execution_id, cursor), compression=None
            ) as opened:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        message = json.loads(await opened.recv())
                        self.types.add(message["type"])
                        if message["type"] != "heartbeat":
                            self.event_ids.append(message["event_id"])
                assert opened.close_code is not None
                self.close_codes.append(opened.close_code)
            if self.close_codes[-1] == 1000:
                return


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_viewers_go_on_at_another_process_and_miss_nothing(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    step = NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
    execution_id = create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=[step]
    ).execution_id
    environment = session_environment(NEXUS_OPEN_READING="1")
    with (
        web_running(tmp_path / "first.log", environment) as first,
        web_running(tmp_path / "second.log", environment) as second,
    ):
        followers = [Follower([first, second], execution_id) for _ in range(30)]

        async def follow_all() -> None:
            await asyncio.gather(*(each.follow() for each in followers))

        following = threading.Thread(target=lambda: asyncio.run(follow_all()))
        following.start()
        changes = 0

        def change() -> bool:
            nonlocal changes
            changes += 1
            with changing(execution_id) as changed:
                changed.activity("step").progress = changes % 1000 / 1000
            return all(len(each.event_ids) > 5 for each in followers)

        wait_until(change)
        first.process.send_signal(signal.SIGTERM)
        wait_until(lambda: change() and all(each.close_codes for each in followers))
        for _ in range(20):
            change()
        with changing(execution_id) as changed:
            changed.execution.status = ExecutionStatus.COMPLETED
        following.join(20)
        assert first.process.wait(20) == 0
    expected = list(range(changes + 3))
    for follower in followers:
        assert [int(each.partition("-")[2]) for each in follower.event_ids] == expected
        assert follower.close_codes == [1001, 1000]
