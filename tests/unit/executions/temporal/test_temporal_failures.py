"""Failures and exceptions as error details."""

from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.exceptions import ApplicationError, CancelledError

from executions.temporal.changes import ErrorDetails
from executions.temporal.failures import error_of_exception, error_of_failure, failures_in


def failure(message: str, cause: Failure | None = None, **info: Any) -> Failure:
    return Failure(message=message, cause=cause, **info)


DECLINED = failure("declined", application_failure_info={"type": "CardDeclined"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (DECLINED, ErrorDetails("CardDeclined", "declined")),
        (failure("plain", application_failure_info={}), ErrorDetails(None, "plain")),
        (failure("Activity task failed", DECLINED, activity_failure_info={}),
         ErrorDetails("CardDeclined", "declined")),
        (failure("Child failed", failure("Activity failed", DECLINED, activity_failure_info={}),
                 child_workflow_execution_failure_info={}),
         ErrorDetails("CardDeclined", "declined")),
        (failure("no cause", activity_failure_info={}), ErrorDetails(None, "no cause")),
        (failure("outer", DECLINED, application_failure_info={"type": "OrderFailed"}),
         ErrorDetails("OrderFailed", "outer")),
        (failure("late", timeout_failure_info={}), ErrorDetails("TimeoutError", "late")),
        (failure("late", DECLINED, timeout_failure_info={}),
         ErrorDetails("TimeoutError", "late (last failure: CardDeclined: declined)")),
        (failure("late", failure("why"), timeout_failure_info={}),
         ErrorDetails("TimeoutError", "late (last failure: why)")),
        (failure("stop", canceled_failure_info={}), ErrorDetails("CancelledError", "stop")),
        (failure("stop", terminated_failure_info={}), ErrorDetails("TerminatedError", "stop")),
        (failure("oops", server_failure_info={}), ErrorDetails("ServerError", "oops")),
        (failure("kind unknown"), ErrorDetails(None, "kind unknown")),
    ],
)  # fmt: skip
def test_innermost_failure_that_says_something_is_told(
    given: Failure, expected: ErrorDetails
) -> None:
    assert error_of_failure(given) == expected


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (ApplicationError("declined", type="CardDeclined"), "CardDeclined", "declined"),
        (ApplicationError("plain"), None, "plain"),
        (CancelledError("stop"), "CancelledError", "stop"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError", "division by zero"),
        (ValueError(), "ValueError", ""),
    ],
)
def test_exception_is_told_as_temporal_records_it(
    given: BaseException, kind: str | None, message: str
) -> None:
    assert error_of_exception(given) == ErrorDetails(kind, message)


def test_endless_messages_and_types_are_cut_before_they_travel() -> None:
    told = error_of_exception(ApplicationError("m" * 100_000, type="t" * 100_000))
    assert len(told.message) == 4_001
    assert told.type == "t" * 1_000


def event_with(**attributes: Any) -> HistoryEvent:
    return HistoryEvent(**attributes)


def test_failures_of_an_event_can_be_changed_in_place() -> None:
    event = event_with(activity_task_failed_event_attributes={"failure": DECLINED})
    for found in failures_in(event):
        found.message = "decoded"
    assert event.activity_task_failed_event_attributes.failure.message == "decoded"


@pytest.mark.parametrize(
    "event",
    [
        event_with(),
        event_with(activity_task_completed_event_attributes={}),
        event_with(activity_task_failed_event_attributes={}),
    ],
)
def test_events_without_a_failure_have_none(event: HistoryEvent) -> None:
    assert list(failures_in(event)) == []


def test_last_failure_of_a_started_attempt_is_found() -> None:
    event = event_with(activity_task_started_event_attributes={"last_failure": DECLINED})
    assert list(failures_in(event)) == [DECLINED]
