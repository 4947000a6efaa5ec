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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.side_by_side.raw_client import RawClient, connect
from tests.servers import end_with_parent

CONNECTING_AT_ONCE: Final = 100
HUNDREDTHS: Final = 101

_EVENT_ID: Final = re.compile(rb'"event_id":\s?"([0-9]+-[0-9]+)"')


@dataclass(frozen=True, slots=True)
class Received:
    """What all viewers together received, and how long after its moment, in milliseconds.

    `hundredths[n]` is the n-th percentile of the delays; empty where nothing was received.
    """

    messages: int
    connect_seconds: float
    snapshot_seconds: float
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

    def until_received(self, each: int, moments: Mapping[str, int]) -> Received:
        """Wait until every viewer has `each` messages; their delays by `moments` of monotonic ns.

        Messages whose event_id has no moment count as messages only.
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
def receiving(addresses: Sequence[str], *, first_message: bool = True) -> Iterator[Receiver]:
    """Run viewers, one per address, until the block ends.

    With `first_message`, each is open only when it has received one: its snapshot.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *(["--first-message"] if first_message else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(list(addresses)) + "\n")
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
            event_id = found[1]
            number = self._index.get(event_id)
            if number is None:
                number = self._index[event_id] = len(self.events)
                self.events.append(event_id)
            self.numbers.append(number)
            self.arrivals.append(arrived)
        if self.received == self.wanted:
            self.all_received.set()

    def want(self, messages: int) -> None:
        self.wanted = messages
        if self.received >= messages:
            self.all_received.set()

    def hundredths(self, moments: Mapping[str, int]) -> list[float]:
        by_number = [moments.get(event_id.decode()) for event_id in self.events]
        delays = sorted(
            arrived - moment
            for number, arrived in zip(self.numbers, self.arrivals, strict=True)
            if (moment := by_number[number]) is not None
        )
        if not delays:
            return []
        last = len(delays) - 1
        return [delays[last * part // (HUNDREDTHS - 1)] / 1e6 for part in range(HUNDREDTHS)]


async def _run(first_message: bool) -> None:
    addresses = json.loads(await asyncio.to_thread(sys.stdin.readline))
    viewers = _Viewers()
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    clients: list[RawClient] = []

    async def open_one(url: str) -> None:
        async with gate:
            clients.append(await connect(url, viewers.take, viewers.closed.append))

    began = time.monotonic()
    await asyncio.gather(*map(open_one, addresses))
    connected = time.monotonic()
    if first_message:
        viewers.want(len(addresses))
        await viewers.all_received.wait()
        viewers.all_received.clear()
    snapshots = time.monotonic()
    print("open", flush=True)  # noqa: T201
    asked = json.loads(await asyncio.to_thread(sys.stdin.readline))
    viewers.want((asked["each"] + first_message) * len(addresses))
    await viewers.all_received.wait()
    received = {
        "messages": viewers.received,
        "connect_seconds": connected - began,
        "snapshot_seconds": snapshots - began,
        "hundredths": viewers.hundredths(asked["moments"]),
    }
    print(json.dumps(received), flush=True)  # noqa: T201


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser()
    parser.add_argument("--first-message", action="store_true")
    asyncio.run(_run(parser.parse_args().first_message))
