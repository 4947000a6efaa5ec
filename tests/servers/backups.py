"""Backup and restore of the test database, as README.md tells people to do it."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests import settings
from tests.servers.postgresql import binaries


def back_up(target: Path) -> None:
    """Write the database's present state into a file, while others use it."""
    if settings.DATABASE_KIND == "sqlite":
        with closing(sqlite3.connect(settings.TEST_DATABASE_NAME)) as live:
            live.execute("VACUUM INTO ?", (str(target),))
    else:
        _run("pg_dump", "--format=custom", f"--file={target}", settings.TEST_DATABASE_NAME)


def restore(source: Path) -> None:
    """Bring the database back to what it was, under the processes that use it."""
    if settings.DATABASE_KIND == "sqlite":
        with (
            closing(sqlite3.connect(source)) as kept,
            closing(sqlite3.connect(settings.TEST_DATABASE_NAME, timeout=20)) as live,
        ):
            kept.backup(live)
    else:
        _run("pg_restore", "--clean", "--single-transaction", "--no-owner",
             f"--dbname={settings.TEST_DATABASE_NAME}", str(source))  # fmt: skip


def _run(program: str, *arguments: str) -> None:
    subprocess.run(
        [binaries() / program, "--host", settings.POSTGRESQL_DIR, "--username", "nexus",
         *arguments],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
