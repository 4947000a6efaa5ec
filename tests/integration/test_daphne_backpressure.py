"""Our Daphne as a real process: what slow, hostile and leaving clients cost, and are told.

The ASGI application the server runs is in this file, too: `application`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

MESSAGE_BYTES = 16 * 1024
MESSAGES = 200 * 1024 * 1024 // MESSAGE_BYTES
MEGABYTE = 1024 * 1024
APPLICATION = "tests.integration.test_daphne_backpressure:application"
LONG_REASON = "é" * 100

Message = dict[str, Any]
sent = 0


async def application(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """What the server under test serves."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(sent).encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    match scope["path"]:
        case "/flood":
            await flood(send)
        case "/close":
            await send({"type": "websocket.close", "code": 1011, "reason": LONG_REASON})
        case "/unread":
            await asyncio.Event().wait()
        case "/echo":
            await echo(receive, send)


async def flood(send: Callable[[Message], Awaitable[None]]) -> None:
    global sent
    for number in range(MESSAGES):
        await send({"type": "websocket.send", "bytes": struct.pack("!I", number) * 4096})
        sent = number + 1
    await send({"type": "websocket.close", "code": 4408, "reason": "all sent"})


async def echo(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"] * 2})
    sys.stderr.write(f"echo told of disconnect {message['code']}\n")


class ServerProcess:
    """A running server; `log` is what it has written."""

    def __init__(self, log_path: Path, arguments: tuple[str, ...] = ()) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nexus_project.daphne_server",
                    "-p",
                    "0",
                    *arguments,
                    APPLICATION,
                ],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        until(lambda: "Listening on" in self.log or self.process.poll() is not None)
        listening = re.search(r"Listening on TCP address 127\.0\.0\.1:(\d+)", self.log)
        assert listening, self.log
        self.port = int(listening[1])

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def connect(self, path: str) -> ClientConnection:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            max_size=None,
            max_queue=1,
            ping_interval=None,
            compression=None,
        )

    def ask(self) -> tuple[int, float]:
        """How many messages `/flood` has sent, and how many seconds the answer took."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        started = time.monotonic()
        connection.request("GET", "/")
        answer = int(connection.getresponse().read())
        connection.close()
        return answer, time.monotonic() - started


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path / "server.log")
    yield running
    running.process.kill()
    running.process.wait()


@contextlib.contextmanager
def stalled_flood(server: ServerProcess) -> Iterator[tuple[ClientConnection, list[float]]]:
    """A client that reads nothing of `/flood`, once the server has stopped sending to it.

    Beside it, the seconds that each unrelated request took meanwhile.
    """
    with server.connect("/flood") as reader:
        delays: list[float] = []
        unchanged_since, last = time.monotonic(), -1
        deadline = unchanged_since + 20
        while time.monotonic() - unchanged_since < 0.5 or last <= 0:
            assert time.monotonic() < deadline, "the server does not stop at a stalled reader"
            count, delay = server.ask()
            delays.append(delay)
            if count != last:
                unchanged_since, last = time.monotonic(), count
        yield reader, delays
        drop(reader)


def drop(client: ClientConnection) -> None:
    """End a client's TCP connection without a word."""
    with contextlib.suppress(OSError):
        client.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(240)
def test_stalled_reader_costs_bounded_memory_delays_nobody_and_gets_everything_later(
    server: ServerProcess,
) -> None:
    server.ask()
    before = server.resident_bytes()

    with stalled_flood(server) as (reader, delays):
        assert server.ask()[0] < MESSAGES
        assert server.resident_bytes() - before < 32 * MEGABYTE
        assert max(delays) < 0.5
        for number in range(MESSAGES):
            assert reader.recv() == struct.pack("!I", number) * 4096
        with pytest.raises(ConnectionClosed) as closed:
            reader.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4408, "all sent")
    assert server.resident_bytes() - before < 32 * MEGABYTE


def test_connection_lost_while_waiting_releases_the_application(server: ServerProcess) -> None:
    with stalled_flood(server) as (reader, _):
        assert server.ask()[0] < MESSAGES
        drop(reader)
        until(lambda: server.ask()[0] == MESSAGES)


def test_close_carries_code_1011_and_a_reason_cut_at_123_bytes(server: ServerProcess) -> None:
    with server.connect("/close") as client, pytest.raises(ConnectionClosed) as closed:
        client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "é" * 61)


def test_client_message_over_64_kib_is_closed_with_1009_and_ours_may_be_larger(
    server: ServerProcess,
) -> None:
    with server.connect("/echo") as client:
        client.send("x" * 65536)
        assert client.recv() == "x" * 131072
        client.send("x" * 65537)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_client_whose_messages_are_not_read_is_closed_with_4400(server: ServerProcess) -> None:
    with server.connect("/unread") as client:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1000):
                client.send("x" * 1000)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


def test_pings_whose_answers_are_not_collected_cost_bounded_memory(server: ServerProcess) -> None:
    server.ask()
    before = server.resident_bytes()
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        key = base64.b64encode(os.urandom(16)).decode()
        raw.sendall(
            b"GET /unread HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert b" 101 " in raw.recv(4096)
        for _ in range(60):
            raw.sendall(ping * (MEGABYTE // len(ping)))
        assert server.ask()[1] < 5
        assert server.resident_bytes() - before < 32 * MEGABYTE
        raw.sendall(b"\x89\x84" + bytes(4) + b"last")
        received = b""
        while not received.endswith(b"\x8a\x04last"):
            received = received[-16:] + raw.recv(MEGABYTE)


def test_sigterm_closes_clients_with_1001_and_tells_the_application(server: ServerProcess) -> None:
    with server.connect("/echo") as first, server.connect("/echo") as second:
        first.send("a")
        assert first.recv() == "aa"
        server.process.send_signal(signal.SIGTERM)
        for client in (first, second):
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                1001,
                "the server is stopping",
            )
        assert server.process.wait(timeout=10) == 0
    assert server.log.count("echo told of disconnect 1001") == 2
    assert "Traceback" not in server.log


def test_sigterm_ends_the_process_in_seconds_though_a_reader_stalls_and_an_application_hangs(
    server: ServerProcess,
) -> None:
    with stalled_flood(server), server.connect("/unread") as hanging:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=6) == 0
        drop(hanging)
    assert "Traceback" not in server.log


def test_configured_age_limit_closes_with_1001_which_means_come_back(tmp_path: Path) -> None:
    aged = ServerProcess(tmp_path / "aged.log", ("--websocket_timeout", "1"))
    try:
        with aged.connect("/echo") as client, pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    finally:
        aged.process.kill()
        aged.process.wait()
