"""When to stop: a signal, or the end of the process that started this one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_REQUEST_SECONDS = 1.0
PARENT_POLL_SECONDS = 0.25


class StopRequested(KeyboardInterrupt):
    """Raised in the main thread, wherever it is, by the first signal that asks to stop."""


class StopRequests:
    """What a stop signal does, for as long as this is entered.

    The first of SIGINT, SIGTERM and SIGHUP raises StopRequested; one that comes a second
    after it, or after `stopping()`, calls `hurry`: who asks again does not want to wait.
    (Make and the terminal may each deliver one and the same request.) A SIGHUP that `nohup`
    has switched off stays off.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._stopping_since: float | None = None

    def stopping(self) -> None:
        """No signal raises from here on: the stop is under way."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in STOP_SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping_since is None:
            self.stopping()
            raise StopRequested
        if time.monotonic() - self._stopping_since > SAME_REQUEST_SECONDS:
            self._hurry()


def stop_when_parent_exits(parent: int | None = None) -> None:
    """From now on, the end of process `parent` (by default the present parent) is a SIGTERM here.

    A caller that knows its own number passes it: it may have ended before this is reached.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
