"""What is done step by step while other things go on, one after another."""

import time
from collections import deque
from collections.abc import Generator
from typing import Final

Steps = Generator[float, None, str]
"""Yields how long to wait, and goes on afterwards; returns what was done, for people."""

BETWEEN_LOOKS_SECONDS: Final = 0.1


class Lane:
    """What follows one another: each begins when it is due and what was before it has ended."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Steps]] = deque()
        """With the moments when they are due, after the beginning."""
        self._current: Steps | None = None
        self._wake_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is at work, and nothing waits."""
        return self._current is None and not self.waiting

    def go_on(self, began_at: float) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._current is None and self.waiting and now >= began_at + self.waiting[0][0]:
            self._current = self.waiting.popleft()[1]
            self._wake_at = now
        if self._current is not None and now >= self._wake_at:
            try:
                self._wake_at = time.monotonic() + next(self._current)
            except StopIteration:
                self._current = None
