"""What happened in a run and is no activity: signals, updates, requests, and the like. Pure.

A point's details hold only what is told, as JSON of bounded size: payloads are shown ones,
a failure is `{"type", "message"}`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    ContinueAsNewInitiator,
    SignalExternalWorkflowExecutionFailedCause,
    TimeoutType,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal.history.changes import PointReached
from executions.temporal.history.failures import error_of_failure
from executions.temporal.history.message_values import moment_of, seconds_of, words_of
from executions.temporal.history.names import fitted, named
from executions.temporal.history.payloads import shown_payloads

_INITIATORS: Final[dict[int, str]] = {
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW: "continued_as_new",
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY: "retried",
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE: "cron",
}


class _Told(NamedTuple):
    kind: str
    name: str
    details: Mapping[str, Any]


class Points:
    """One run's points, as its events are given in order: later ones name earlier ones."""

    def __init__(self) -> None:
        self._update_names: dict[int, str] = {}
        self._admitted: dict[str, Any] = {}
        self._sent: dict[int, str] = {}

    def reached(self, event: HistoryEvent) -> PointReached | None:
        """The point that the event is, if it is one."""
        kind = event.WhichOneof("attributes") or ""
        told: Any = getattr(event, kind, None)
        point = self._of(event.event_id, kind, told)
        if point is None:
            return None
        details = {name: value for name, value in point.details.items() if value}
        at = moment_of(event.event_time)
        return PointReached(event.event_id, at, point.kind, point.name, details or None)

    def _of(self, event_id: int, kind: str, told: Any) -> _Told | None:
        match kind.removesuffix("_event_attributes"):
            case "workflow_execution_started":
                return _beginning(told)
            case "workflow_execution_signaled":
                return _signal(told)
            case "workflow_execution_cancel_requested":
                return _cancel_requested(told)
            case "workflow_task_failed":
                return _task_failed(told)
            case "workflow_task_timed_out":
                timeout = words_of(TimeoutType, told.timeout_type)
                return _Told("workflow_task_timed_out", timeout, {})
            case "upsert_workflow_search_attributes":
                attributes = _shown_fields(told.search_attributes.indexed_fields)
                return _Told("search_attributes", "", {"attributes": attributes})
            case "workflow_properties_modified":
                memo = _shown_fields(told.upserted_memo.fields)
                return _Told("memo", "", {"memo": memo})
            case "workflow_execution_paused":
                return _Told("paused", "", _by_whom(told))
            case "workflow_execution_unpaused":
                return _Told("unpaused", "", _by_whom(told))
            case "workflow_execution_options_updated":
                changed = [each.name for each, _ in told.ListFields() if each.name != "identity"]
                details = {"identity": fitted(told.identity), "changed": changed}
                return _Told("options_updated", "", details)
        return self._of_several_events(event_id, kind, told)

    def _of_several_events(self, event_id: int, kind: str, told: Any) -> _Told | None:
        match kind.removesuffix("_event_attributes"):
            case "workflow_execution_update_admitted":
                self._admitted[told.request.meta.update_id] = told.request
            case "workflow_execution_update_accepted":
                return self._update_accepted(event_id, told)
            case "workflow_execution_update_completed":
                return self._update_completed(told)
            case "workflow_execution_update_rejected":
                return _update_rejected(told)
            case "signal_external_workflow_execution_initiated":
                self._sent[event_id] = named(told.signal_name)
                details = _target(told) | {"input": _shown(told.input.payloads)}
                return _Told("signal_sent", self._sent[event_id], details)
            case "signal_external_workflow_execution_failed":
                cause = words_of(SignalExternalWorkflowExecutionFailedCause, told.cause)
                name = self._sent.get(told.initiated_event_id, "")
                return _Told("signal_failed", name, _target(told) | {"cause": cause})
            case "request_cancel_external_workflow_execution_initiated":
                details = _target(told) | {"reason": fitted(told.reason)}
                return _Told("external_cancel_requested", _target_name(told), details)
            case "request_cancel_external_workflow_execution_failed":
                cause = words_of(CancelExternalWorkflowExecutionFailedCause, told.cause)
                details = _target(told) | {"cause": cause}
                return _Told("external_cancel_failed", _target_name(told), details)
        return None

    def _update_accepted(self, event_id: int, told: Any) -> _Told:
        request = told.accepted_request
        if not request.HasField("input"):
            # The request of one that was admitted before stands in that event alone.
            request = self._admitted.pop(told.protocol_instance_id, request)
        self._update_names[event_id] = named(request.input.name)
        details = {
            "update_id": fitted(told.protocol_instance_id),
            "identity": fitted(request.meta.identity),
            "input": _shown(request.input.args.payloads),
        }
        return _Told("update_accepted", self._update_names[event_id], details)

    def _update_completed(self, told: Any) -> _Told:
        outcome = told.outcome
        details = {
            "update_id": fitted(told.meta.update_id),
            "output": _shown(outcome.success.payloads),
            "failure": _failure(outcome.failure) if outcome.HasField("failure") else None,
        }
        name = self._update_names.pop(told.accepted_event_id, "")
        return _Told("update_completed", name, details)


def _beginning(told: Any) -> _Told | None:
    """How the run came about, where it did not just start."""
    kind = _INITIATORS.get(told.initiator, "cron" if told.cron_schedule else None)
    if kind is None:
        return None
    has_failure = told.HasField("continued_failure")
    return _Told(
        kind,
        "",
        {
            "cron_schedule": fitted(told.cron_schedule),
            "attempt": told.attempt if kind == "retried" else None,
            "backoff_seconds": seconds_of(told.first_workflow_task_backoff),
            "failure": _failure(told.continued_failure) if has_failure else None,
        },
    )


def _signal(told: Any) -> _Told:
    sender = told.external_workflow_execution
    details = {
        "identity": fitted(told.identity),
        "workflow_id": fitted(sender.workflow_id),
        "run_id": fitted(sender.run_id),
        "input": _shown(told.input.payloads),
    }
    return _Told("signal", named(told.signal_name), details)


def _cancel_requested(told: Any) -> _Told:
    asker = told.external_workflow_execution
    details = {
        "identity": fitted(told.identity),
        "workflow_id": fitted(asker.workflow_id),
        "run_id": fitted(asker.run_id),
        "reason": fitted(told.cause),
    }
    return _Told("cancel_requested", "", details)


def _task_failed(told: Any) -> _Told:
    """A reset tells of itself as a workflow task that failed."""
    is_reset = told.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
    if is_reset:
        base = {"run_id": fitted(told.base_run_id), "reason": fitted(told.failure.message)}
        return _Told("reset", "", {"identity": fitted(told.identity)} | base)
    cause = words_of(WorkflowTaskFailedCause, told.cause)
    details = {
        "cause": cause,
        "identity": fitted(told.identity),
        "failure": _failure(told.failure) if told.HasField("failure") else None,
    }
    return _Told("workflow_task_failed", cause, details)


def _update_rejected(told: Any) -> _Told:
    request = told.rejected_request
    details = {
        "update_id": fitted(told.protocol_instance_id),
        "identity": fitted(request.meta.identity),
        "input": _shown(request.input.args.payloads),
        "failure": _failure(told.failure) if told.HasField("failure") else None,
    }
    return _Told("update_rejected", named(request.input.name), details)


def _target(told: Any) -> dict[str, Any]:
    target = told.workflow_execution
    return {"workflow_id": fitted(target.workflow_id), "run_id": fitted(target.run_id)}


def _target_name(told: Any) -> str:
    return named(told.workflow_execution.workflow_id)


def _by_whom(told: Any) -> dict[str, Any]:
    return {"identity": fitted(told.identity), "reason": fitted(told.reason)}


def _failure(failure: Failure) -> dict[str, Any]:
    error = error_of_failure(failure)
    return {"type": error.type, "message": error.message}


def _shown(payloads: Any) -> list[dict[str, Any]] | None:
    return shown_payloads(payloads) if payloads else None


def _shown_fields(fields: Mapping[str, Payload]) -> dict[str, Any]:
    names = sorted(fields)
    shown = shown_payloads(fields[name] for name in names)
    return {named(name): entry for name, entry in zip(names, shown, strict=False)}
