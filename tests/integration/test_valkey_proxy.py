"""The proxy in front of Valkey: forwards word for word, and cuts, delays and halves when told."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prove.proxy import ValkeyProxy
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

DEADLINE_SECONDS = 10.0


@pytest.fixture
def proxy(tmp_path: Path, lonely_valkey: ValkeyServer) -> Iterator[ValkeyProxy]:
    proxy = ValkeyProxy(tmp_path / "proxy.sock", lonely_valkey.socket)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def client(proxy: ValkeyProxy, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.connect(str(tmp_path / "proxy.sock"))
        yield client


def ask(client: socket.socket, command: bytes) -> bytes:
    client.sendall(command + b"\r\n")
    return client.recv(1000)


def is_ended(client: socket.socket) -> bool:
    try:
        return client.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_commands_and_replies_pass_as_they_are(client: socket.socket) -> None:
    assert ask(client, b"ECHO hello") == b"$5\r\nhello\r\n"
    assert ask(client, b"PING") == b"+PONG\r\n"


def test_cut_connection_ends_without_an_answer(client: socket.socket, proxy: ValkeyProxy) -> None:
    ask(client, b"PING")
    assert proxy.connections == 1
    proxy.cut()
    assert is_ended(client)
    wait_until(lambda: proxy.connections == 0)


def test_delayed_reply_comes_late_and_whole(client: socket.socket, proxy: ValkeyProxy) -> None:
    proxy.delay(0.2)
    began = time.monotonic()
    assert ask(client, b"PING") == b"+PONG\r\n"
    assert time.monotonic() - began >= 0.2
    proxy.delay(0.0)
    assert ask(client, b"PING") == b"+PONG\r\n"


def test_halved_reply_ends_in_its_middle_and_later_ones_pass(
    client: socket.socket, proxy: ValkeyProxy, tmp_path: Path
) -> None:
    proxy.halve(1, 0.0)
    assert ask(client, b"ECHO hello") == b"$5\r\nh"
    assert is_ended(client)
    assert proxy.replies_to_halve == 0
    with socket.socket(socket.AF_UNIX) as another:
        another.settimeout(DEADLINE_SECONDS)
        another.connect(str(tmp_path / "proxy.sock"))
        assert ask(another, b"ECHO hello") == b"$5\r\nhello\r\n"


def test_connection_ends_where_the_server_is_away(tmp_path: Path) -> None:
    proxy = ValkeyProxy(tmp_path / "proxy.sock", tmp_path / "nothing.sock")
    proxy.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.connect(str(tmp_path / "proxy.sock"))
        assert is_ended(client)
    proxy.stop()
