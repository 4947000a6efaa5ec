"""Failures and exceptions as error details."""

from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError, CancelledError

from executions.attempts import AttemptNote, AttemptOutcome
from executions.temporal.history.changes import ErrorDetails
from executions.temporal.history.failures import (
    error_document,
    error_of_exception,
    error_of_failure,
    failed_attempt,
    failure_document,
    is_cancellation,
)


def failure(message: str, cause: Failure | None = None, **info: Any) -> Failure:
    return Failure(message=message, cause=cause, **info)


def timeout(message: str) -> ErrorDetails:
    return ErrorDetails("TimeoutError", message, is_timeout=True)


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
        (failure("late", timeout_failure_info={}), timeout("late")),
        (failure("late", DECLINED, timeout_failure_info={}),
         timeout("late (last failure: CardDeclined: declined)")),
        (failure("late", failure("why"), timeout_failure_info={}),
         timeout("late (last failure: why)")),
        (failure("late", timeout_failure_info={"timeout_type": 4}),
         timeout("late (Heartbeat timeout)")),
        (failure("", timeout_failure_info={"timeout_type": 1}), timeout("(StartToClose timeout)")),
        (failure("activity ScheduleToStart timeout", timeout_failure_info={"timeout_type": 2}),
         timeout("activity ScheduleToStart timeout")),
        (failure("wrapped", failure("late", timeout_failure_info={}), activity_failure_info={}),
         timeout("late")),
        (failure("a\x00b", application_failure_info={}), ErrorDetails(None, "a\ufffdb")),
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
    ("given", "expected"),
    [
        (Failure(stack_trace="outer"), "outer"),
        (failure("w", Failure(stack_trace="inner"), stack_trace="w", activity_failure_info={}),
         "inner"),
        (failure("late", Failure(stack_trace="last"), timeout_failure_info={}), "last"),
        (failure("late", Failure(stack_trace="last"), stack_trace="own", timeout_failure_info={}),
         "own"),
        (Failure(stack_trace="\x00" * 30_000), "\ufffd" * 19_999 + "…"),
    ],
)  # fmt: skip
def test_stack_trace_is_of_the_failure_that_says_something(given: Failure, expected: str) -> None:
    assert error_of_failure(given).stack_trace == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (failure("stop", canceled_failure_info={}), True),
        (failure("w", failure("stop", canceled_failure_info={}), activity_failure_info={}), True),
        (failure("w", activity_failure_info={}), False),
        (failure("o", failure("stop", canceled_failure_info={}), application_failure_info={}),
         False),
    ],
)  # fmt: skip
def test_cancellation_is_what_the_failure_that_says_something_is(
    given: Failure, expected: bool
) -> None:
    assert is_cancellation(given) is expected


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


def test_document_and_ledger_hold_as_much_of_an_error_as_they_are_for() -> None:
    error = ErrorDetails("Oops", "went wrong", "File …")
    assert error_document(error) == {"type": "Oops", "message": "went wrong"}
    assert failure_document(error) == {
        "type": "Oops",
        "message": "went wrong",
        "stack_trace": "File …",
    }
    assert error_document(None) is failure_document(None) is None


@pytest.mark.parametrize(
    ("is_timeout", "outcome"), [(False, AttemptOutcome.FAILED), (True, AttemptOutcome.TIMED_OUT)]
)
def test_failed_attempt_is_noted_with_its_failure(
    is_timeout: bool, outcome: AttemptOutcome
) -> None:
    error = ErrorDetails("Oops", "went wrong", "File …", is_timeout)
    assert failed_attempt("a", 3, error) == AttemptNote(
        activity_id="a", number=3, outcome=outcome, failure=failure_document(error)
    )
