"""Which of two tellings of an activity's state stands: the one rule for all sources. Pure.

History tells what is true, in order but late; a description of the run (`describe`) what is
pending, as it was a moment ago; an interceptor what one worker sees, at once. So:

- what has ended stays ended, and only history ends anything;
- otherwise the greater (attempt, rank of status) stands, whoever tells it;
- of equal ones, a description knows what was asked of the activity and when it is tried
  next; a worker fills that in; history adds a request to cancel;
- a request to cancel is never taken back, a pause ends where an attempt begins.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from executions.statuses import ActivityStatus, PendingState

ESTIMATED_WITHIN: Final = timedelta(seconds=0.5)
"""So near, a worker's estimate of the next attempt is as good as the server's word."""


class Source(Enum):
    """Who tells."""

    HISTORY = auto()
    DESCRIPTION = auto()
    INTERCEPTOR = auto()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an activity stands; `next_attempt_at` is known while it backs off."""

    attempt: int
    status: ActivityStatus
    pending_state: PendingState | None = None
    next_attempt_at: datetime | None = None

    @property
    def _progress(self) -> tuple[int, int]:
        return self.attempt, self.status.rank


def standing_after(recorded: Standing, told: Standing, source: Source) -> Standing:
    """Where the activity stands once `source` has told so."""
    if recorded.status.is_final:
        return recorded
    if told.status.is_final:
        if source is not Source.HISTORY:
            return recorded
        return Standing(max(recorded.attempt, told.attempt), told.status)
    if told._progress < recorded._progress:
        stands = recorded
    elif told._progress > recorded._progress:
        stands = told
    else:
        stands = replace(recorded, next_attempt_at=_next_attempt_at(recorded, told, source))
    return replace(stands, pending_state=_pending_state(recorded, told, source))


def _next_attempt_at(recorded: Standing, told: Standing, source: Source) -> datetime | None:
    known, described = recorded.next_attempt_at, told.next_attempt_at
    if source is not Source.DESCRIPTION:
        return known or described
    if known and described and abs(described - known) < ESTIMATED_WITHIN:
        return known
    return described


def _pending_state(recorded: Standing, told: Standing, source: Source) -> PendingState | None:
    if PendingState.CANCEL_REQUESTED in (recorded.pending_state, told.pending_state):
        return PendingState.CANCEL_REQUESTED
    if source is Source.DESCRIPTION and told._progress >= recorded._progress:
        return told.pending_state
    if told.status is ActivityStatus.RUNNING and told._progress > recorded._progress:
        # What was paused and begins is paused no more.
        return None
    return recorded.pending_state
