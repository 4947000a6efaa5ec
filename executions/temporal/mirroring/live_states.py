"""Recording what happens between two events of a run's history: hints and descriptions.

Which of two tellings of a state stands is `precedence`'s to say. Every function opens its
own transactions, may be called again with what it was called with before, and raises what
`executions.recording` raises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import msgspec
from temporalio.api.common.v1 import Payload

from executions import ledger
from executions.attempts import AttemptNote, superseded
from executions.models import Activity, ActivityDetails
from executions.recording import Change as Changing
from executions.recording import UnknownExecutionError, changing
from executions.statuses import ActivityStatus, ExecutionStatus
from executions.temporal.history.failures import error_document, failed_attempt
from executions.temporal.history.names import fitted
from executions.temporal.history.payloads import shown_payloads
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.live.hints import (
    ActivityHint,
    AttemptBegan,
    AttemptFailed,
    HeartbeatSent,
    one_status_each,
)
from executions.temporal.live.precedence import Source, Standing, standing_after
from executions.temporal.mirroring.activity_rows import (
    begin_attempt,
    has_ended,
    standing_of,
    take,
)

DESCRIBED_PER_EVENT: Final = 500

_SAME_MOMENT: Final = timedelta(milliseconds=1)


def record_hints(execution_id: str, hints: Sequence[ActivityHint]) -> list[ActivityHint]:
    """Record what a worker knows; returns the hints whose activity is not there (yet).

    Each status that they tell becomes an event of its own. What is no news by now, or
    tells of an activity or execution that has ended, is for the ledger alone.
    """
    early: list[ActivityHint] = []
    for group in one_status_each(hints):
        try:
            with changing(execution_id) as change:
                early += _HintedPart(change, group).apply()
        except UnknownExecutionError:
            return list(hints)
    return early


def record_descriptions(execution_id: str, pending: Mapping[str, DescribedActivity]) -> None:
    """Record what Temporal says is pending, by the document's activity_id."""
    waiting = iter(pending.items())
    while part := dict(islice(waiting, DESCRIBED_PER_EVENT)):
        with changing(execution_id) as change:
            if ExecutionStatus(change.execution.status).is_final:
                return
            change.load_activities(part.keys())
            notes: list[AttemptNote] = []
            for activity_id, told in part.items():
                activity = change.find_activity(activity_id)
                if activity is not None and not has_ended(activity):
                    _apply_description(activity, told)
                    notes += [replace(note, activity_id=activity_id) for note in told.notes]
            ledger.note_attempts(execution_id, notes)


class _HintedPart:
    """Some hints about one run, applied to its execution within one transaction."""

    def __init__(self, change: Changing, hints: Sequence[ActivityHint]) -> None:
        self._change = change
        self._execution_id = change.execution.execution_id
        self._hints = hints
        self._is_over = ExecutionStatus(change.execution.status).is_final

    def apply(self) -> list[ActivityHint]:
        """Returns the hints that came before their activity."""
        early: list[ActivityHint] = []
        notes: list[AttemptNote] = []
        ids = self._ids_by_engine_id()
        self._change.load_activities([name for several in ids.values() for name in several])
        for hint in self._hints:
            several = [
                self._change.activity(name) for name in ids.get(fitted(hint.activity_id), ())
            ]
            activity = next((each for each in several if _is_about(hint, each)), None)
            if activity is not None:
                note = _noted(activity.activity_id, hint)
                if self._is_over or has_ended(activity):
                    note = superseded(note)
                else:
                    _apply_hint(activity, hint)
                notes.append(note)
            elif all(_is_before(each.scheduled_at, hint.scheduled_at) for each in several):
                early.append(hint)
        ledger.note_attempts(self._execution_id, notes)
        return [] if self._is_over else early

    def _ids_by_engine_id(self) -> dict[str, list[str]]:
        """The document's ids of the activities that Temporal calls so."""
        found: dict[str, list[str]] = {}
        rows = ActivityDetails.objects.filter(
            execution_id=self._execution_id,
            engine_activity_id__in={fitted(hint.activity_id) for hint in self._hints},
        )
        for engine_id, activity_id in rows.values_list("engine_activity_id", "activity_id"):
            found.setdefault(engine_id, []).append(activity_id)
        return found


def _apply_hint(activity: Activity, hint: ActivityHint) -> None:
    recorded = standing_of(activity)
    match hint:
        case AttemptBegan():
            begun = Standing(hint.attempt, ActivityStatus.RUNNING)
            stands = standing_after(recorded, begun, Source.INTERCEPTOR)
            if stands != recorded:
                begin_attempt(activity, stands, hint.started_at)
        case AttemptFailed() if hint.next_attempt_at is not None:
            failed = Standing(
                hint.attempt, ActivityStatus.RETRYING, next_attempt_at=hint.next_attempt_at
            )
            stands = standing_after(recorded, failed, Source.INTERCEPTOR)
            if stands != recorded:
                take(activity, stands)
                activity.error_details = error_document(hint.error)
                activity.progress = None
        case HeartbeatSent() if hint.progress is not None:
            if (recorded.attempt, recorded.status) == (hint.attempt, ActivityStatus.RUNNING):
                activity.progress = hint.progress


def _apply_description(activity: Activity, told: DescribedActivity) -> None:
    recorded = standing_of(activity)
    stands = standing_after(recorded, told.standing, Source.DESCRIPTION)
    is_news = (stands.attempt, stands.status) != (recorded.attempt, recorded.status)
    if is_news and stands.status is ActivityStatus.RUNNING:
        begin_attempt(activity, stands, told.started_at)
    else:
        take(activity, stands)
    if (stands.attempt, stands.status) != (told.standing.attempt, told.standing.status):
        return
    if told.error is not None:
        activity.error_details = error_document(told.error)
    if stands.status is not ActivityStatus.RUNNING:
        activity.progress = None
    elif told.progress is not None and told.progress > (activity.progress or 0.0):
        # The server's copy of heartbeats is throttled: a worker's own word may be ahead of it.
        activity.progress = told.progress


def _is_about(hint: ActivityHint, activity: Activity) -> bool:
    if activity.scheduled_at is None:
        return False
    return abs(activity.scheduled_at - hint.scheduled_at) < _SAME_MOMENT


def _is_before(scheduled_at: datetime | None, moment: datetime) -> bool:
    return scheduled_at is None or scheduled_at < moment


def _noted(activity_id: str, hint: ActivityHint) -> AttemptNote:
    note = AttemptNote(
        activity_id=activity_id, number=hint.attempt, worker_identity=hint.worker_identity
    )
    match hint:
        case AttemptBegan():
            return replace(note, scheduled_at=hint.attempt_scheduled_at, started_at=hint.started_at)
        case AttemptFailed():
            return replace(
                failed_attempt(activity_id, hint.attempt, hint.error),
                worker_identity=hint.worker_identity,
                ended_at=hint.ended_at,
                next_attempt_at=hint.next_attempt_at,
            )
        case HeartbeatSent():
            return replace(note, heartbeat_at=hint.sent_at, heartbeat_details=_shown(hint.details))
    return note


def _shown(details: Sequence[Any]) -> list[dict[str, Any]]:
    """A heartbeat's details as payloads that are shown."""
    return shown_payloads(_payload(detail) for detail in details)


def _payload(detail: Any) -> Payload:
    try:
        return Payload(metadata={"encoding": b"json/plain"}, data=msgspec.json.encode(detail))
    except Exception:
        # A worker's own object may fail at anything; the server's copy of it comes later.
        return Payload(metadata={"encoding": type(detail).__name__.encode()})
