"""Temporal dev servers: one that forgets, and one that a test may kill and start again."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from temporalio.testing import WorkflowEnvironment

from nexus_project.embedded import temporal
from tests.servers import end_with_parent

NAMESPACE: Final = "default"
READY_SECONDS: Final = 30.0


SETTLE_SECONDS: Final = 0.1
"""The SDK's threads crash an interpreter that ends while they finish a call."""


@contextmanager
def temporal_running() -> Iterator[str]:
    """Run a server that keeps nothing on a free port; its address."""
    environment = asyncio.run(
        WorkflowEnvironment.start_local(
            dev_server_existing_path=str(temporal.binary()),
            dev_server_log_level="error",
            dev_server_extra_args=["--headless"],
        )
    )
    try:
        yield environment.client.service_client.config.target_host
    finally:
        asyncio.run(environment.shutdown())
        time.sleep(SETTLE_SECONDS)


class TemporalServer:
    """A server on one port, which keeps what it knows in a file in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        port = temporal.free_port()
        self._log = directory / "temporal.log"
        self._program = temporal.program(directory, port, NAMESPACE)
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"{temporal.HOST}:{port}"

    def start(self) -> None:
        """Start it, with what it knew before, and wait until it answers."""
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self._program.command, env=self._program.environment, stdout=log, stderr=log,
                preexec_fn=end_with_parent,
            )  # fmt: skip
        # In a thread: asking needs an event loop, and the test may be running in one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._wait_until_it_answers, process).result()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_it_answers(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if temporal.answers(self.address, NAMESPACE):
                return
            time.sleep(0.01)
        raise RuntimeError(f"Temporal did not start:\n{self._log.read_text()}")


@contextmanager
def temporal_server_running(directory: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()
