"""Losing the test session's database for a while, whichever it is."""

import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from django.db import connection, connections

from tests import settings
from tests.integration.temporal_runs import in_database

LOCK_SECONDS: Final = 0.3
"""How long a writer of SQLite waits for its turn before it fails."""


@contextmanager
def database_losable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have writers give up sooner than a loss ends; afterwards no broken connection is left."""
    if connection.vendor == "sqlite":
        monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", LOCK_SECONDS)
    yield
    # The test's own connection was broken with the others.
    connection.close()
    _leave_only_whole_connections()


@asynccontextmanager
async def database_lost() -> AsyncIterator[None]:
    """Nothing can be written within the block, and nothing can be read from PostgreSQL.

    Needs `database_losable`. Writers of SQLite fail; PostgreSQL does not answer, and breaks
    every connection afterwards.
    """
    if connection.vendor == "sqlite":
        with _sqlite_locked():
            yield
        return
    with _postgresql_stopped():
        yield
    await in_database(_break_connections)


@contextmanager
def _sqlite_locked() -> Iterator[None]:
    with closing(sqlite3.connect(settings.TEST_DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextmanager
def _postgresql_stopped() -> Iterator[None]:
    pid_file = settings.POSTGRESQL_DIR / "data" / "postmaster.pid"
    postmaster = int(pid_file.read_text().split("\n", 1)[0])
    # The postmaster first: it would start other processes.
    os.kill(postmaster, signal.SIGSTOP)
    stopped = [postmaster]
    try:
        for pid in _children_of(postmaster):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        yield
    finally:
        for pid in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children_of(parent: int) -> list[int]:
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # Behind the name, which may hold anything: the state, then the parent.
            _, ppid = stat.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent:
                children.append(int(stat.parent.name))
    return children


def _break_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    # Those that wait to be used are broken too, and the test itself does not try again.
    _leave_only_whole_connections()


def _leave_only_whole_connections() -> None:
    if pool := getattr(connection, "pool", None):
        pool.check()
