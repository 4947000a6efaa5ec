"""The processes of one data directory: started in order, watched, stopped in reverse."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from nexus_project.embedded import addresses
from nexus_project.embedded.lock import DataDirLock
from nexus_project.embedded.processes import Child, Program
from nexus_project.embedded.stopping import StopRequested, StopRequests

WATCH_SECONDS = 0.2


class Supervisor:
    """The children of one data directory. Made by `supervising`."""

    def __init__(self, data_dir: Path, lock: DataDirLock, say: Callable[[str], None]) -> None:
        self.data_dir = data_dir
        self.logs_dir = data_dir / "logs"
        self.say = say
        self._lock = lock
        self._children: list[Child] = []
        self._began = time.monotonic()

    def start(self, program: Program) -> Child:
        """Start `program`; it is stopped before all that were started earlier."""
        child = Child(program, self.logs_dir, inherited=[self._lock.descriptor])
        self._children.append(child)
        return child

    def dismiss(self, child: Child) -> None:
        """Stop `child` alone, and expect nothing of it any more."""
        child.stop()
        self._children.remove(child)

    def require_all_running(self, but: Child | None = None) -> None:
        """Raises ChildEndedError for a child, other than `but`, that has ended."""
        for child in self._children:
            if child is not but:
                child.require_running()

    def told_progress(self, what: str, done: str) -> None:
        """Say that `what` is `done`, and how long after the start."""
        self.say(f"  {what:<10} {done} after {time.monotonic() - self._began:.1f} s")

    def watch(self) -> NoReturn:
        """Run until a stop signal (StopRequested) or the end of a child (ChildEndedError)."""
        while True:
            self.require_all_running()
            time.sleep(WATCH_SECONDS)

    def stop_all(self) -> None:
        while self._children:
            child = self._children[-1]
            was_running = child.is_running()
            child.stop()
            if was_running:
                self.say(f"  {child.program.name:<10} stopped")
            self._children.pop()

    def kill_all(self) -> None:
        for child in self._children:
            child.kill()


@contextlib.contextmanager
def supervising(data_dir: Path, command: str, say: Callable[[str], None]) -> Iterator[Supervisor]:
    """Hold `data_dir`; on leaving, however that comes, nothing of it runs any more.

    Raises AlreadyRunningError, naming the holder's `command`. A stop signal raises
    StopRequested inside, which is swallowed here: a requested stop is no failure.
    """
    with _private_files(), contextlib.suppress(StopRequested):
        lock = DataDirLock(data_dir, command)
        supervisor = Supervisor(data_dir, lock, say)
        try:
            with StopRequests(hurry=supervisor.kill_all) as requests:
                try:
                    yield supervisor
                finally:
                    requests.stopping()
                    say("Stopping")
                    supervisor.stop_all()
                    addresses.forget(data_dir)
        finally:
            lock.release()


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """What is made within, by children too, is this user's alone: databases, logs, sockets."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
