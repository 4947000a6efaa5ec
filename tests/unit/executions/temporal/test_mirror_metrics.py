"""How far the mirror is behind, as its metrics tell."""

import time

import pytest
from prometheus_client import REGISTRY
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal import metrics
from executions.temporal.worker_health import _check_following


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def an_event(seconds_ago: float) -> HistoryEvent:
    event = HistoryEvent()
    event.event_time.FromNanoseconds(time.time_ns() - int(seconds_ago * 1e9))
    return event


def test_what_waits_longest_is_told_until_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("executions.temporal.metrics.time.monotonic", lambda: now)
    assert value("nexus_history_waiting_seconds") == 0
    with metrics.recording():
        now = 103.0
        with metrics.recording():
            now = 104.0
            assert value("nexus_history_waiting_seconds") == 4
    assert value("nexus_history_waiting_seconds") == 0


def test_what_fails_to_be_recorded_waits_no_longer() -> None:
    with pytest.raises(ZeroDivisionError), metrics.recording():
        raise ZeroDivisionError
    assert value("nexus_history_waiting_seconds") == 0


def test_the_lag_is_from_the_events_own_time() -> None:
    count, total = (f"nexus_history_lag_seconds_{what}" for what in ("count", "sum"))
    before = value(count), value(total)
    metrics.recorded(an_event(seconds_ago=20))
    assert value(count) == before[0] + 1
    assert 19.9 < value(total) - before[1] < 25


def test_an_event_of_a_clock_that_is_ahead_has_no_lag() -> None:
    before = value("nexus_history_lag_seconds_sum")
    metrics.recorded(an_event(seconds_ago=-60))
    assert value("nexus_history_lag_seconds_sum") == before


def test_following_holds_while_the_lease_was_held_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("executions.temporal.metrics.time.monotonic", lambda: now)
    monkeypatch.setattr(metrics, "_held_at", None)
    assert _check_following().told == "The worker has not begun to follow runs."
    metrics.lease_held()
    now = 104.0
    assert _check_following().ok
    now = 106.0
    check = _check_following()
    assert (check.ok, check.told) == (False, "The lease was last held 6 seconds ago.")
