"""How the markers of local activities are read. Pure.

A worker runs a local activity within a workflow task and tells of it once, when it has
ended, or when its next attempt is so far away that a timer does the waiting. What the
marker holds is the SDK's own affair: Core's (Python, TypeScript, .NET, Ruby) is
`LocalActivityMarkerData` of its external_data.proto; Go's and Java's are read as far as
they tell.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from temporalio.api.history.v1 import MarkerRecordedEventAttributes

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import ErrorDetails, ShownPayloads
from executions.temporal.history.failures import error_of_failure, is_cancellation
from executions.temporal.history.message_values import json_of
from executions.temporal.history.payloads import shown_payloads

_CORE: Final = "core_local_activity"
_GO_AND_JAVA: Final = "LocalActivity"
_ATTEMPTS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalActivity:
    """`completed_at` is by the workflow's time, `scheduled_at` by its worker's clock.

    `will_retry` says that it has not ended: a timer waits for its next attempt, whose
    marker tells the same `scheduled_at`.
    """

    engine_id: str
    name: str
    attempt: int
    scheduled_at: datetime | None
    completed_at: datetime | None
    will_retry: bool
    status: ActivityStatus
    outcome: AttemptOutcome
    error: ErrorDetails | None
    input: ShownPayloads | None
    output: ShownPayloads | None


def local_activity_of(told: MarkerRecordedEventAttributes) -> LocalActivity | None:
    """The local activity that a marker tells of; None for any other marker."""
    if told.marker_name == _CORE:
        return _local_activity(told, _core_data(_detail(told, "data")))
    if told.marker_name == _GO_AND_JAVA:
        go = _detail(told, "data")
        is_go = isinstance(go, dict) and "ActivityType" in go
        return _local_activity(told, _go_data(go) if is_go else _java_data(told))
    return None


def _core_data(data: Any) -> dict[str, Any]:
    data = data if isinstance(data, dict) else {}
    return {
        "engine_id": data.get("activity_id") or data.get("seq"),
        "name": data.get("activity_type"),
        "attempt": data.get("attempt"),
        "scheduled_at": _moment(data.get("original_schedule_time")),
        "completed_at": _moment(data.get("complete_time")),
        "will_retry": bool(data.get("backoff")),
    }


def _go_data(data: dict[str, Any]) -> dict[str, Any]:
    try:
        completed_at = datetime.fromisoformat(_text(data.get("ReplayTime"))).astimezone(UTC)
    except (ValueError, OverflowError):
        completed_at = None
    return {
        "engine_id": data.get("ActivityID"),
        "name": data.get("ActivityType"),
        "attempt": data.get("Attempt"),
        "scheduled_at": None,
        "completed_at": completed_at,
        # It tells nothing by which the next attempt could be known as such.
        "will_retry": False,
    }


def _java_data(told: MarkerRecordedEventAttributes) -> dict[str, Any]:
    meta = _detail(told, "meta")
    meta = meta if isinstance(meta, dict) else {}
    return {
        "engine_id": _detail(told, "activityId"),
        "name": _detail(told, "type"),
        "attempt": meta.get("atpt"),
        "scheduled_at": _moment_of_seconds(meta.get("firstSkd"), per_second=1_000),
        "completed_at": _moment_of_seconds(_detail(told, "time"), per_second=1_000),
        "will_retry": bool(meta.get("backoff")),
    }


def _local_activity(told: MarkerRecordedEventAttributes, data: dict[str, Any]) -> LocalActivity:
    status, outcome, error = ActivityStatus.COMPLETED, AttemptOutcome.COMPLETED, None
    if told.HasField("failure"):
        if is_cancellation(told.failure):
            status, outcome = ActivityStatus.CANCELLED, AttemptOutcome.CANCELLED
        else:
            error = error_of_failure(told.failure)
            status = ActivityStatus.FAILED
            outcome = AttemptOutcome.TIMED_OUT if error.is_timeout else AttemptOutcome.FAILED
    attempt = data["attempt"]
    return LocalActivity(
        engine_id=_text(data["engine_id"]),
        name=_text(data["name"]),
        attempt=min(max(1, attempt), _ATTEMPTS) if isinstance(attempt, int) else 1,
        scheduled_at=data["scheduled_at"],
        completed_at=data["completed_at"],
        will_retry=data["will_retry"] and data["scheduled_at"] is not None,
        status=status,
        outcome=outcome,
        error=error,
        input=_shown(told, "input"),
        output=_shown(told, "result"),
    )


def _detail(told: MarkerRecordedEventAttributes, name: str) -> Any:
    payloads = told.details[name].payloads if name in told.details else ()
    return json_of(payloads[0]) if payloads else None


def _shown(told: MarkerRecordedEventAttributes, name: str) -> ShownPayloads | None:
    payloads = told.details[name].payloads if name in told.details else ()
    return shown_payloads(payloads) if payloads else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _moment(timestamp: Any) -> datetime | None:
    """Of Core's `{"seconds", "nanos"}`."""
    if not isinstance(timestamp, dict):
        return None
    moment = _moment_of_seconds(timestamp.get("seconds"))
    nanos = timestamp.get("nanos")
    if moment is None or not isinstance(nanos, int) or not 0 <= nanos < 10**9:
        return moment
    return moment.replace(microsecond=nanos // 1_000)


def _moment_of_seconds(number: Any, per_second: int = 1) -> datetime | None:
    if not isinstance(number, int | float):
        return None
    try:
        return datetime.fromtimestamp(number / per_second, UTC)
    except (OverflowError, ValueError, OSError):
        return None
