"""What every benchmark stands on: servers of its own, a fresh database, this process set up."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import django

from nexus_project.embedded import temporal
from nexus_project.embedded.processes import Child, Program
from tests.servers.valkey import valkey_running


@dataclass(frozen=True, slots=True)
class Stage:
    """`directory` is for logs and files; `temporal_address` is empty where none was asked for."""

    directory: Path
    temporal_address: str


@contextmanager
def stage_set(
    limit_seconds: int, *, with_temporal: bool = True, on_postgresql: bool = False
) -> Iterator[Stage]:
    """Run the servers until the block ends, with a migrated database and Django set up.

    Child processes find them in the environment. `on_postgresql`, or
    NEXUS_TEST_DATABASE=postgresql as for the tests, takes a PostgreSQL instead of an SQLite
    file. After `limit_seconds`, or by
    SIGTERM, the benchmark ends as by Ctrl-C: its processes with it.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(limit_seconds)
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as name:
        directory = Path(name)
        with (
            valkey_running(directory / "valkey") as valkey,
            _database(directory, on_postgresql) as database_url,
            _temporal(directory, with_temporal) as temporal_address,
        ):
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "nexus_project.settings",
                "NEXUS_DATA_DIR": name,
                "NEXUS_OPEN_READING": "1",
                "VALKEY_URL": valkey.url,
                "DATABASE_URL": database_url,
                "TEMPORAL_ADDRESS": temporal_address,
            }
            django.setup()
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
            yield Stage(directory, temporal_address)


def at_most(limit: int) -> Callable[[str], int]:
    """An argument's type: a whole number from 1 to `limit`."""

    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to {limit}")
        return int(text)

    return number


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(f"ended by {signal.Signals(number).name} before it was done")


@contextmanager
def _database(directory: Path, on_postgresql: bool) -> Iterator[str]:
    if not on_postgresql and os.environ.get("NEXUS_TEST_DATABASE", "sqlite") == "sqlite":
        yield f"sqlite:///{directory / 'nexus.sqlite3'}"
        return
    from tests.servers.postgresql import postgresql_running

    with postgresql_running(directory / "postgresql"):
        yield f"postgresql://nexus@/nexus?host={directory / 'postgresql'}"


@contextmanager
def _temporal(directory: Path, is_wanted: bool) -> Iterator[str]:
    """A dev server in memory that ends with this process, however that ends."""
    if not is_wanted:
        yield ""
        return
    port = temporal.free_port()
    command = [str(temporal.binary()), "server", "start-dev", "--headless", "--log-level", "error"]
    command += ["--ip", temporal.HOST, "--port", str(port)]
    command += ["--disable-config-file", "--disable-config-env"]
    server = Child(Program(temporal.NAME, command), directory)
    try:
        address = f"{temporal.HOST}:{port}"
        server.wait_until(lambda: temporal.answers(address, "default"), temporal.READY_SECONDS)
        yield address
    finally:
        server.stop()
