"""The other server: uvicorn on uvloop, as fast as ASGI is served in Python."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nexus_project.embedded.temporal import free_port
from tests.servers import end_with_parent
from tests.servers.web import WebServer

READY_SECONDS: Final = 30.0


@contextmanager
def uvicorn_running(
    log: Path, environment: Mapping[str, str], application: str
) -> Iterator[WebServer]:
    """Run it on a free port, in this environment, until the block ends."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port),
             "--loop", "uvloop", "--ws", "websockets-sansio", "--lifespan", "off",
             "--log-level", "warning", application],
            env=dict(environment), stdout=output, stderr=output, preexec_fn=end_with_parent,
        )  # fmt: skip
    server = WebServer(port, process)
    try:
        _wait_until_it_answers(server, log)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(server: WebServer, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(server.http, timeout=10):  # noqa: S310
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"uvicorn did not start:\n{log.read_text()}")
