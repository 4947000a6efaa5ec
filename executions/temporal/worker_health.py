"""What a worker tells whoever watches it, over HTTP: Prometheus metrics, and its health.

    /health/live    200 while the worker's event loop answers
    /health/ready   200 while it can mirror what it runs, else 503
    anything else   metrics of the default registry

There is no login: it is for loopback, or for a network of those who may read metrics.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from executions.health import Check, DatabaseCheck, Readiness, asked_of_receivers
from executions.temporal import metrics
from executions.temporal.following.leases import LEASE_SECONDS

LOOP_SECONDS: Final = 2.0
"""How long the event loop may take to answer."""


class HealthNotServedError(Exception):
    """The address for health and metrics cannot be listened on."""


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds, of a client that says nothing

    def log_message(self, format: str, *args: Any) -> None:
        pass


class WorkerHealth:
    """The WSGI application. Each request has a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._metrics = make_wsgi_app()
        self._database = DatabaseCheck()
        self._readiness = Readiness()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        asked = environ["PATH_INFO"]
        if asked == "/health/live":
            is_live = self._loop_answers()
            status, body = 200 if is_live else 503, {"live": is_live}
        elif asked == "/health/ready":
            checks = [_check_following(), self._database.wait(), *asked_of_receivers()]
            status, body = self._readiness.answer(checks)
        else:
            answered: Iterable[bytes] = self._metrics(environ, start_response)
            return answered
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [msgspec.json.encode(body)]

    def _loop_answers(self) -> bool:
        asked = threading.Event()
        self._loop.call_soon_threadsafe(asked.set)
        return asked.wait(LOOP_SECONDS)


def _check_following() -> Check:
    seconds = metrics.seconds_since_lease_held()
    if seconds is None:
        return Check("following", False, "The worker has not begun to follow runs.")
    if seconds > LEASE_SECONDS:
        return Check("following", False, f"The lease was last held {seconds:.0f} seconds ago.")
    return Check("following", True, "The lease is held.")


def serve_worker_health(host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
    """Serve from a thread until the process ends; raises HealthNotServedError."""

    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = make_server(host, port, WorkerHealth(loop), Server, _Handler)
    except (OSError, OverflowError) as error:
        raise HealthNotServedError(
            f"Metrics and health cannot be served on {host}, port {port} ({error}): choose "
            "another --metrics-port"
        ) from error
    threading.Thread(target=server.serve_forever, name="nexus-health", daemon=True).start()
