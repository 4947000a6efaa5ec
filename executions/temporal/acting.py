"""Asking Temporal to end a run: by cancelling it, which the workflow answers, or by terminating it.

Nothing is recorded here: what comes of it is told by the run's history, like any change.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)
from temporalio.service import RPCError, RPCStatusCode, WorkflowService

from executions.statuses import ExecutionStatus
from executions.temporal.connecting import TemporalUnreachableError, connect

_ENDED: Final = {
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED: ExecutionStatus.COMPLETED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED: ExecutionStatus.FAILED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED: ExecutionStatus.CANCELLED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED: ExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW: (
        ExecutionStatus.CONTINUED_AS_NEW
    ),
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: ExecutionStatus.TIMED_OUT,
}
_UNKNOWN: Final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)
_AWAY: Final = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.CANCELLED,
)


class UnknownRunError(LookupError):
    """Temporal has no such run in this namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Which run is to end, why, and who asks: as its history will say."""

    namespace: str
    workflow_id: str
    run_id: str
    reason: str
    identity: str

    @property
    def run(self) -> WorkflowExecution:
        return WorkflowExecution(workflow_id=self.workflow_id, run_id=self.run_id)


Act = Callable[[WorkflowService, RunRequest], Awaitable[object]]


async def cancel(service: WorkflowService, asked: RunRequest) -> None:
    """Request the run's cancellation; the same request however often it is made."""
    await service.request_cancel_workflow_execution(
        RequestCancelWorkflowExecutionRequest(
            namespace=asked.namespace,
            workflow_execution=asked.run,
            identity=asked.identity,
            request_id=f"nexus-cancel-{asked.run_id}",
            reason=asked.reason,
        ),
        retry=True,
    )


async def terminate(service: WorkflowService, asked: RunRequest) -> None:
    """Terminate the run."""
    await service.terminate_workflow_execution(
        TerminateWorkflowExecutionRequest(
            namespace=asked.namespace,
            workflow_execution=asked.run,
            identity=asked.identity,
            reason=asked.reason,
        ),
        retry=True,
    )


async def ask(
    act: Act, asked: RunRequest, address: str, wait_seconds: float
) -> ExecutionStatus | None:
    """Have Temporal `act`; the status of a run that had ended before, else None.

    Raises UnknownRunError, TemporalUnreachableError: then the request may have reached
    Temporal or not; and RPCError where Temporal refuses for another reason.
    """
    try:
        async with asyncio.timeout(wait_seconds):
            # Connecting costs a millisecond (measured): less than sharing a client among
            # the threads that serve requests, each with an event loop of its own, is worth.
            client = await connect(address, asked.namespace, wait_seconds)
            return await _act_unless_ended(client.workflow_service, act, asked)
    except TimeoutError:
        raise TemporalUnreachableError(
            f"Temporal did not answer within {wait_seconds:g} s"
        ) from None
    except RPCError as error:
        if error.status in _UNKNOWN:
            raise UnknownRunError(error.message) from error
        if error.status in _AWAY:
            raise TemporalUnreachableError(error.message) from error
        raise


async def _act_unless_ended(
    service: WorkflowService, act: Act, asked: RunRequest
) -> ExecutionStatus | None:
    # Looked at first: cancelling what has ended succeeds where it was cancelled before.
    ended = await _ended_as(service, asked)
    if ended is not None:
        return ended
    try:
        await act(service, asked)
    except RPCError:
        ended = await _ended_as(service, asked)
        if ended is None:
            raise
    return ended


async def _ended_as(service: WorkflowService, asked: RunRequest) -> ExecutionStatus | None:
    described = await service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(namespace=asked.namespace, execution=asked.run),
        retry=True,
    )
    return _ENDED.get(described.workflow_execution_info.status)
