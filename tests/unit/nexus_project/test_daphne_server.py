"""Our Daphne's defaults; what it does to real sockets is tested in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_project.daphne_server import CommandLineInterface, Server


def make_server(**options: Any) -> Server:
    return Server(application=None, endpoints=["tcp:0"], **options)


def test_server_by_itself_closes_nothing_for_its_age_and_takes_64_kib_from_clients() -> None:
    server = make_server()
    assert server.websocket_timeout == -1
    assert server.websocket_max_message_size == 65536
    assert server.websocket_max_frame_size == 65536


def test_connection_reaped_before_its_transport_is_lost_is_no_error() -> None:
    server = make_server()
    server.connections = {}
    server.protocol_disconnected(object())


def test_command_line_has_daphnes_flags_with_our_defaults() -> None:
    parser = CommandLineInterface().parser
    defaults = parser.parse_args(["some:application"])
    assert defaults.websocket_timeout == -1
    assert defaults.websocket_max_message_size == 65536
    given_flags = parser.parse_args(["-b", "::1", "-p", "9", "--ping-interval", "7", "a:b"])
    assert (given_flags.host, given_flags.port, given_flags.ping_interval) == ("::1", 9, 7)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("tcp:port=9:interface=127.0.0.1", "tcp:port=9:interface=127.0.0.1:backlog=1024"),
        ("tcp:port=9:backlog=7", "tcp:port=9:backlog=7"),
        ("unix:/tmp/a.sock", "unix:/tmp/a.sock"),
    ],
)
def test_tcp_endpoints_let_a_herd_wait(given: str, made: str) -> None:
    assert Server(application=None, endpoints=[given]).endpoints == [made]
