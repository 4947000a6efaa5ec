"""Temporal's failures and Python's exceptions as error details. Pure."""

from collections.abc import Iterator

from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.exceptions import ApplicationError, FailureError

from executions.temporal.changes import ErrorDetails
from executions.temporal.names import fitted
from executions.values import ERROR_MESSAGE_CHARACTERS

_WRAPPERS = frozenset(
    {
        "activity_failure_info",
        "child_workflow_execution_failure_info",
        "nexus_operation_execution_failure_info",
    }
)
_TYPES = {
    "timeout_failure_info": "TimeoutError",
    "canceled_failure_info": "CancelledError",
    "terminated_failure_info": "TerminatedError",
    "server_failure_info": "ServerError",
    "reset_workflow_failure_info": "ResetWorkflowError",
}


def error_of_failure(failure: Failure) -> ErrorDetails:
    """The failure that says something: wrappers that only tell where it happened are opened.

    A timeout that followed failed attempts names the last of them too.
    """
    kind = failure.WhichOneof("failure_info") or ""
    if failure.HasField("cause"):
        if kind in _WRAPPERS:
            return error_of_failure(failure.cause)
        if kind == "timeout_failure_info":
            last = error_of_failure(failure.cause)
            told = f"{last.type}: {last.message}" if last.type else last.message
            return _details(_TYPES[kind], f"{failure.message} (last failure: {told})")
    if kind == "application_failure_info":
        return _details(failure.application_failure_info.type, failure.message)
    return _details(_TYPES.get(kind), failure.message)


def error_of_exception(error: BaseException) -> ErrorDetails:
    """What Temporal would record of an exception that ends an attempt."""
    if isinstance(error, ApplicationError):
        return _details(error.type, error.message)
    if isinstance(error, FailureError):
        return _details(type(error).__name__, error.message)
    return _details(type(error).__name__, str(error))


def failures_in(event: HistoryEvent) -> Iterator[Failure]:
    """The failures an event carries, to be decoded in place."""
    attributes = event.WhichOneof("attributes")
    if attributes is None:
        return
    carrier = getattr(event, attributes)
    for name in ("failure", "last_failure"):
        if name in carrier.DESCRIPTOR.fields_by_name and carrier.HasField(name):
            yield getattr(carrier, name)


def _details(kind: str | None, message: str) -> ErrorDetails:
    # One character more than the document keeps, so that it can tell that more was there.
    return ErrorDetails(fitted(kind) if kind else None, message[: ERROR_MESSAGE_CHARACTERS + 1])
