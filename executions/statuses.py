"""Statuses of executions and activities, and which may follow which. Pure."""

from enum import StrEnum
from typing import Final

from executions.errors import RecordingError


class TransitionRefusedError(RecordingError):
    """The change would take an execution or an activity backwards, or past its end."""


class ExecutionStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"
    CONTINUED_AS_NEW = "continued_as_new"

    @property
    def is_final(self) -> bool:
        return self not in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING)


class ActivityStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        return self.rank == _FINAL_RANK

    @property
    def rank(self) -> int:
        """How far along its attempt an activity is; with the attempt it only grows."""
        return _RANKS.get(self, _FINAL_RANK)


class PendingState(StrEnum):
    """What was asked of an activity that has not ended, beside its status."""

    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    PAUSED = "paused"


_RANKS: Final = {ActivityStatus.PENDING: 0, ActivityStatus.RUNNING: 1, ActivityStatus.RETRYING: 2}
_FINAL_RANK: Final = 3


def check_execution_transition(before: ExecutionStatus, after: ExecutionStatus) -> None:
    """Raise TransitionRefusedError unless an execution may go from `before` to `after`."""
    if before == after:
        return
    if before.is_final:
        raise TransitionRefusedError(
            f"the execution is {before}, which is final: it cannot become {after}"
        )
    if after is ExecutionStatus.PENDING:
        raise TransitionRefusedError(f"an execution that is {before} cannot become pending again")


def check_activity_transition(
    before: tuple[int, ActivityStatus], after: tuple[int, ActivityStatus]
) -> None:
    """Raise TransitionRefusedError unless an activity may go from `before` to `after`.

    Both are (attempt, status). A final status stays; otherwise (attempt, rank) only
    grows, `skipped` comes only from `pending`, and `pending` is never come back to.
    """
    if before == after:
        return
    (attempt_before, status_before), (attempt_after, status_after) = before, after
    told = (
        f"from attempt {attempt_before} {status_before} to attempt {attempt_after} {status_after}"
    )
    if status_before.is_final:
        raise TransitionRefusedError(f"an activity does not go {told}: {status_before} is final")
    if (attempt_after, status_after.rank) <= (attempt_before, status_before.rank):
        raise TransitionRefusedError(
            f"an activity does not go {told}: attempt and status only go forward"
        )
    if status_after is ActivityStatus.PENDING:
        raise TransitionRefusedError(
            f"an activity does not go {told}: one that waits for its next attempt is retrying"
        )
    if status_after is ActivityStatus.SKIPPED and status_before is not ActivityStatus.PENDING:
        raise TransitionRefusedError(f"an activity does not go {told}: it has begun")
