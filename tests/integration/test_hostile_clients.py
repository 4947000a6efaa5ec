"""Our Daphne as a real process against hostile clients: each has its bound, and is told.

How much they cost is measured by tests/benchmarks/hostile_clients.py.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from streaming.close_codes import CloseCode
from tests.benchmarks.attacks import BINARY, CLOSE, FIN, PING, RSV1, TEXT, frame, handshake
from tests.integration.daphne_process import ServerProcess, drop, stalled_flood
from tests.waiting import wait_until

MEGABYTE = 1024 * 1024
HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With deadlines that a test can wait for."""
    log = tmp_path_factory.mktemp("hostile") / "server.log"
    with running(log, HEAD_SECONDS=1, BODY_SECONDS=1.5, LINGER_SECONDS=0.5) as started:
        yield started
    assert "Traceback" not in started.log


@contextlib.contextmanager
def running(
    log: Path, *, open_files: int | None = None, **bounds: float
) -> Iterator[ServerProcess]:
    started = ServerProcess(log, open_files=open_files, bounds=bounds)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


@contextlib.contextmanager
def raw(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        yield client


@contextlib.contextmanager
def websocket(
    server: ServerProcess, path: str = "/unread", more: str = ""
) -> Iterator[socket.socket]:
    with raw(server) as client:
        client.sendall(handshake(path, more))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.recv(1)
        assert b" 101 " in answer
        assert b"extensions" not in answer.lower()
        yield client


def read_to_end(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def close_code(client: socket.socket) -> int:
    """Of the first close frame that comes; nothing longer than 125 bytes may come before it."""
    while True:
        first, length = receive_exactly(client, 2)
        payload = receive_exactly(client, length)
        if first == FIN | CLOSE:
            return int(struct.unpack("!H", payload[:2])[0])


def receive_exactly(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = client.recv(size - len(received))
        assert data, "the connection ended before a close frame"
        received += data
    return received


class TestRequests:
    def test_connection_that_sends_nothing_is_ended(self, server: ServerProcess) -> None:
        with raw(server) as client:
            assert read_to_end(client) == b""

    @pytest.mark.parametrize(
        ("begin", "drip"),
        [(HEAD, b"X"), (POST + b"Content-Length: 99\r\n\r\n", b"x")],
        ids=["head", "body"],
    )
    def test_request_that_drips_in_is_refused_after_a_total_time(
        self, server: ServerProcess, begin: bytes, drip: bytes
    ) -> None:
        with raw(server) as client:
            client.sendall(begin)
            client.settimeout(0.1)
            began, answer = time.monotonic(), b""
            while not answer:
                assert time.monotonic() < began + 10, "the server waits for ever"
                client.sendall(drip)
                with contextlib.suppress(TimeoutError):
                    answer = client.recv(100)
            assert answer.startswith(b"HTTP/1.1 408 ")

    def test_next_request_of_a_connection_has_the_same_deadline(
        self, server: ServerProcess
    ) -> None:
        with raw(server) as client:
            client.sendall(HEAD + b"\r\n")
            assert b" 200 " in client.recv(4096)
            client.sendall(HEAD)
            assert b"HTTP/1.1 408 " in read_to_end(client)

    @pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["", "asks first"])
    def test_body_that_says_it_is_too_large_is_refused_before_it_is_read(
        self, server: ServerProcess, expects: bytes
    ) -> None:
        with raw(server) as client:
            client.sendall(POST + expects + b"Content-Length: 104857600\r\n\r\n")
            assert read_to_end(client).startswith(b"HTTP/1.1 413 ")

    def test_chunked_body_is_refused_when_it_becomes_too_large(self, server: ServerProcess) -> None:
        before = server.resident_bytes()
        with raw(server) as client:
            client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(1600):
                    client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
            assert read_to_end(client)[:13] in (b"HTTP/1.1 413 ", b"")
        assert server.resident_bytes() - before < 16 * MEGABYTE

    def test_largest_body_is_taken(self, server: ServerProcess) -> None:
        with raw(server) as client:
            client.sendall(POST + b"Connection: close\r\nContent-Length: 2621440\r\n\r\n")
            client.sendall(bytes(2_621_440))
            assert read_to_end(client).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize(
        "header",
        [b"X: y\r\n" * 600, b"X: " + b"y" * 20_000 + b"\r\n"],
        ids=["too many", "too long"],
    )
    def test_too_many_or_too_long_headers_are_refused(
        self, server: ServerProcess, header: bytes
    ) -> None:
        with raw(server) as client:
            client.sendall(HEAD + header)
            assert read_to_end(client)[:13] in (b"HTTP/1.1 400 ", b"")

    def test_requests_whose_answers_are_not_read_do_not_pile_up(
        self, server: ServerProcess
    ) -> None:
        before = server.resident_bytes()
        with raw(server) as client:
            client.settimeout(1)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while True:
                    client.sendall((b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n") * 100)
            assert server.resident_bytes() - before < 16 * MEGABYTE

    def test_nor_do_they_when_each_is_asked_for_after_the_last_was_answered(
        self, server: ServerProcess
    ) -> None:
        before = server.resident_bytes()
        with raw(server) as client, contextlib.suppress(ConnectionError):
            for _ in range(40):
                client.sendall(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
                server.ask()
            assert server.resident_bytes() - before < 16 * MEGABYTE

    def test_pipelined_requests_are_answered_in_their_order(self, server: ServerProcess) -> None:
        with raw(server) as client:
            client.sendall((HEAD + b"\r\n") * 2 + HEAD + b"Connection: close\r\n\r\n")
            assert read_to_end(client).count(b"HTTP/1.1 200 ") == 3

    def test_websocket_that_begins_with_a_body_is_refused(self, server: ServerProcess) -> None:
        with raw(server) as client:
            client.sendall(handshake("/unread", "Content-Length: 4\r\n") + b"body")
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")


class TestFrames:
    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (frame(BINARY, bytes(9), length=100 * MEGABYTE), 1009),
            (frame(TEXT, bytes(60_000), bits=0) + frame(0, bytes(60_000), bits=0), 1009),
            (frame(TEXT, bits=0) + frame(0, bits=0) * 2_000, 1009),
            (frame(BINARY, b"\x00", bits=FIN | RSV1), 1002),
            (frame(TEXT, b"\xff"), 1007),
            (frame(TEXT, b"\xe2\x82"), 1007),
            (frame(3), 1002),
            (frame(0, b"continued"), 1002),
            (frame(PING, bytes(126)), 1002),
            (frame(PING, b"x", bits=0), 1002),
            (b"\x81\x01x", 1002),
            (frame(CLOSE), 1000),
            (frame(CLOSE, b"\x0f\xa0any"), 1000),
        ],
        ids=[
            "frame of 100 MB",
            "message that grows by fragments",
            "fragments without bytes",
            "compressed",
            "text that is not UTF-8",
            "text that ends within a character",
            "unknown opcode",
            "continuation of nothing",
            "ping of 126 bytes",
            "fragmented ping",
            "unmasked",
            "close without a code",
            "close with a code and a reason",
        ],
    )
    def test_what_is_not_allowed_is_closed_with_its_code(
        self, server: ServerProcess, sent: bytes, code: int
    ) -> None:
        with websocket(server, more="Sec-WebSocket-Extensions: permessage-deflate\r\n") as client:
            client.sendall(sent)
            assert close_code(client) == code

    @pytest.mark.parametrize(
        "payload", [b"\x03\xe7", b"\x03", b"\x03\xe8\xff", b"\x03\xee"], ids=repr
    )
    def test_nonsense_in_a_close_ends_the_connection(
        self, server: ServerProcess, payload: bytes
    ) -> None:
        with websocket(server) as client:
            client.sendall(frame(CLOSE, payload))
            assert len(read_to_end(client)) < 200

    def test_client_that_speaks_before_it_is_answered_is_cut_off(
        self, server: ServerProcess
    ) -> None:
        with raw(server) as client:
            client.sendall(handshake("/never"))
            wait_until(lambda: "never answers" in server.log)
            client.sendall(b"x")
            assert read_to_end(client) == b""

    def test_flood_of_pings_is_read_slowly_and_delays_nobody(self, server: ServerProcess) -> None:
        with websocket(server) as client:
            client.settimeout(1)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 64 * MEGABYTE:
                    sent += client.send(frame(PING, b"x") * 10_000)
            assert sent < 32 * MEGABYTE
            assert server.ask()[1] < 1


class TestSlowReaders:
    def test_reader_that_takes_nothing_is_closed_with_4408_and_forgotten(
        self, tmp_path: Path
    ) -> None:
        log = tmp_path / "stall.log"
        with (
            running(log, STALL_SECONDS=1, STALLED_CLOSE_SECONDS=1) as server,
            stalled_flood(server),
        ):
            wait_until(lambda: "flood ended" in server.log)

    def test_reader_that_reads_on_in_time_is_told_4408(self, tmp_path: Path) -> None:
        # A flood counts as stalled when nothing was sent for half a second.
        with (
            running(tmp_path / "stall.log", STALL_SECONDS=0.3) as server,
            stalled_flood(server) as (reader, _),
        ):
            closed: ConnectionClosed | None = None
            while closed is None:
                try:
                    reader.recv(timeout=20)
                except ConnectionClosed as end:
                    closed = end
            assert closed.rcvd is not None
            assert (closed.rcvd.code, closed.rcvd.reason) == (4408, CloseCode.TOO_SLOW.meaning)

    def test_answer_in_pieces_that_is_not_read_waits_and_is_cut_off(self, tmp_path: Path) -> None:
        with running(tmp_path / "stall.log", STALL_SECONDS=1) as server:
            server.ask()
            before = server.peak_bytes()
            with raw(server) as client:
                client.sendall(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n")
                wait_until(lambda: "pieces ended" in server.log)
                assert server.peak_bytes() - before < 16 * MEGABYTE


class TestConnections:
    def test_full_server_serves_who_asks_and_drops_who_has_longest_asked_for_nothing(
        self, tmp_path: Path
    ) -> None:
        with (
            running(tmp_path / "full.log", open_files=200) as server,
            contextlib.ExitStack() as held,
        ):
            idle = [held.enter_context(raw(server)) for _ in range(400)]
            assert server.ask()[1] < 5
            assert read_to_end(idle[0]) == b""
            assert server.open_files() < 200

    def test_full_server_of_websockets_lets_others_wait_until_one_has_ended(
        self, tmp_path: Path
    ) -> None:
        with (
            running(tmp_path / "full.log", open_files=200) as server,
            contextlib.ExitStack() as held,
        ):
            sockets = [held.enter_context(websocket(server)) for _ in range(100)]
            with raw(server) as waiting:
                waiting.sendall(HEAD + b"\r\n")
                waiting.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    waiting.recv(100)
                cpu_seconds = server.cpu_seconds()
                with pytest.raises(TimeoutError):
                    waiting.recv(100)
                assert server.cpu_seconds() - cpu_seconds < 0.15, "it accepts in a busy loop"
                sockets[0].shutdown(socket.SHUT_RDWR)
                waiting.settimeout(20)
                assert b" 200 " in waiting.recv(4096)

    def test_connections_reset_or_half_closed_leave_nothing_behind(
        self, server: ServerProcess
    ) -> None:
        server.ask()
        before = server.open_files()
        for number in range(60):
            with raw(server) as client:
                client.sendall(handshake("/unread")[: (None, 40, 0)[number % 3]])
                if number % 2:
                    client.shutdown(socket.SHUT_WR)
                    assert read_to_end(client) is not None
                else:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        wait_until(lambda: server.open_files() <= before)

    def test_dropped_websocket_is_noticed(self, server: ServerProcess) -> None:
        with server.connect("/echo") as client:
            drop(client)
        wait_until(lambda: "echo told of disconnect" in server.log)
