"""What a description of a run says of its pending activities. Pure.

What the server (1.32) tells of each, as seen in tests/integration/test_temporal_descriptions.py:

| | state | attempt | next_attempt_schedule_time | last_started_time |
| --- | --- | --- | --- | --- |
| queued | SCHEDULED | 1 | - | - |
| running | STARTED | n | - | of n |
| backing off | SCHEDULED | n, counted on when n - 1 failed | of n | - |
| queued for its retry | SCHEDULED | n | - | - |
| asked to cancel while running | CANCEL_REQUESTED | n | - | of n |
| asked to pause while running | PAUSE_REQUESTED | n | - | of n |
| paused | PAUSED | that which would be next | - | - |

- A request to cancel what is not running ends it: it is pending no more. One that is asked
  to cancel and to pause tells CANCEL_REQUESTED.
- `scheduled_time` is that of the attempt which runs or waits, while backing off the time to
  come; of a paused one it may be that of the attempt before.
- `last_attempt_complete_time` is not set by a timeout: it then tells of an earlier attempt.
- Heartbeats, their time too, are kept through the attempts that follow, and the worker's
  identity until the next attempt begins.
- `last_failure` is cleared by unpausing. A reset activity begins at attempt 1 again and
  keeps it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo

from executions.attempts import AttemptNote
from executions.statuses import ActivityStatus, PendingState
from executions.temporal.history.changes import ErrorDetails
from executions.temporal.history.failures import error_of_failure, failed_attempt
from executions.temporal.history.message_values import moment_of
from executions.temporal.history.names import fitted
from executions.temporal.history.payloads import shown_payloads
from executions.temporal.live.hints import progress_told
from executions.temporal.live.precedence import Standing

_ASKED: Final[dict[int, PendingState]] = {
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED: PendingState.CANCEL_REQUESTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED: PendingState.PAUSE_REQUESTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED: PendingState.PAUSED,
}
_MAY_RUN: Final = frozenset(
    {
        PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedActivity:
    """One pending activity, by the id that Temporal calls it; so do its notes.

    `scheduled_at` is that of the attempt which runs or waits, `started_at` that of the
    attempt that `standing` names, where it is known. `error` is why the latest attempt that
    failed did so, `progress` what the running one told.
    """

    engine_activity_id: str
    scheduled_at: datetime | None
    standing: Standing
    started_at: datetime | None
    error: ErrorDetails | None
    progress: float | None
    notes: tuple[AttemptNote, ...]


def described(pending: PendingActivityInfo, *, keep_payloads: bool = True) -> DescribedActivity:
    """What is told of a pending activity, whose payloads and failures are decoded already.

    Without `keep_payloads` its notes hold no details of heartbeats.
    """
    return _Described(pending, keep_payloads).told()


class _Described:
    def __init__(self, pending: PendingActivityInfo, keep_payloads: bool) -> None:
        self._pending = pending
        self._keep_payloads = keep_payloads
        self._id = fitted(pending.activity_id)
        self._attempt = max(1, pending.attempt)
        self._asked = _ASKED.get(pending.state)
        self._scheduled_at = self._moment("scheduled_time")
        self._started_at = self._moment("last_started_time")
        self._completed_at = self._moment("last_attempt_complete_time")
        self._heartbeat_at = self._moment("last_heartbeat_time")
        self._heartbeat = shown_payloads(pending.heartbeat_details.payloads)
        self._error = (
            error_of_failure(pending.last_failure) if pending.HasField("last_failure") else None
        )
        self._is_running = self._runs()

    def told(self) -> DescribedActivity:
        progress = None
        if self._heartbeat_is_of(self._attempt):
            progress = progress_told([entry["value"] for entry in self._heartbeat])
        notes = (self._failed_attempt(), self._running_attempt())
        return DescribedActivity(
            engine_activity_id=self._id,
            scheduled_at=self._scheduled_at,
            standing=self._standing(),
            started_at=self._started_at if self._is_running else None,
            error=self._error,
            progress=progress,
            notes=tuple(note for note in notes if note is not None),
        )

    def _runs(self) -> bool:
        state = self._pending.state
        if state not in _MAY_RUN:
            return state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        return self._started_at is not None and (
            self._completed_at is None or self._completed_at <= self._started_at
        )

    def _standing(self) -> Standing:
        if self._is_running:
            return Standing(self._attempt, ActivityStatus.RUNNING, self._asked)
        if self._attempt == 1:
            return Standing(1, ActivityStatus.PENDING, self._asked)
        next_attempt_at = self._moment("next_attempt_schedule_time")
        if self._asked is PendingState.PAUSED:
            next_attempt_at = None
        return Standing(self._attempt - 1, ActivityStatus.RETRYING, self._asked, next_attempt_at)

    def _running_attempt(self) -> AttemptNote | None:
        if not self._is_running:
            return None
        return AttemptNote(
            activity_id=self._id,
            number=self._attempt,
            worker_identity=fitted(self._pending.last_worker_identity),
            scheduled_at=self._scheduled_at,
            started_at=self._started_at,
            **self._heartbeat_of(self._attempt),
        )

    def _failed_attempt(self) -> AttemptNote | None:
        """The one before the one that runs or waits."""
        error, number = self._error, self._attempt - 1
        if error is None or number == 0:
            return None
        is_scheduled = self._is_running or self._asked is None
        return replace(
            failed_attempt(self._id, number, error),
            worker_identity="" if self._is_running else fitted(self._pending.last_worker_identity),
            ended_at=None if error.is_timeout else self._completed_at,
            next_attempt_at=self._scheduled_at if is_scheduled else None,
            **self._heartbeat_of(number),
        )

    def _heartbeat_of(self, number: int) -> dict[str, Any]:
        """What a note of that attempt says of its last heartbeat."""
        if not self._heartbeat_is_of(number):
            return {}
        return {
            "heartbeat_at": self._heartbeat_at,
            "heartbeat_details": self._heartbeat if self._keep_payloads else None,
        }

    def _heartbeat_is_of(self, number: int) -> bool:
        """Whether the last heartbeat surely was that attempt's."""
        if self._heartbeat_at is None:
            return False
        begun_at = self._started_at if self._is_running else None
        is_of_running = begun_at is not None and self._heartbeat_at >= begun_at
        if number == self._attempt:
            return is_of_running
        # When a later attempt began is not told once it has failed.
        return number == 1 and not is_of_running

    def _moment(self, name: str) -> datetime | None:
        pending: Any = self._pending
        return moment_of(getattr(pending, name)) if pending.HasField(name) else None
