"""Asks the web server of a starting Nexus whether it answers, and what."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from nexus_project.embedded.places import Places

ANSWER_SECONDS = 10.0


class PortInUseError(Exception):
    """The web server's address cannot be bound."""

    def __init__(self, places: Places, problem: OSError) -> None:
        super().__init__(
            f"{places.host}:{places.port} cannot be used for the web server: "
            f"{problem.strerror or problem}. Set NEXUS_PORT to a free port (or NEXUS_HOST to an "
            "address of this machine), or stop what listens there."
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status, 0 when there was no answer, and the JSON document, None without one."""

    status: int
    document: Any = None

    def needs_login(self) -> bool:
        return self.status in (401, 403)


def require_free_port(places: Places) -> None:
    """Raises PortInUseError when the web server could not bind its address now."""
    if not 0 < places.port < 65536:
        raise PortInUseError(places, OSError("a port is a number from 1 to 65535"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            places.host or None, places.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise PortInUseError(places, error) from error


def ask(places: Places, path: str, token: str | None) -> Answer:
    """GET `path`, with the token if given; no proxy is asked, no redirect followed."""
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    connection = http.client.HTTPConnection(
        places.reachable_host, places.port, timeout=ANSWER_SECONDS
    )
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return Answer(0)
    finally:
        connection.close()
    try:
        return Answer(response.status, json.loads(body))
    except ValueError:
        return Answer(response.status)
