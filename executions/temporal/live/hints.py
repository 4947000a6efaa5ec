"""What a worker knows first: runs seen, attempts begun and failed, heartbeats sent.

Hints make states visible as they happen; history says what is true. So a hint never says
how an activity ended, and one that gets lost costs immediacy and nothing else.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from executions.temporal.history.changes import ErrorDetails

HINTS_KEPT: Final = 10_000
"""Hints that may wait to be taken; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A worker has a task of this run."""

    workflow_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityHint:
    """Something about one attempt of an activity, by the id Temporal calls it.

    `scheduled_at` is when the activity was scheduled, not its attempt.
    """

    workflow_id: str
    run_id: str
    activity_id: str
    scheduled_at: datetime
    attempt: int
    worker_identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegan(ActivityHint):
    started_at: datetime
    attempt_scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(ActivityHint):
    """`next_attempt_at` is set where, as far as the worker can tell, another will follow."""

    error: ErrorDetails
    ended_at: datetime
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSent(ActivityHint):
    """`progress` is the share from 0 to 1 that its `details` told."""

    sent_at: datetime
    progress: float | None = None
    details: tuple[Any, ...] = ()


Hint = RunSeen | AttemptBegan | AttemptFailed | HeartbeatSent


def progress_told(details: Sequence[Any]) -> float | None:
    """The progress that a heartbeat's details tell, or None.

    Told is `0.25` or `{"progress": 0.25}` as the first detail, from 0 to 1.
    """
    told = details[0] if details else None
    if isinstance(told, dict):
        told = told.get("progress")
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 <= told <= 1 else None


def one_status_each(hints: Iterable[ActivityHint]) -> list[list[ActivityHint]]:
    """Split hints, in order, so that no group tells two statuses of one activity.

    A group becomes one event; a status that another one replaced within it would never
    be seen.
    """
    groups: list[list[ActivityHint]] = [[]]
    told: set[str] = set()
    for hint in hints:
        if not isinstance(hint, HeartbeatSent):
            if hint.activity_id in told:
                groups.append([])
                told = set()
            told.add(hint.activity_id)
        groups[-1].append(hint)
    return [group for group in groups if group]


class HintQueue:
    """From a worker's threads to the one that takes: bounded, never blocks, never raises.

    Only the newest heartbeat of an activity is kept.
    """

    def __init__(self, kept: int = HINTS_KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._hints: deque[Hint] = deque()
        self._heartbeats: dict[tuple[str, str], HeartbeatSent] = {}
        self._dropped = 0
        self._wake: Callable[[], None] | None = None

    def put(self, hint: Hint) -> None:
        """Add a hint, from any thread; drops it where too many are waiting."""
        with self._lock:
            was_empty = not self._hints and not self._heartbeats
            if isinstance(hint, HeartbeatSent):
                key = (hint.run_id, hint.activity_id)
                if key in self._heartbeats or len(self._heartbeats) < self._kept:
                    self._heartbeats[key] = hint
                else:
                    self._dropped += 1
            elif len(self._hints) < self._kept:
                self._hints.append(hint)
            else:
                self._dropped += 1
            wake = self._wake if was_empty else None
        if wake is not None:
            wake()

    def take(self) -> tuple[list[Hint], int]:
        """The waiting hints in order, heartbeats last, and how many were dropped meanwhile."""
        with self._lock:
            hints, dropped = [*self._hints, *self._heartbeats.values()], self._dropped
            self._hints.clear()
            self._heartbeats.clear()
            self._dropped = 0
        return hints, dropped

    def call_when_filled(self, wake: Callable[[], None] | None) -> None:
        """Have `wake` called, by whichever thread puts, when the queue stops being empty.

        `wake` must not block or raise. None ends it.
        """
        with self._lock:
            self._wake = wake
            filled = bool(self._hints or self._heartbeats)
        if filled and wake is not None:
            wake()
