"""Our Daphne as a process of a test's own, which serves daphne_application.py."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.servers import end_with_parent

APPLICATION = "tests.integration.daphne_application:application"


class ServerProcess:
    """A running server; `log` is what it has written."""

    def __init__(
        self,
        log_path: Path,
        arguments: tuple[str, ...] = (),
        *,
        open_files: int | None = None,
        bounds: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nexus_project.daphne_server",
                    "-p",
                    "0",
                    *arguments,
                    APPLICATION,
                ],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={
                    **os.environ,
                    **(environment or {}),
                    "DAPHNE_TEST_BOUNDS": json.dumps(bounds or {}),
                },
                preexec_fn=lambda: _limit_open_files(open_files),
            )
        until(lambda: "Listening on" in self.log or self.process.poll() is not None)
        listening = re.search(r"Listening on TCP address 127\.0\.0\.1:(\d+)", self.log)
        assert listening, self.log
        self.port = int(listening[1])

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
        assert peak
        return int(peak[1]) * 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self, path: str) -> ClientConnection:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            max_size=None,
            max_queue=1,
            ping_interval=None,
            compression=None,
        )

    def ask(self) -> tuple[int, float]:
        """How many messages `/flood` has sent, and how many seconds the answer took."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        started = time.monotonic()
        connection.request("GET", "/")
        answer = int(connection.getresponse().read())
        connection.close()
        return answer, time.monotonic() - started


def _limit_open_files(number: int | None) -> None:
    end_with_parent()
    if number is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


@contextlib.contextmanager
def stalled_flood(
    server: ServerProcess, path: str = "/flood"
) -> Iterator[tuple[ClientConnection, list[float]]]:
    """A client that reads nothing of the flood, once the server has stopped sending to it.

    Beside it, the seconds that each unrelated request took meanwhile.
    """
    with server.connect(path) as reader:
        delays: list[float] = []
        unchanged_since, last = time.monotonic(), -1
        deadline = unchanged_since + 20
        while time.monotonic() - unchanged_since < 0.5 or last <= 0:
            assert time.monotonic() < deadline, "the server does not stop at a stalled reader"
            count, delay = server.ask()
            delays.append(delay)
            if count != last:
                unchanged_since, last = time.monotonic(), count
        yield reader, delays
        drop(reader)


def drop(client: ClientConnection) -> None:
    """End a client's TCP connection without a word."""
    with contextlib.suppress(OSError):
        client.socket.shutdown(socket.SHUT_RDWR)
