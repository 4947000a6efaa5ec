"""Activities' rows as the mirror reads and sets them."""

from datetime import datetime

from executions.models import Activity
from executions.statuses import ActivityStatus, PendingState
from executions.temporal.live.precedence import Standing


def standing_of(activity: Activity) -> Standing:
    asked = activity.pending_state
    return Standing(
        activity.attempt,
        ActivityStatus(activity.status),
        None if asked is None else PendingState(asked),
        activity.next_attempt_at,
    )


def take(activity: Activity, stands: Standing) -> None:
    activity.attempt = stands.attempt
    activity.status = stands.status
    activity.pending_state = stands.pending_state
    activity.next_attempt_at = stands.next_attempt_at


def begin_attempt(activity: Activity, stands: Standing, started_at: datetime | None) -> None:
    """Progress is that of the attempt, so another one has none."""
    take(activity, stands)
    activity.started_at = started_at
    activity.progress = None


def has_ended(activity: Activity) -> bool:
    return ActivityStatus(activity.status).is_final
