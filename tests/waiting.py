"""Waiting for a condition that another thread or process brings about."""

import time
from collections.abc import Callable
from typing import Final

DEADLINE_SECONDS: Final = 20.0
_BETWEEN_LOOKS_SECONDS: Final = 0.01


def wait_until(condition: Callable[[], bool], deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as the condition holds; fails at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_seconds} s: {condition}"
        time.sleep(_BETWEEN_LOOKS_SECONDS)
