"""A peer: NATS with JetStream, a Go server with replay, reached by WebSockets."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nexus_project.embedded.temporal import free_port
from tests.benchmarks.side_by_side.nats_client import STREAM, NatsRefusedError
from tests.servers import end_with_parent

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 30.0
BINARY: Final = Path(sys.executable).with_name("nats-server")

_CONFIGURATION: Final = """
listen: "{host}:{port}"
jetstream {{ store_dir: "{directory}" }}
websocket {{ listen: "{host}:{websocket_port}", no_tls: true, compression: false }}
"""


class NatsServer:
    """A running server, and a connection that publishes into its stream."""

    def __init__(self, process_id: int, websocket_port: int, connection: socket.socket) -> None:
        self.process_id = process_id
        self.websocket_port = websocket_port
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._lines.readline()
        self._say('CONNECT {"verbose":false}\r\nSUB answers 1\r\n')

    def create_stream(self, subject: str) -> None:
        """Make the stream that keeps what is published on the subject, in files."""
        stream = {"name": STREAM, "subjects": [subject], "storage": "file", "num_replicas": 1}
        self._ask(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(stream))

    def publish(self, subject: str, text: str) -> None:
        """Publish into the stream; returns when it is acknowledged, which is when it is stored."""
        self._ask(subject, text)

    def _ask(self, subject: str, text: str) -> None:
        payload = text.encode()
        self._say(f"PUB {subject} answers {len(payload)}\r\n{text}\r\n")
        while not (line := self._lines.readline()).startswith(b"MSG "):
            if line == b"PING\r\n":
                self._say("PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise NatsRefusedError(line.decode() or "the server closed the connection")
        answer: Any = json.loads(self._lines.read(int(line.split()[-1])))
        self._lines.readline()
        if error := answer.get("error"):
            raise NatsRefusedError(str(error))

    def _say(self, text: str) -> None:
        self._connection.sendall(text.encode())


@contextmanager
def nats_running(directory: Path) -> Iterator[NatsServer]:
    """Run a server with its files in `directory` until the block ends."""
    directory.mkdir(parents=True)
    port, websocket_port = free_port(), free_port()
    configuration = directory / "nats.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=HOST, port=port, directory=directory, websocket_port=websocket_port
        )
    )
    log_path = directory / "nats.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "--config", configuration], stdout=log, stderr=log,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        for listening in (websocket_port, port):
            _connected(process, listening, log_path).close()
        with _connected(process, port, log_path) as connection:
            yield NatsServer(process.pid, websocket_port, connection)
    finally:
        process.kill()
        process.wait()


def _connected(process: "subprocess.Popen[bytes]", port: int, log: Path) -> socket.socket:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return socket.create_connection((HOST, port), ANSWER_SECONDS)
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"NATS did not start:\n{log.read_text()}")
