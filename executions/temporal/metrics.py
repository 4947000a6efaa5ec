"""Prometheus metrics of the mirror of Temporal's runs, in the default registry.

How far the mirror is behind is seen from two sides: what has been recorded tells how late
it was, what waits tells for how long.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from temporalio.api.history.v1 import HistoryEvent

runs_followed: Final = Gauge("nexus_runs_followed", "Runs that this process follows.")
runs_taken_over: Final = Counter(
    "nexus_runs_taken_over", "Runs that another process had followed before."
)
history_lag_seconds: Final = Histogram(
    "nexus_history_lag_seconds",
    "From the time of an event of a history, by Temporal's clock, to its being recorded.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
history_waiting_seconds: Final = Gauge(
    "nexus_history_waiting_seconds",
    "For how long the oldest part of a history that was read waits to be recorded.",
)
history_read_failures: Final = Counter(
    "nexus_history_read_failures", "Attempts at reading a history that Temporal did not answer."
)
record_failures: Final = Counter(
    "nexus_record_failures", "Attempts at recording that the database did not take."
)
hints_dropped: Final = Counter(
    "nexus_hints_dropped", "Hints of interceptors for which there was no room."
)
temporal_limits: Final = Counter(
    "nexus_temporal_limits", "Pauses because Temporal's limit of calls was reached."
)
lease_held_timestamp_seconds: Final = Gauge(
    "nexus_lease_held_timestamp_seconds",
    "When this process last held its lease and looked for runs to take over.",
)

_waiting: Final[dict[object, float]] = {}
_held_at: float | None = None


@contextmanager
def recording() -> Iterator[None]:
    """Count a part of a history as waiting to be recorded within the block."""
    key = object()
    _waiting[key] = time.monotonic()
    try:
        yield
    finally:
        del _waiting[key]


def recorded(last: HistoryEvent) -> None:
    """Note that history has been recorded up to this event."""
    history_lag_seconds.observe(max(0.0, time.time() - last.event_time.ToMilliseconds() / 1000))


def lease_held() -> None:
    """Note that the lease is held at this moment."""
    global _held_at
    _held_at = time.monotonic()
    lease_held_timestamp_seconds.set_to_current_time()


def seconds_since_lease_held() -> float | None:
    """None where it has never been."""
    return None if _held_at is None else time.monotonic() - _held_at


def _oldest_waits() -> float:
    # In the order in which they came: the first is the oldest.
    oldest = next(iter(_waiting.copy().values()), None)
    return 0.0 if oldest is None else time.monotonic() - oldest


history_waiting_seconds.set_function(_oldest_waits)
