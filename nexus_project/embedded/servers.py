"""Starts the embedded servers that no setting replaces, and records where they listen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from shlex import quote

from nexus_project.embedded import addresses, temporal, valkey
from nexus_project.embedded.addresses import Addresses
from nexus_project.embedded.processes import Child, ChildEndedError
from nexus_project.embedded.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which servers are to be embedded: those whose setting the environment does not give."""

    valkey: bool
    temporal: bool
    namespace: str


def wanted(namespace: str) -> Wanted:
    """What the environment leaves to us, with Temporal serving `namespace`."""
    return Wanted(
        valkey=not os.environ.get("VALKEY_URL"),
        temporal=not os.environ.get("TEMPORAL_ADDRESS"),
        namespace=namespace,
    )


def start_servers(
    supervisor: Supervisor, wanted: Wanted, meanwhile: Callable[[], None] = lambda: None
) -> Addresses:
    """Start what is wanted, do `meanwhile`, and return when all of it answers.

    The addresses are recorded in the data directory, too, until the supervisor stops.
    Raises MissingServerError, ChildEndedError, ChildNotReadyError.
    """
    data_dir = supervisor.data_dir
    valkey_child = supervisor.start(valkey.program(data_dir)) if wanted.valkey else None
    temporal_start = _TemporalStart(supervisor, wanted.namespace) if wanted.temporal else None
    meanwhile()
    found = Addresses()
    if valkey_child is not None:
        socket_path = valkey.socket_path(data_dir)
        valkey_child.wait_until(lambda: valkey.answers(socket_path), valkey.READY_SECONDS)
        supervisor.told_progress(valkey.NAME, "ready")
        found = Addresses(valkey_url=valkey.url(data_dir))
    if temporal_start is not None:
        found = Addresses(found.valkey_url, temporal_start.finished())
        supervisor.told_progress(temporal.NAME, "ready")
    addresses.record(data_dir, found)
    return found


class _TemporalStart:
    """The dev server's start, again at another port for as long as somebody takes its port."""

    def __init__(self, supervisor: Supervisor, namespace: str) -> None:
        self._supervisor = supervisor
        self._namespace = namespace
        self._begin()

    def _begin(self) -> None:
        port = temporal.free_port()
        self._address = f"{temporal.HOST}:{port}"
        self._child: Child = self._supervisor.start(
            temporal.program(self._supervisor.data_dir, port, self._namespace)
        )

    def finished(self) -> str:
        for _ in range(temporal.PORT_ATTEMPTS - 1):
            try:
                return self._ready_address()
            except ChildEndedError as ended:
                if ended.child is not self._child or not temporal.port_was_taken(
                    self._child.last_log_lines()
                ):
                    raise
                self._supervisor.dismiss(self._child)
                self._begin()
        return self._ready_address()

    def _ready_address(self) -> str:
        own = temporal.own_namespace(self._supervisor.data_dir)
        self._child.wait_until(
            lambda: temporal.answers(self._address, self._namespace, own), temporal.READY_SECONDS
        )
        return self._address


def exports(found: Addresses) -> list[str]:
    """Shell lines that point other commands at these servers."""
    settings = {"VALKEY_URL": found.valkey_url, "TEMPORAL_ADDRESS": found.temporal_address}
    return [f"export {name}={quote(value)}" for name, value in settings.items() if value]
