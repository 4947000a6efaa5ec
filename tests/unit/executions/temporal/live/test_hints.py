"""Hints: what heartbeats tell, how hints become events, and the queue they travel through."""

import math
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from executions.temporal.history.changes import ErrorDetails
from executions.temporal.live.hints import (
    ActivityHint,
    AttemptBegan,
    AttemptFailed,
    HeartbeatSent,
    HintQueue,
    RunSeen,
    one_status_each,
    progress_told,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def about(activity_id: str, attempt: int) -> dict[str, Any]:
    return {
        "workflow_id": "w",
        "run_id": "r",
        "activity_id": activity_id,
        "scheduled_at": NOW,
        "attempt": attempt,
    }


def began(activity_id: str, attempt: int = 1) -> AttemptBegan:
    return AttemptBegan(**about(activity_id, attempt), started_at=NOW)


def failed(activity_id: str, attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(**about(activity_id, attempt), error=ErrorDetails(None, "x"), ended_at=NOW)


def heartbeat(activity_id: str, share: float) -> HeartbeatSent:
    return HeartbeatSent(**about(activity_id, 1), sent_at=NOW, progress=share)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ((0,), 0.0),
        ((0.25, "more"), 0.25),
        ((1,), 1.0),
        (({"progress": 0.5},), 0.5),
        ((), None),
        ((-0.1,), None),
        ((1.1,), None),
        ((math.nan,), None),
        ((math.inf,), None),
        ((10**400,), None),
        ((True,), None),
        (({"progress": True},), None),
        (("0.5",), None),
        (({"share": 0.5},), None),
        ((None, 0.5), None),
    ],
)
def test_progress_is_a_share_or_nothing(details: tuple[Any, ...], expected: float | None) -> None:
    assert progress_told(details) == expected


def test_statuses_of_one_activity_become_events_of_their_own() -> None:
    hints: list[ActivityHint] = [began("a"), began("b"), failed("a"), began("a", 2)]
    assert one_status_each(hints) == [[began("a"), began("b")], [failed("a")], [began("a", 2)]]


def test_heartbeats_travel_with_a_status() -> None:
    hints: list[ActivityHint] = [began("a"), heartbeat("a", 0.1), heartbeat("a", 0.2)]
    assert one_status_each(hints) == [hints]
    assert one_status_each([]) == []


def test_hints_are_taken_in_order_with_the_newest_heartbeat_last() -> None:
    queue = HintQueue()
    for hint in (heartbeat("a", 0.1), RunSeen("w", "r"), began("a"), heartbeat("a", 0.2)):
        queue.put(hint)
    assert queue.take() == ([RunSeen("w", "r"), began("a"), heartbeat("a", 0.2)], 0)
    assert queue.take() == ([], 0)


def test_full_queue_drops_and_counts() -> None:
    queue = HintQueue(kept=2)
    for name in "abcd":
        queue.put(began(name))
        queue.put(heartbeat(name, 0.5))
    queue.put(heartbeat("a", 0.6))
    kept = [began("a"), began("b"), heartbeat("a", 0.6), heartbeat("b", 0.5)]
    assert queue.take() == (kept, 4)
    assert queue.take() == ([], 0)


def test_taker_is_woken_once_for_what_is_waiting() -> None:
    queue = HintQueue()
    woken: list[int] = []
    queue.call_when_filled(lambda: woken.append(1))
    queue.put(began("a"))
    queue.put(heartbeat("a", 0.1))
    assert woken == [1]
    queue.take()
    queue.put(heartbeat("a", 0.2))
    assert woken == [1, 1]
    queue.take()
    queue.call_when_filled(None)
    queue.put(began("b"))
    assert woken == [1, 1]
    queue.call_when_filled(lambda: woken.append(2))
    assert woken == [1, 1, 2]


def test_hints_put_by_many_threads_all_arrive() -> None:
    queue = HintQueue()

    def put_attempts(name: str) -> None:
        for attempt in range(1, 501):
            queue.put(began(name, attempt))

    threads = [threading.Thread(target=put_attempts, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hints, dropped = queue.take()
    assert (len(hints), dropped) == (2_000, 0)
    attempts: dict[str, list[int]] = {name: [] for name in "abcd"}
    for hint in hints:
        assert isinstance(hint, AttemptBegan)
        attempts[hint.activity_id].append(hint.attempt)
    assert attempts == {name: list(range(1, 501)) for name in "abcd"}
