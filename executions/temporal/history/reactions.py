"""What a workflow had seen end when it scheduled something: where `depends_on` comes from. Pure.

A workflow task is given everything that happened before it started. What ended is held
against the next activities to be scheduled, by that task or, where it schedules none (it
waits for a second activity, a timer, a signal), by the next that does.

A local activity ends, and is reacted to, while the task goes on: its end begins another
*activation*, a stretch of workflow code that runs at once. Its marker is told at its end,
so the activation that scheduled it is found by the time at which it was scheduled.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from executions.temporal.history.message_values import EARLIEST, LATEST

CLOCKS_APART: Final = timedelta(seconds=1)
"""How far a worker's clock may be behind the server's.

A local activity is scheduled by its worker's clock: only what ended later than this after
it was scheduled is known to have come too late for it.
"""


class Ended(NamedTuple):
    event_id: int
    scheduled_event_id: int
    activity_id: str
    at: datetime


class LocalReaction(NamedTuple):
    """What is known of a local activity's scheduling; `ran` is how long its last attempt took."""

    depends_on: tuple[str, ...]
    scheduled_at: datetime
    ran: timedelta


@dataclass(slots=True)
class _Activation:
    """It has seen `ended[first:behind]` of what ended, and used what ended until `used_until`.

    `began_at` is by the worker's clock, and no later than it was; `workflow_time` is what
    the workflow took the time to be.
    """

    began_at: datetime
    workflow_time: datetime
    first: int
    behind: int
    used_until: datetime = EARLIEST
    all_seen: tuple[str, ...] | None = None
    latest: datetime = EARLIEST


class Reactions:
    def __init__(self) -> None:
        self._undelivered: list[Ended] = []
        self._ended: list[Ended] = []
        self._task_started_at = EARLIEST
        self._activations = [_Activation(EARLIEST, EARLIEST, 0, 0)]

    def ended(self, ended: Ended) -> None:
        """Something ended that a workflow task will be told of."""
        self._undelivered.append(ended)

    def task_started(self, at: datetime) -> None:
        self._task_started_at = at

    def task_completed(self, task_started_event_id: int) -> None:
        waiting, self._undelivered = self._undelivered, []
        delivered: list[Ended] = []
        for ended in waiting:
            is_delivered = ended.event_id < task_started_event_id
            (delivered if is_delivered else self._undelivered).append(ended)
        self._activations = [self._next(EARLIEST, self._task_started_at, delivered)]

    def scheduling(self) -> tuple[str, ...]:
        """The ids of what was seen to end, in the order in which it was scheduled."""
        return self._seen(self._activations[-1], LATEST)

    def local_activity(
        self, scheduled_at: datetime | None, completed_at: datetime | None
    ) -> LocalReaction:
        """What a local activity was a reaction to; `completed_at` is by the workflow's time.

        Where it is not told when it was scheduled, it counts as what the task began with.
        """
        activation = self._activations[self._index_at(scheduled_at)]
        until = LATEST if scheduled_at is None else later(scheduled_at, CLOCKS_APART)
        ran = (completed_at or activation.workflow_time) - activation.workflow_time
        return LocalReaction(
            self._seen(activation, until),
            activation.workflow_time if scheduled_at is None else scheduled_at,
            max(ran, timedelta()),
        )

    def local_activity_ended(
        self, ended: Ended, scheduled_at: datetime | None, ran: timedelta
    ) -> None:
        """A local activity ended: what the workflow schedules next may be because of that."""
        last = self._activations[-1]
        began_at = last.began_at
        if scheduled_at is not None:
            began_at = max(began_at, later(scheduled_at, ran))
        workflow_time = max(last.workflow_time, ended.at)
        self._activations.append(self._next(began_at, workflow_time, [ended]))

    def _index_at(self, scheduled_at: datetime | None) -> int:
        if scheduled_at is None:
            return 0
        behind = bisect_right(
            self._activations, scheduled_at, key=lambda activation: activation.began_at
        )
        return max(0, behind - 1)

    def _next(
        self, began_at: datetime, workflow_time: datetime, delivered: list[Ended]
    ) -> _Activation:
        last = self._activations[-1]
        first = last.first
        if last.used_until >= LATEST:
            first = last.behind
        elif last.used_until > EARLIEST:
            unused = self._ended[last.first : last.behind]
            first = last.behind
            self._ended += [ended for ended in unused if ended.at > last.used_until]
        self._ended += delivered
        return _Activation(began_at, workflow_time, first, len(self._ended))

    def _seen(self, activation: _Activation, until: datetime) -> tuple[str, ...]:
        activation.used_until = max(activation.used_until, until)
        if activation.all_seen is not None and until >= activation.latest:
            return activation.all_seen
        seen = self._ended[activation.first : activation.behind]
        if activation.all_seen is None:
            activation.all_seen = _in_order(seen)
            activation.latest = max((ended.at for ended in seen), default=EARLIEST)
        return _in_order([ended for ended in seen if ended.at <= until])


def later(moment: datetime, by: timedelta) -> datetime:
    """The moment that much later, or the latest there is."""
    try:
        return moment + by
    except OverflowError:
        return LATEST


def _in_order(ended: list[Ended]) -> tuple[str, ...]:
    by_scheduling = sorted(ended, key=lambda one: one.scheduled_event_id)
    return tuple(one.activity_id for one in by_scheduling)
