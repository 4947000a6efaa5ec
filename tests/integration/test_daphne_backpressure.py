"""Our Daphne as a real process: what slow and leaving clients cost, and are told."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.daphne_application import MESSAGE_BYTES, MESSAGES
from tests.integration.daphne_process import ServerProcess, drop, stalled_flood, until

MEGABYTE = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path / "server.log")
    yield running
    running.process.kill()
    running.process.wait()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("path", "numbered"),
    [
        ("/flood", lambda number: struct.pack("!I", number) * 4096),
        ("/flood-now", lambda number: f"{number:0{MESSAGE_BYTES}d}"),
    ],
)
def test_stalled_reader_costs_bounded_memory_delays_nobody_and_gets_everything_later(
    server: ServerProcess, path: str, numbered: Callable[[int], str | bytes]
) -> None:
    server.ask()
    before = server.resident_bytes()

    with stalled_flood(server, path) as (reader, delays):
        assert server.ask()[0] < MESSAGES
        assert server.resident_bytes() - before < 32 * MEGABYTE
        assert max(delays) < 0.5
        for number in range(MESSAGES):
            assert reader.recv() == numbered(number)
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
        ends_at = time.monotonic() + 5
        raw.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < ends_at:
                raw.send(ping * (MEGABYTE // len(ping)))
        assert server.ask()[1] < 5
        assert server.resident_bytes() - before < 32 * MEGABYTE


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
