"""GET /api/v1/executions/{execution_id}/activities/{activity_id}: all that is known of one."""

from datetime import datetime
from typing import Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api.answering import (
    ERRORS,
    EVENT_ID_HEADER,
    EXECUTION_ID,
    MALFORMED,
    ExecutionsApiView,
    event_id_header,
    no_execution,
)
from executions.api.detail_serializers import ActivityDetailSerializer
from executions.document import JsonObject, activity_document, rfc3339
from executions.models import Activity, ActivityDetails, Attempt, Execution

ATTEMPTS_SHOWN: Final = 200


class AnyText:
    """Converts a part of a path that may hold anything, slashes and line breaks too."""

    regex = r"(?s:.+)"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class ActivityView(ExecutionsApiView):
    @extend_schema(
        operation_id="getActivity",
        summary="Read one activity",
        description=(
            "The activity of the document, with its input, its output and its attempts. Those "
            "are read after the activity's own fields: they may be moments newer, never older."
        ),
        parameters=[
            EXECUTION_ID,
            OpenApiParameter(
                "activity_id",
                {"type": "string"},
                OpenApiParameter.PATH,
                description=(
                    "Percent-encoded, slashes too if you like. A slash at the end belongs to "
                    "the id where there is an activity of that id, else it means nothing."
                ),
            ),
            event_id_header("The event_id that the activity's own fields are true at."),
        ],
        responses={200: ActivityDetailSerializer, 400: MALFORMED, **ERRORS},
    )
    def get(self, request: Request, execution_id: str, activity_id: str) -> Response:
        activity = _found(execution_id, activity_id)
        headers = {EVENT_ID_HEADER: str(activity.execution.head)}
        return Response(activity_details_document(activity), headers=headers)


def activity_details_document(activity: Activity) -> JsonObject:
    """The activity's fields in the document and what the ledger knows; reads the ledger."""
    attempts, attempts_omitted = newest_attempts_of(activity, ATTEMPTS_SHOWN)
    details = details_of(activity)
    return activity_document(activity) | {
        "position": activity.position,
        "task_queue": details.task_queue or None,
        "options": details.options,
        "input": details.input,
        "output": details.output,
        "attempts": [attempt_document(attempt) for attempt in attempts],
        "attempts_omitted": attempts_omitted,
    }


def details_of(activity: Activity) -> ActivityDetails:
    """What it was scheduled with and what it returned; a blank where nothing is known."""
    of_this = {"execution_id": activity.execution_id, "activity_id": activity.activity_id}
    return ActivityDetails.objects.filter(**of_this).first() or ActivityDetails(**of_this)


def newest_attempts_of(activity: Activity, limit: int) -> tuple[list[Attempt], int]:
    """The attempts of the greatest numbers, in their order, and how many there are besides."""
    rows = Attempt.objects.filter(
        execution_id=activity.execution_id, activity_id=activity.activity_id
    )
    found = list(rows.order_by("-number")[: limit + 1])
    shown = found[:limit][::-1]
    is_all = len(found) <= limit
    return shown, 0 if is_all else rows.filter(number__lt=shown[0].number).count()


def attempt_document(attempt: Attempt) -> JsonObject:
    return {
        "number": attempt.number,
        "outcome": str(attempt.outcome),
        "worker_identity": attempt.worker_identity or None,
        "scheduled_at": rfc3339(attempt.scheduled_at),
        "started_at": rfc3339(attempt.started_at),
        "ended_at": rfc3339(attempt.ended_at),
        "failure": attempt.failure,
        "backoff_seconds": backoff_seconds(attempt.ended_at, attempt.next_attempt_at),
        "next_attempt_at": rfc3339(attempt.next_attempt_at),
        "heartbeat_at": rfc3339(attempt.heartbeat_at),
        "heartbeat_details": attempt.heartbeat_details,
    }


def backoff_seconds(ended_at: datetime | None, next_attempt_at: datetime | None) -> float | None:
    """The wait between two attempts, where both of its ends are known."""
    if ended_at is None or next_attempt_at is None:
        return None
    # The two are told by different clocks.
    return max(0.0, (next_attempt_at - ended_at).total_seconds())


def _found(execution_id: str, activity_id: str) -> Activity:
    rows = Activity.objects.select_related("execution").filter(execution_id=execution_id)
    # PostgreSQL would fail at being asked for an id with NUL.
    if "\0" not in activity_id:
        for name in dict.fromkeys((activity_id, activity_id.removesuffix("/"))):
            found = rows.filter(activity_id=name).first()
            if found is not None:
                return found
    if not Execution.objects.filter(pk=execution_id).exists():
        raise no_execution(execution_id)
    raise NotFound(f"Execution {execution_id!r} has no activity {activity_id[:80]!r}.")
