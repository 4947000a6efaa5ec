"""The embedded Temporal dev server: from its wheel, on a free loopback port, kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from pathlib import Path

from nexus_project.embedded.missing import missing_server
from nexus_project.embedded.processes import Program

NAME = "temporal"
HOST = "127.0.0.1"
READY_SECONDS = 60.0
ANSWER_SECONDS = 3.0
PORT_ATTEMPTS = 5


def program(data_dir: Path, port: int, namespace: str) -> Program:
    """The dev server for `data_dir` at `port`. Raises MissingServerError."""
    return Program(
        name=NAME,
        command=[
            str(binary()),
            *("server", "start-dev", "--headless"),
            *("--ip", HOST),
            *("--port", str(port)),
            *("--db-filename", str(data_dir / "temporal.db")),
            *("--namespace", namespace),
            *("--namespace", own_namespace(data_dir)),
            *("--log-level", "warn"),
            *("--disable-config-file", "--disable-config-env"),
        ],
        environment={
            name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")
        },
    )


def binary() -> Path:
    """The server's executable. Raises MissingServerError."""
    path = Path(sys.executable).with_name("temporal")
    if not path.is_file():
        raise missing_server("Temporal", "TEMPORAL_ADDRESS")
    return path


def free_port() -> int:
    """A port that was free a moment ago; the server itself cannot be asked to choose one."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_was_taken(log_lines: list[str]) -> bool:
    """Whether a server's last words say that somebody else took its port meanwhile."""
    return any("address already in use" in line.lower() for line in log_lines)


def own_namespace(data_dir: Path) -> str:
    """A namespace that only the server of `data_dir` has: by it one knows whom one asks.

    The port may have gone to another Temporal between being chosen and being bound.
    """
    return f"nexus-{hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]}"


def answers(address: str, *namespaces: str) -> bool:
    """Whether the server at `address` serves all these namespaces over gRPC."""
    return asyncio.run(_answers(address, namespaces))


async def _answers(address: str, namespaces: tuple[str, ...]) -> bool:
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.client import Client
    from temporalio.service import RPCError

    # The client retries a refused connection for many seconds before it says so.
    if not await _accepts_connections(address):
        return False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            service = (await Client.connect(address)).workflow_service
            for namespace in namespaces:
                await service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except (RPCError, RuntimeError, TimeoutError):
        return False
    return True


async def _accepts_connections(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
