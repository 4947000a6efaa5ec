"""The decisions of a WebSocket connection; real sockets are in tests/integration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_project.web.gate import Gate
from nexus_project.web.websocket_protocol import (
    UnsendableCloseCodeError,
    WebSocketProtocol,
    wire_close_code,
    wire_close_reason,
)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4400, 4999])
def test_sendable_close_code_is_sent_as_it_is(code: int) -> None:
    assert wire_close_code(code) == code


def test_close_without_code_means_done() -> None:
    assert wire_close_code(None) == 1000


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000", 1000.0])
def test_unsendable_close_code_is_refused_with_what_is_accepted(code: object) -> None:
    with pytest.raises(UnsendableCloseCodeError, match="4999"):
        wire_close_code(code)


@pytest.mark.parametrize("reason", [None, ""])
def test_no_reason_leaves_the_close_frame_without_one(reason: str | None) -> None:
    assert wire_close_reason(reason) is None


@given(st.text(min_size=1))
def test_reason_fits_a_close_frame_and_is_the_text_from_its_start(reason: str) -> None:
    wire = wire_close_reason(reason)
    assert wire is not None
    assert len(wire) <= 123
    assert reason.startswith(wire.decode("utf-8"))
    if len(reason.encode()) <= 123:
        assert wire == reason.encode()


def test_reason_is_cut_between_characters() -> None:
    assert wire_close_reason("x" + "é" * 100) == ("x" + "é" * 61).encode()


def test_lone_surrogate_in_a_reason_is_replaced() -> None:
    assert wire_close_reason("a\ud800b") == b"a?b"


class OpenProtocol(WebSocketProtocol):
    """An open connection that keeps the pongs it would send."""

    def __init__(self) -> None:
        super().__init__()
        self.state = self.STATE_OPEN
        self.gate = Gate(lambda: 0, self._close_stalled, self._answer_ping)
        self._unanswered_ping = None
        self.pongs: list[bytes] = []

    def sendPong(self, payload: bytes) -> None:  # noqa: N802
        self.pongs.append(payload)


def test_every_ping_is_answered_while_the_client_reads() -> None:
    protocol = OpenProtocol()
    protocol.onPing(b"1")
    protocol.onPing(b"2")
    assert protocol.pongs == [b"1", b"2"]


async def test_only_the_latest_ping_is_answered_when_a_stalled_client_reads_on() -> None:
    protocol = OpenProtocol()
    protocol.gate.pauseProducing()
    protocol.onPing(b"1")
    protocol.onPing(b"2")
    assert protocol.pongs == []
    protocol.gate.resumeProducing()
    protocol.gate.resumeProducing()
    assert protocol.pongs == [b"2"]


def test_ping_of_a_closing_connection_is_not_answered() -> None:
    protocol = OpenProtocol()
    protocol.state = protocol.STATE_CLOSING
    protocol.onPing(b"1")
    assert protocol.pongs == []
