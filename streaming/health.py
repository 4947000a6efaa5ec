"""Whether this process keeps up with what it is to publish."""

import time
from typing import Any, Final

from executions.health import Check
from streaming.activity_update_publisher import publisher

GROWTH_SECONDS: Final = 10.0
"""A backlog that has not become smaller in so long counts as growing."""


class BacklogTrend:
    """Whether a backlog grows, judged by its sizes at the looks taken at it."""

    def __init__(self) -> None:
        self._then = 0.0
        self._size_then = 0
        self._grows = False

    def grows(self, size: int, now: float) -> bool:
        """Take a look at `now` (seconds): True from when it has not shrunk for GROWTH_SECONDS."""
        if size == 0 or self._size_then == 0:
            self._then, self._size_then, self._grows = now, size, False
        elif now - self._then >= GROWTH_SECONDS:
            self._grows = size >= self._size_then
            self._then, self._size_then = now, size
        return self._grows


_trend = BacklogTrend()


def check_publishing(**_: Any) -> Check:
    """Receiver of `executions.health.health_asked`."""
    size = publisher().backlog_size
    if _trend.grows(size, time.monotonic()):
        return Check("publishing", False, f"A backlog of {size} executions does not shrink.")
    told = f"{size} executions wait to be published." if size else "Nothing waits."
    return Check("publishing", True, told)
