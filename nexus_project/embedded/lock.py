"""One running Nexus per data directory, held by a lock that ends with its processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "running.lock"
ORPHAN_SECONDS = 10.0


class AlreadyRunningError(Exception):
    """Another Nexus, or what is left of one, runs in the data directory."""

    def __init__(self, data_dir: Path, holder: Holder) -> None:
        who = f"`{holder.command}`, pid {holder.pid}" if holder.pid else "pid unknown"
        super().__init__(
            f"Nexus is already running in {data_dir} ({who}). Stop that one, or run a second "
            "one beside it: set NEXUS_DATA_DIR and NEXUS_PORT to its own."
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wrote the lock file last; pid 0 when it cannot be read."""

    pid: int = 0
    command: str = ""

    def is_alive(self) -> bool:
        if self.pid == 0:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


class DataDirLock:
    """Holds a data directory; children that inherit `descriptor` hold it too.

    So a successor of a killed `up` waits until the last process of that one is gone.
    """

    def __init__(self, data_dir: Path, command: str) -> None:
        """Raises AlreadyRunningError."""
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = data_dir / FILE_NAME
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + ORPHAN_SECONDS
            while not self._try():
                holder = _read_holder(path)
                if holder.is_alive() or time.monotonic() >= deadline:
                    raise AlreadyRunningError(data_dir, holder)
                time.sleep(0.05)
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps([os.getpid(), command]).encode(), 0)
        except BaseException:
            os.close(self.descriptor)
            raise

    def release(self) -> None:
        os.close(self.descriptor)

    def _try(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


def _read_holder(path: Path) -> Holder:
    try:
        pid, command = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(pid), str(command))
    except (OSError, ValueError, TypeError):
        return Holder()
