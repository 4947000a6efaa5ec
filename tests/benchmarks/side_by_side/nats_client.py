"""A viewer on NATS' WebSocket listener that costs next to nothing, beside raw_client.

NATS' own text protocol travels in the frames, without regard to where one ends:
https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from tests.benchmarks.attacks import BINARY, frame
from tests.benchmarks.side_by_side import raw_client

STREAM: Final = "EVENTS"
SUBSCRIBED: Final = "nats"
CONSUMING: Final = "jetstream"

_MESSAGES, _ANSWERS = b"1", b"2"
_FLOW_CONTROL: Final = b"NATS/1.0 100 FlowControl"
_SECOND: Final = 10**9


class NatsRefusedError(Exception):
    """The server answered with an error; the message has what it said."""


class NatsViewer:
    """The client's side of the protocol on one connection."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self._buffer = bytearray()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def say(self, *lines: str) -> None:
        text = "".join(f"{line}\r\n" for line in lines)
        self.transport.write(frame(BINARY, text.encode()))

    def take(self, payload: bytes) -> None:
        buffer, at = self._buffer, 0
        buffer += payload
        while (end := buffer.find(b"\r\n", at)) >= 0:
            words = bytes(buffer[at:end]).split(b" ")
            after = end + 2
            if words[0] in (b"MSG", b"HMSG"):
                start, after = after, after + int(words[-1])
                if len(buffer) < after + 2:
                    break
                self._take_message(words, bytes(buffer[start:after]))
                after += 2
            elif words[0] == b"PING":
                self.say("PONG")
            elif words[0] == b"PONG":
                self.ready.set_result(None)
            elif words[0] == b"-ERR" and not self.ready.done():
                self.ready.set_exception(NatsRefusedError(b" ".join(words).decode()))
            at = after
        del buffer[:at]

    def _take_message(self, words: list[bytes], body: bytes) -> None:
        if words[0] == b"HMSG":
            # Without the answer, a consumer with flow control sends no more.
            if body.startswith(_FLOW_CONTROL):
                self.say(f"PUB {words[3].decode()} 0", "")
        elif words[2] == _MESSAGES:
            self._on_message(body)
        elif error := json.loads(body).get("error"):
            self.ready.set_exception(NatsRefusedError(str(error)))
        else:
            self.ready.set_result(None)


async def connect(
    url: str,
    on_message: Callable[[bytes], None],
    on_close: Callable[[int | None], None],
) -> raw_client.RawClient:
    """Open `nats://127.0.0.1:port/subject`, or the same with `jetstream://`.

    The first is a plain subscription, at most once. The second is an ordered consumer of the
    stream: whatever is in it already, then what follows, in order; one that a client makes anew,
    from the last message it has, when it finds one missing. Returns when the server has confirmed
    it. Raises NatsRefusedError, HandshakeRefusedError, OSError, TimeoutError.
    """
    address = urlsplit(url)
    subject = address.path.removeprefix("/")
    viewer = NatsViewer(on_message)
    client = await raw_client.connect(f"ws://{address.netloc}/", viewer.take, on_close)
    viewer.transport = client.transport
    viewer.say("CONNECT " + json.dumps({"verbose": False, "headers": True}))
    if address.scheme == SUBSCRIBED:
        viewer.say(f"SUB {subject} {_MESSAGES.decode()}", "PING")
    else:
        name = uuid.uuid4().hex
        asked = json.dumps(_ordered_consumer(subject, f"messages.{name}"))
        viewer.say(
            f"SUB messages.{name} {_MESSAGES.decode()}",
            f"SUB answers.{name} {_ANSWERS.decode()}",
            f"PUB $JS.API.CONSUMER.CREATE.{STREAM} answers.{name} {len(asked)}",
            asked,
        )
    async with asyncio.timeout(raw_client.CONNECT_SECONDS):
        await viewer.ready
    return client


def _ordered_consumer(subject: str, deliver_subject: str) -> dict[str, Any]:
    """What NATS' own clients ask for as an ordered push consumer."""
    return {
        "stream_name": STREAM,
        "config": {
            "deliver_subject": deliver_subject,
            "deliver_policy": "all",
            "filter_subject": subject,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": 5 * _SECOND,
            "inactive_threshold": 300 * _SECOND,
            "mem_storage": True,
            "num_replicas": 1,
        },
    }
