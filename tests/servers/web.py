"""The product's web server as a process, on the test session's database and Valkey."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import end_with_parent


class WebServer:
    """A running Daphne and its addresses."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.http = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}"

    def stream(self, execution_id: str, replay: str | None = None) -> str:
        """The WebSocket address of an execution."""
        query = "" if replay is None else f"?replay={replay}"
        return f"{self.ws}/api/v1/ws/executions/{execution_id}{query}"


def session_environment(**more: str) -> dict[str, str]:
    """An environment in which a process uses the test database and the session's Valkey."""
    from tests import settings

    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "nexus_project.settings",
        "DATABASE_URL": settings.TEST_DATABASE_URL,
        **more,
    }


@contextmanager
def web_running(
    log: Path,
    environment: Mapping[str, str],
    application: str = "nexus_project.asgi:application",
    flags: Sequence[str] = (),
) -> Iterator[WebServer]:
    """Run a server on a free port, in this environment, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "nexus_project.daphne_server",
             "-b", "127.0.0.1", "-p", str(port), *flags, application],
            env=dict(environment), stdout=output, stderr=output,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    server = WebServer(port, process)
    try:
        _wait_until_it_answers(server, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wait_until_it_answers(server: WebServer, log: Path) -> None:
    while server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.http}/api/v1/schema", timeout=10):  # noqa: S310
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            os.sched_yield()
    raise RuntimeError(f"the web server ended:\n{log.read_text()}")
