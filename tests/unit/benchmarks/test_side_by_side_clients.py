"""The cheap clients of the peers: what they make of a stream does not depend on how it is cut."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.benchmarks.side_by_side.nats_client import NatsRefusedError, NatsViewer
from tests.benchmarks.side_by_side.sse_client import SseClient

SIZES: Final = (1, 2, 3, 7, 64, 10_000)


class Written(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: Any) -> None:
        self.data += bytes(data)


def feed(take: Callable[[bytes], None], data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        take(data[at : at + size])


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("size", SIZES)
async def test_sse_client_takes_each_event_with_data_once(size: int) -> None:
    taken: list[bytes] = []
    client = SseClient(b"", taken.append, lambda _: None)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += chunk(b": padding\n\nevent: stream-open\ndata:\n\n")
    answer += chunk(b"event: message\ndata: one\n\nevent: mess") + chunk(b"age\ndata: two\n\n")
    answer += chunk(b"event: keep-alive\ndata:\n\n")

    feed(client.data_received, answer, size)

    assert client.opened.done()
    assert taken == [
        b"event: stream-open\ndata:",
        b"event: message\ndata: one",
        b"event: message\ndata: two",
    ]


@pytest.mark.parametrize("size", SIZES)
async def test_nats_viewer_takes_messages_and_answers_what_keeps_them_coming(size: int) -> None:
    taken: list[bytes] = []
    viewer, written = NatsViewer(taken.append), Written()
    viewer.transport = written
    feed(
        viewer.take,
        b'INFO {"headers":true}\r\n'
        b"MSG answers.a 2 5\r\n{   }\r\n"
        b"PING\r\n"
        b"MSG messages.a 1 $JS.ACK.EVENTS 8\r\none\r\ntwo\r\n"
        b"HMSG messages.a 1 $JS.FC.EVENTS 36 36\r\nNATS/1.0 100 FlowControl Request\r\n\r\n\r\n"
        b"HMSG messages.a 1 31 31\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n"
        b"MSG messages.a 1 $JS.ACK.EVENTS 5\r\nthree\r\n",
        size,
    )

    assert viewer.ready.done()
    assert taken == [b"one\r\ntwo", b"three"]
    assert b"PONG\r\n" in written.data
    assert written.data.count(b"PUB ") == written.data.count(b"PUB $JS.FC.EVENTS 0\r\n\r\n") == 1


async def test_nats_viewer_that_is_refused_says_why() -> None:
    viewer = NatsViewer(lambda _: None)

    viewer.take(b"MSG answers.a 2 42\r\n" + b'{"error":{"description":"no such stream"}}' + b"\r\n")

    with pytest.raises(NatsRefusedError, match="no such stream"):
        await viewer.ready
