"""Removing what is kept no longer: old events, and whole executions that ended long ago.

Nothing here is done in one go: each step is a transaction of a few hundred rows, and as
much time as it took is left to writers before the next. So a run may be killed anywhere,
and the next goes on; any number at once do no harm.

A log stays dense from its first kept event on, at every moment: events go from the oldest
upward, and the newest, the final snapshot where there is one, never goes alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection, models, transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from executions.models import ActivityDetails, Attempt, Event, Execution, Point
from executions.signals import execution_removed
from executions.statuses import ExecutionStatus

ROWS_PER_STEP: Final = 500
EXECUTIONS_PER_PAGE: Final = 500
SHORTEST_PAUSE_SECONDS: Final = 0.002

_LEDGER: Final[tuple[type[models.Model], ...]] = (Attempt, ActivityDetails, Point)

Pause = Callable[[float], None]


class Removed(NamedTuple):
    """What was removed of one execution: so many events, and it itself or only those."""

    execution_id: str
    events: int
    is_whole: bool


def remove_events(before: datetime, pause: Pause = time.sleep) -> Iterator[Removed]:
    """Remove each execution's events from before that moment, except its newest.

    Yields after every step.
    """
    for execution_id, head_sequence in _with_events(before):
        old = _events(execution_id).filter(
            milliseconds__lt=_milliseconds(before), sequence__lt=head_sequence
        )
        while count := _remove_some(old.order_by("sequence"), pause):
            yield Removed(execution_id, count, is_whole=False)


def count_events(before: datetime) -> Iterator[Removed]:
    """What `remove_events` would remove, execution by execution."""
    for execution_id, head_sequence in _with_events(before):
        old = _events(execution_id).filter(
            milliseconds__lt=_milliseconds(before), sequence__lt=head_sequence
        )
        yield Removed(execution_id, old.count(), is_whole=False)


def remove_executions(before: datetime, pause: Pause = time.sleep) -> Iterator[Removed]:
    """Remove the executions that ended before that moment, with all that is kept of them.

    What can be of any size goes first, in steps; what the document shows goes at once, at
    the end, when `signals.execution_removed` is sent. Yields after every step; an
    execution that is being removed by somebody else is left to them.
    """
    for execution_id in _ended(before):
        events = _events(execution_id).filter(
            sequence__lt=Subquery(Execution.objects.filter(pk=execution_id).values("head_sequence"))
        )
        while count := _remove_some(events.order_by("sequence"), pause):
            yield Removed(execution_id, count, is_whole=False)
        for ledger in _LEDGER:
            while _remove_some(_rows(ledger).filter(execution_id=execution_id), pause):
                yield Removed(execution_id, 0, is_whole=False)
        if _remove_the_rest(execution_id, before, pause):
            yield Removed(execution_id, 1, is_whole=True)


def count_executions(before: datetime) -> Iterator[Removed]:
    """What `remove_executions` would remove, execution by execution."""
    for execution_id in _ended(before):
        yield Removed(execution_id, _events(execution_id).count(), is_whole=True)


def _with_events(before: datetime) -> Iterator[tuple[str, int]]:
    """The executions with events to remove, and the sequences of their heads."""
    first = Event.objects.filter(execution_id=OuterRef("pk")).order_by("sequence")
    executions = Execution.objects.annotate(
        first_milliseconds=Subquery(first.values("milliseconds")[:1]),
        first_sequence=Subquery(first.values("sequence")[:1]),
    ).filter(first_milliseconds__lt=_milliseconds(before), first_sequence__lt=F("head_sequence"))
    for page in _pages(executions.values_list("pk", "head_sequence")):
        yield from page


def _ended(before: datetime) -> Iterator[str]:
    final = [status.value for status in ExecutionStatus if status.is_final]
    executions = Execution.objects.filter(
        Q(completed_at__lt=before)
        | Q(completed_at=None, head_milliseconds__lt=_milliseconds(before)),
        status__in=final,
    )
    for page in _pages(executions.values_list("pk")):
        for (execution_id,) in page:
            yield execution_id


def _pages(executions: "QuerySet[Any, Any]") -> Iterator[list[tuple[Any, ...]]]:
    """Rows that begin with the key, a page at a time, so that no query stays open meanwhile."""
    after = ""
    while page := list(executions.filter(pk__gt=after).order_by("pk")[:EXECUTIONS_PER_PAGE]):
        yield page
        after = page[-1][0]


def _remove_some(rows: "QuerySet[Any]", pause: Pause) -> int:
    with _step(pause):
        # Waits for another run that is just removing the same, which must not be passed by:
        # were it to fail, it would leave older events than the ones removed here.
        keys = list(rows.select_for_update().values_list("pk", flat=True)[:ROWS_PER_STEP])
        _rows(rows.model).filter(pk__in=keys).delete()
    return len(keys)


def _remove_the_rest(execution_id: str, before: datetime, pause: Pause) -> bool:
    with _step(pause):
        skips = connection.features.has_select_for_update_skip_locked
        execution = Execution.unrecorded_writes.filter(pk=execution_id)
        if not execution.select_for_update(skip_locked=skips).exists():
            return False
        execution_removed.send(sender=Execution, execution_id=execution_id, finished_before=before)
        execution.delete()
    return True


@contextmanager
def _step(pause: Pause) -> Iterator[None]:
    """A transaction, and then as long a pause: who waits for a lock is to get it."""
    began = time.monotonic()
    with transaction.atomic():
        yield
    pause(max(time.monotonic() - began, SHORTEST_PAUSE_SECONDS))


def _events(execution_id: str) -> "QuerySet[Event]":
    return Event.unrecorded_writes.filter(execution_id=execution_id)


def _rows(model: type[models.Model]) -> "QuerySet[Any]":
    """The way past the guards of `recorded_rows`: nothing that a viewer is shown changes."""
    rows: QuerySet[Any] = model.unrecorded_writes.all()  # type: ignore[attr-defined]
    return rows


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
