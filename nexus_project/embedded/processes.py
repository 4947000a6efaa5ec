"""Child processes that never outlive this one, with their logs and an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TETHER = Path(__file__).with_name("tether.py")
ROTATED_LOG_BYTES = 10 * 1024 * 1024
TOLD_LOG_LINES = 20
KILL_SECONDS = 5.0

Tether = Literal["kernel", "pipe"]


class ChildEndedError(Exception):
    """A child process ended that should be running; the message has its last log lines."""

    def __init__(self, child: Child) -> None:
        lines = child.last_log_lines()
        told = "\n".join(f"    {line}" for line in lines) if lines else "    (it wrote nothing)"
        super().__init__(
            f"{child.program.name} ended unexpectedly ({child.ending()}). Its last log lines, "
            f"from {child.log_path}:\n{told}"
        )
        self.child = child


class ChildNotReadyError(Exception):
    """A child process runs, but did not become ready in time; the message has its log's place."""

    def __init__(self, child: Child, seconds: float) -> None:
        super().__init__(
            f"{child.program.name} was not ready after {seconds:g} s; see {child.log_path}"
        )


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a name for people, logs and messages, and an absolute path with arguments.

    Standard output goes to `output_path` where one is given, else to the log with the rest.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stop_seconds: float = 10.0
    output_path: Path | None = None


def default_tether() -> Tether:
    """How children are tied to this process: by the kernel where it can, else by a pipe.

    Linux reports the death of the *thread* that started the child, so only the main
    thread, which ends with the process, may rely on it.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    return "kernel" if sys.platform == "linux" and on_main_thread else "pipe"


class Child:
    """A running `Program` in a session of its own: the terminal's Ctrl-C does not reach it."""

    def __init__(
        self,
        program: Program,
        logs_dir: Path,
        *,
        inherited: Iterable[int] = (),
        tether: Tether | None = None,
    ) -> None:
        """Start it; `inherited` file descriptors stay open as long as the program runs."""
        self.program = program
        self.log_path = logs_dir / f"{program.name}.log"
        logs_dir.mkdir(parents=True, exist_ok=True)
        rotate(self.log_path)
        self._swept = False
        kept = list(inherited)
        watched, held = os.pipe()
        try:
            if (tether or default_tether()) == "kernel":
                tied, passed = ["kernel", str(os.getpid())], kept
            else:
                tied, passed = ["pipe", ",".join(map(str, [watched, *kept]))], [watched, *kept]
            with contextlib.ExitStack() as files:
                log = files.enter_context(self.log_path.open("ab"))
                output = log
                if program.output_path is not None:
                    output = files.enter_context(program.output_path.open("wb"))
                self._log_start = log.seek(0, os.SEEK_END)
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-I", "-S", str(TETHER), *tied, *program.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=log,
                    env=dict(program.environment),
                    start_new_session=True,
                    pass_fds=passed,
                )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(watched)
        self._held = held

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        if self._process.poll() is None:
            return True
        self._sweep()
        return False

    def require_running(self) -> None:
        """Raise ChildEndedError if it has ended."""
        if not self.is_running():
            raise ChildEndedError(self)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Ask `ready` until it says True.

        Raises ChildEndedError when the child ends first, ChildNotReadyError at the deadline.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.require_running()
            if time.monotonic() >= deadline:
                raise ChildNotReadyError(self, seconds)
            time.sleep(0.02)

    def exit_status(self) -> int | None:
        """Its exit status, negative for the signal that killed it; None while it runs."""
        return self._process.poll()

    def ending(self) -> str:
        """How it ended, in words: its exit status or the signal that killed it."""
        status = self._process.poll()
        if status is None:
            return "still running"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def last_log_lines(self, count: int = TOLD_LOG_LINES) -> list[str]:
        """The last lines it has written since this start."""
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - 64 * 1024))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]

    def stop(self, seconds: float | None = None) -> None:
        """SIGTERM, then SIGKILL for what is left after `seconds` (its own stop time if None)."""
        patience = self.program.stop_seconds if seconds is None else seconds
        try:
            if self.is_running() and patience > 0:
                self._signal(signal.SIGTERM)
                self._wait(patience)
        finally:
            if self.is_running():
                self._signal(signal.SIGKILL)
                self._wait(KILL_SECONDS)
            if self._held >= 0:
                os.close(self._held)
                self._held = -1

    def kill(self) -> None:
        """SIGKILL, without waiting for the end."""
        if not self._swept:
            self._signal(signal.SIGKILL)

    def _sweep(self) -> None:
        # What the child started and left. Only once, and at once: later the number of its
        # group may be somebody else's.
        if not self._swept:
            self._swept = True
            self._signal(signal.SIGKILL)

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def rotate(log_path: Path) -> None:
    """Set a log that has grown too large aside as `<name>.log.1`, replacing the one before."""
    try:
        if log_path.stat().st_size > ROTATED_LOG_BYTES:
            log_path.replace(log_path.with_name(f"{log_path.name}.1"))
    except FileNotFoundError:
        pass
