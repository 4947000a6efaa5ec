"""What a run's history says has changed, as small facts. Pure.

They carry the ids of the document: an activity id that a run uses again, and what a
workflow definition planned, have been told apart already (see `history`). Payloads are
*shown payloads* (see `payloads`): JSON, of bounded size.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus, ExecutionStatus

ShownPayloads = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """Why something failed or was ended; stack trace and `is_timeout` are for the ledger alone."""

    type: str | None
    message: str
    stack_trace: str = ""
    is_timeout: bool = False


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`parent_run_id` names the run whose child this is, `previous_run_id` the one it goes on from.

    `definition` is the workflow definition given with the start, as JSON data.
    """

    workflow_id: str
    workflow_type: str
    run_id: str
    started_at: datetime
    parent_run_id: str | None = None
    previous_run_id: str | None = None
    definition: Any = None


@dataclass(frozen=True, slots=True)
class RunLinked:
    """The run turned out to go on from another: it was made by resetting that one."""

    previous_run_id: str


@dataclass(frozen=True, slots=True)
class ActivityScheduled:
    """`depends_on` holds the activities whose end the workflow had seen when it scheduled this.

    `engine_activity_id` is the id that Temporal calls it by; empty for what pending
    activities and workers never name (timers, child workflows, local activities).
    """

    activity_id: str
    activity_name: str
    activity_type: str
    depends_on: tuple[str, ...]
    scheduled_at: datetime
    engine_activity_id: str = ""
    task_queue: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    input: ShownPayloads | None = None


@dataclass(frozen=True, slots=True)
class ActivityStarted:
    """An attempt that history knows of: the last one, mostly told together with its end.

    `last_failure` is why the attempt before it failed. `child_run_id` names the run that
    a child workflow has begun.
    """

    activity_id: str
    attempt: int
    started_at: datetime
    worker_identity: str = ""
    last_failure: ErrorDetails | None = None
    child_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class ActivityCancelRequested:
    activity_id: str


@dataclass(frozen=True, slots=True)
class ActivityClosed:
    """`outcome` is that of its last attempt; None where no attempt ended with it."""

    activity_id: str
    status: ActivityStatus
    completed_at: datetime
    error: ErrorDetails | None = None
    outcome: AttemptOutcome | None = None
    output: ShownPayloads | None = None


@dataclass(frozen=True, slots=True)
class PointReached:
    """Something of the run that is no activity: a signal, an update, a request to cancel."""

    engine_event_id: int
    at: datetime
    kind: str
    name: str = ""
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunClosed:
    """`next_run_id` names the run that goes on where this one ends, if any."""

    status: ExecutionStatus
    completed_at: datetime
    error: ErrorDetails | None = None
    next_run_id: str | None = None


ActivityChange = ActivityScheduled | ActivityStarted | ActivityCancelRequested | ActivityClosed
Change = RunStarted | RunLinked | ActivityChange | PointReached | RunClosed
