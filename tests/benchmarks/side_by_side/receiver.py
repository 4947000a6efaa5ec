"""Many viewers in one process, and when each message came to them.

`receiving(addresses)` starts the process. It opens a connection per address, says when all
have their first message, then notes the arrival of each message that has an event_id.
"""

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from tests.benchmarks.side_by_side import nats_client, sse_client
from tests.benchmarks.side_by_side.raw_client import connect
from tests.servers import end_with_parent

CONNECTING_AT_ONCE: Final = 100
HUNDREDTHS: Final = 101

_OF_PEERS: Final[dict[str, Callable[..., Awaitable[asyncio.Protocol]]]] = {
    "http": sse_client.connect,
    nats_client.SUBSCRIBED: nats_client.connect,
    nats_client.CONSUMING: nats_client.connect,
}

_EVENT_ID: Final = re.compile(rb'"event_id":\s?"([0-9]+-[0-9]+)"')
_IDS: Final = re.compile(r'"(?:execution|event)_id":\s?"([^"]+)')


@dataclass(frozen=True, slots=True)
class Received:
    """What all viewers together received, and how long after its moment, in milliseconds.

    `hundredths[n]` is the n-th percentile of the delays; empty where nothing was received.
    Seconds count from the first connecting; the last event so far came after `last_seconds`.
    """

    messages: int
    connect_seconds: float
    snapshot_seconds: float
    last_seconds: float
    hundredths: list[float]

    @property
    def p50(self) -> float:
        return self.hundredths[50]

    @property
    def p99(self) -> float:
        return self.hundredths[99]


class Receiver:
    """The running process of viewers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def until_open(self) -> None:
        """Wait until every viewer is connected and, where one is to come, has its snapshot."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "open\n":
            raise RuntimeError(f"the viewers did not open: {line!r}")

    @property
    def process_id(self) -> int:
        return self._process.pid

    def until_received(self, each: int, moments: Mapping[str, int]) -> Received:
        """Wait until every viewer has `each` messages; their delays by `moments` of monotonic ns.

        The keys are event_ids, or, of several executions, `execution_id event_id`. Messages
        whose event has no moment count as messages only. May be asked again: `each` counts
        from the beginning.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        json.dump({"each": each, "moments": moments}, self._process.stdin)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the viewers ended before they had everything")
        return Received(**json.loads(line))


@contextmanager
def receiving(
    addresses: Sequence[str],
    *,
    first_message: bool = True,
    tokens: Sequence[str] = (),
    connecting_at_once: int = CONNECTING_AT_ONCE,
) -> Iterator[Receiver]:
    """Run viewers, one per address, until the block ends.

    With `first_message`, each is open only when it has received one: its snapshot. They
    present the `tokens` in turn, if there are any.
    """
    flags = [f"--connecting-at-once={connecting_at_once}"]
    flags += ["--first-message"] if first_message else []
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *flags],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        callers = list(zip(addresses, cycle(tokens or [None]), strict=False))
        process.stdin.write(json.dumps(callers) + "\n")
        process.stdin.flush()
        yield Receiver(process)
    finally:
        process.kill()
        process.wait()


class _Viewers:
    def __init__(self) -> None:
        self.received = 0
        self.closed: list[int | None] = []
        self.wanted = -1
        self.all_received = asyncio.Event()
        self._index: dict[bytes, int] = {}
        self.events: list[bytes] = []
        self.numbers = array("l")
        self.arrivals = array("q")

    def take(self, payload: bytes) -> None:
        arrived = time.monotonic_ns()
        self.received += 1
        found = _EVENT_ID.search(payload)
        if found is not None:
            # Event ids of two executions may be the same: what precedes them tells them apart.
            event = payload[: found.end(1)]
            number = self._index.get(event)
            if number is None:
                number = self._index[event] = len(self.events)
                self.events.append(event)
            self.numbers.append(number)
            self.arrivals.append(arrived)
        if self.received == self.wanted:
            self.all_received.set()

    def want(self, messages: int) -> None:
        self.wanted = messages
        if self.received >= messages:
            self.all_received.set()

    def hundredths(self, moments: Mapping[str, int]) -> list[float]:
        if not moments:
            return []
        by_number = [_moment_of(event.decode(), moments) for event in self.events]
        delays = sorted(
            arrived - moment
            for number, arrived in zip(self.numbers, self.arrivals, strict=True)
            if (moment := by_number[number]) is not None
        )
        if not delays:
            return []
        last = len(delays) - 1
        return [delays[last * part // (HUNDREDTHS - 1)] / 1e6 for part in range(HUNDREDTHS)]


def _moment_of(event: str, moments: Mapping[str, int]) -> int | None:
    ids = _IDS.findall(event)
    return moments.get(" ".join(ids), moments.get(ids[-1]))


async def _run(first_message: bool, connecting_at_once: int) -> None:
    callers = json.loads(await asyncio.to_thread(sys.stdin.readline))
    viewers = _Viewers()
    gate = asyncio.Semaphore(connecting_at_once)
    clients: list[asyncio.Protocol] = []

    async def open_one(url: str, token: str | None) -> None:
        headers = [] if token is None else [f"Authorization: Token {token}"]
        async with gate:
            if of_peer := _OF_PEERS.get(url.partition(":")[0]):
                clients.append(await of_peer(url, viewers.take, viewers.closed.append))
                return
            clients.append(await connect(url, viewers.take, viewers.closed.append, headers=headers))

    began = time.monotonic()
    await asyncio.gather(*(open_one(*caller) for caller in callers))
    connected = time.monotonic()
    if first_message:
        viewers.want(len(callers))
        await viewers.all_received.wait()
        viewers.all_received.clear()
    snapshots = time.monotonic()
    print("open", flush=True)  # noqa: T201
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        viewers.all_received.clear()
        viewers.want((asked["each"] + first_message) * len(callers))
        await viewers.all_received.wait()
        received = {
            "messages": viewers.received,
            "connect_seconds": connected - began,
            "snapshot_seconds": snapshots - began,
            "last_seconds": viewers.arrivals[-1] / 1e9 - began if viewers.arrivals else 0.0,
            "hundredths": viewers.hundredths(asked["moments"]),
        }
        print(json.dumps(received), flush=True)  # noqa: T201


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser()
    parser.add_argument("--first-message", action="store_true")
    parser.add_argument("--connecting-at-once", type=int, default=CONNECTING_AT_ONCE)
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.first_message, arguments.connecting_at_once))
