"""How many connections are taken, and who makes room."""

from __future__ import annotations

import resource

import pytest

from nexus_project.web.entrance import ACCEPTS_AT_ONCE, Entrance, connection_limit


class Socket:
    def setsockopt(self, *arguments: int) -> None:
        """As of a listening socket."""


class PlainTransport:
    """What a port makes its connections of."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def writeSomeData(self, data: bytes) -> int | BaseException:  # noqa: N802
        return len(data) if data else ConnectionResetError()

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        """Twisted may call it twice."""


class Port:
    def __init__(self) -> None:
        self.transport = PlainTransport
        self.socket = Socket()
        self.numberAccepts = 10_000
        self.accepts = True
        self.accepted = 0

    def doRead(self) -> None:  # noqa: N802
        self.accepted += self.numberAccepts
        self.numberAccepts += 20

    def pauseProducing(self) -> None:  # noqa: N802
        self.accepts = False

    def resumeProducing(self) -> None:  # noqa: N802
        self.accepts = True

    def stopListening(self) -> None:  # noqa: N802
        self.accepts = False


class Idler:
    def __init__(self) -> None:
        self.made_room = False

    def make_room(self) -> None:
        self.made_room = True


def entrance_of(limit: int) -> tuple[Entrance, Port]:
    entrance, port = Entrance(limit), Port()
    entrance.watch(port)
    return entrance, port


def test_full_process_accepts_no_more_until_one_has_ended() -> None:
    entrance, port = entrance_of(2)
    first, second = port.transport(), port.transport()
    assert entrance.transports == {first, second}
    assert not port.accepts
    first.connectionLost(None)
    first.connectionLost(None)
    assert port.accepts
    assert entrance.transports == {second}


def test_full_process_takes_one_for_the_one_that_has_longest_asked_for_nothing() -> None:
    entrance, port = entrance_of(2)
    port.transport()
    longest, other = Idler(), Idler()
    entrance.waiting |= {longest: None, other: None}
    port.transport()
    assert port.accepts
    assert (longest.made_room, other.made_room) == (True, False)
    assert list(entrance.waiting) == [other]


def test_being_full_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    entrance, port = entrance_of(1)
    entrance.waiting |= {Idler(): None for _ in range(10)}
    for _ in range(10):
        port.transport()
    assert len(caplog.messages) == 1


def test_what_the_client_takes_is_counted() -> None:
    _, port = entrance_of(9)
    transport = port.transport()
    for data in (b"four", b"", b"seven"):
        transport.writeSomeData(data)
    assert getattr(transport, "taken_bytes") == 9  # noqa: B009 - made at run time


def test_herd_is_accepted_in_groups_that_do_not_grow() -> None:
    _, port = entrance_of(9)
    port.doRead()
    port.doRead()
    assert port.accepted == 2 * ACCEPTS_AT_ONCE


def test_closed_entrance_accepts_no_more_though_room_is_made() -> None:
    entrance, port = entrance_of(1)
    only = port.transport()
    entrance.close()
    only.connectionLost(None)
    assert not port.accepts


@pytest.mark.parametrize(
    ("soft", "limit"),
    [(1024, 768), (20_000, 19_744), (64, 32), (resource.RLIM_INFINITY, 1_048_320)],
)
def test_limit_leaves_files_for_all_but_clients(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connection_limit() == limit
