"""Temporal's failures and Python's exceptions as error details. Pure."""

from traceback import format_tb
from typing import Any, Final

from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError, FailureError

from executions.attempts import AttemptNote, AttemptOutcome
from executions.temporal.history.changes import ErrorDetails
from executions.temporal.history.names import fitted
from executions.values import ERROR_MESSAGE_CHARACTERS, storable_text

STACK_TRACE_CHARACTERS: Final = 20_000
"""Longest stack trace that is kept; longer ones are cut and end in an ellipsis."""

_WRAPPERS: Final = frozenset(
    {
        "activity_failure_info",
        "child_workflow_execution_failure_info",
        "nexus_operation_execution_failure_info",
    }
)
_TYPES: Final = {
    "timeout_failure_info": "TimeoutError",
    "canceled_failure_info": "CancelledError",
    "terminated_failure_info": "TerminatedError",
    "server_failure_info": "ServerError",
    "reset_workflow_failure_info": "ResetWorkflowError",
}
_TIMEOUTS: Final[dict[int, str]] = {
    TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE: "StartToClose",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START: "ScheduleToStart",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "ScheduleToClose",
    TimeoutType.TIMEOUT_TYPE_HEARTBEAT: "Heartbeat",
}


def error_of_failure(failure: Failure) -> ErrorDetails:
    """The failure that says something: wrappers that only tell where it happened are opened.

    A timeout names its kind and, where it followed failed attempts, the last of them.
    """
    failure = _opened(failure)
    kind = failure.WhichOneof("failure_info") or ""
    if kind == "timeout_failure_info":
        return _timeout(failure)
    if kind == "application_failure_info":
        name: str | None = failure.application_failure_info.type
    else:
        name = _TYPES.get(kind)
    return _details(name, failure.message, failure.stack_trace)


def error_document(error: ErrorDetails | None) -> dict[str, Any] | None:
    """The error as the execution's document holds it."""
    return None if error is None else {"type": error.type, "message": error.message}


def failure_document(error: ErrorDetails | None) -> dict[str, Any] | None:
    """The error as the ledger of attempts holds it."""
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "stack_trace": error.stack_trace}


def failed_attempt(activity_id: str, number: int, error: ErrorDetails) -> AttemptNote:
    """What is noted of an attempt that failed so."""
    return AttemptNote(
        activity_id=activity_id,
        number=number,
        outcome=AttemptOutcome.TIMED_OUT if error.is_timeout else AttemptOutcome.FAILED,
        failure=failure_document(error),
    )


def is_cancellation(failure: Failure) -> bool:
    """Whether the failure that says something is that it was cancelled."""
    return _opened(failure).HasField("canceled_failure_info")


def error_of_exception(error: BaseException) -> ErrorDetails:
    """What Temporal would record of an exception that ends an attempt."""
    stack_trace = "".join(format_tb(error.__traceback__))
    if isinstance(error, ApplicationError):
        return _details(error.type, error.message, stack_trace)
    if isinstance(error, FailureError):
        return _details(type(error).__name__, error.message, stack_trace)
    return _details(type(error).__name__, str(error), stack_trace)


def _opened(failure: Failure) -> Failure:
    while failure.WhichOneof("failure_info") in _WRAPPERS and failure.HasField("cause"):
        failure = failure.cause
    return failure


def _timeout(failure: Failure) -> ErrorDetails:
    message, stack_trace = failure.message, failure.stack_trace
    kind = _TIMEOUTS.get(failure.timeout_failure_info.timeout_type, "")
    if kind not in message:
        message = f"{message} ({kind} timeout)".lstrip()
    if failure.HasField("cause"):
        last = error_of_failure(failure.cause)
        told = f"{last.type}: {last.message}" if last.type else last.message
        message += f" (last failure: {told})"
        stack_trace = stack_trace or last.stack_trace
    return _details("TimeoutError", message, stack_trace, is_timeout=True)


def _details(
    kind: str | None, message: str, stack_trace: str = "", *, is_timeout: bool = False
) -> ErrorDetails:
    if len(stack_trace) > STACK_TRACE_CHARACTERS:
        stack_trace = stack_trace[: STACK_TRACE_CHARACTERS - 1] + "…"
    return ErrorDetails(
        fitted(kind) if kind else None,
        # One character more than the document keeps, so that it can tell that more was there.
        storable_text(message[: ERROR_MESSAGE_CHARACTERS + 1]),
        storable_text(stack_trace),
        is_timeout,
    )
