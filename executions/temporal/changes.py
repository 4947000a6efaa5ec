"""What a run's history says has changed, as small facts. Pure.

They carry the ids of the document: an activity id that a run uses again has been told
apart already (see `history`).
"""

from dataclasses import dataclass
from datetime import datetime

from executions.statuses import ActivityStatus, ExecutionStatus


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """Why something failed or was ended."""

    type: str | None
    message: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    workflow_id: str
    workflow_type: str
    run_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ActivityScheduled:
    """`depends_on` holds the activities whose end the workflow had seen when it scheduled this."""

    activity_id: str
    activity_name: str
    activity_type: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActivityStarted:
    """The attempt that history knows of: the last one, mostly told together with its end."""

    activity_id: str
    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ActivityClosed:
    activity_id: str
    status: ActivityStatus
    completed_at: datetime
    error: ErrorDetails | None = None


@dataclass(frozen=True, slots=True)
class RunClosed:
    """`next_run_id` names the run that goes on where this one ends, if any."""

    status: ExecutionStatus
    completed_at: datetime
    error: ErrorDetails | None = None
    next_run_id: str | None = None


ActivityChange = ActivityScheduled | ActivityStarted | ActivityClosed
Change = RunStarted | ActivityChange | RunClosed
