"""Facts, hints and descriptions to be told to the mirror, and a run to tell them of."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from executions.attempts import AttemptNote
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import ActivityScheduled, ErrorDetails, RunStarted
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.live.hints import AttemptBegan, AttemptFailed, HeartbeatSent
from executions.temporal.live.precedence import Standing
from executions.temporal.mirroring.histories import record_history
from tests.truth import document_of_rows

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)
ERROR = ErrorDetails("Oops", "went wrong")
START = RunStarted("w", "W", "r", NOW)


def scheduled(activity_id: str = "a") -> ActivityScheduled:
    return ActivityScheduled(activity_id, "do", "activity", (), NOW, activity_id)


def began(attempt: int = 1, activity_id: str = "a") -> AttemptBegan:
    return AttemptBegan(**about(activity_id, attempt), started_at=NOW)


def failed(attempt: int = 1, activity_id: str = "a") -> AttemptFailed:
    return AttemptFailed(
        **about(activity_id, attempt), error=ERROR, ended_at=NOW, next_attempt_at=LATER
    )


def progress(share: float, attempt: int = 1, activity_id: str = "a") -> HeartbeatSent:
    return HeartbeatSent(
        **about(activity_id, attempt), sent_at=NOW, progress=share, details=(share,)
    )


def about(activity_id: str, attempt: int) -> dict[str, Any]:
    return {
        "workflow_id": "w",
        "run_id": "r",
        "activity_id": activity_id,
        "scheduled_at": NOW,
        "attempt": attempt,
    }


def activity_of(execution_id: str) -> dict[str, Any]:
    activity: dict[str, Any] = document_of_rows(execution_id)["activities"][0]
    return activity


def description(
    standing: Standing, engine_activity_id: str = "a", **told: Any
) -> DescribedActivity:
    fields: dict[str, Any] = {
        "scheduled_at": NOW,
        "started_at": NOW if standing.status is ActivityStatus.RUNNING else None,
        "error": None,
        "progress": None,
        "notes": (AttemptNote(activity_id=engine_activity_id, number=standing.attempt),),
    }
    return DescribedActivity(
        engine_activity_id=engine_activity_id, standing=standing, **(fields | told)
    )


def a_run() -> str:
    """An execution with one activity, as history told of it so far."""
    execution_id = str(uuid4())
    record_history(execution_id, [START, scheduled()])
    return execution_id
