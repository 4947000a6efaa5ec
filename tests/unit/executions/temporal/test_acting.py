"""Asking Temporal to end a run: what is said of one that has ended, is unknown, or unreachable."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.service import RPCError, RPCStatusCode

from executions.statuses import ExecutionStatus
from executions.temporal import acting
from executions.temporal.acting import RunRequest, UnknownRunError, ask
from executions.temporal.connecting import TemporalUnreachableError

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
ASKED = RunRequest(namespace="n", workflow_id="w", run_id="r", reason="why", identity="who")


class FakeService:
    """Describes the run as told, one answer after another; what is raised stays to be raised."""

    def __init__(self, *described: "WorkflowExecutionStatus.ValueType | RPCError") -> None:
        self._described = list(described)
        self.acts: list[RunRequest] = []
        self.refusal: RPCError | None = None

    async def describe_workflow_execution(
        self, request: Any, retry: bool
    ) -> DescribeWorkflowExecutionResponse:
        assert (request.namespace, request.execution.run_id) == ("n", "r")
        told = self._described.pop(0)
        if isinstance(told, RPCError):
            raise told
        answer = DescribeWorkflowExecutionResponse()
        answer.workflow_execution_info.status = told
        return answer

    async def act(self, service: Any, asked: RunRequest) -> None:
        self.acts.append(asked)
        if self.refusal is not None:
            raise self.refusal


def error(status: RPCStatusCode) -> RPCError:
    return RPCError("told by Temporal", status, b"")


def asked_of(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> ExecutionStatus | None:
    async def connected(address: str, namespace: str, wait_seconds: float) -> Any:
        assert (address, namespace) == ("a:1", "n")
        return SimpleNamespace(workflow_service=service)

    monkeypatch.setattr(acting, "connect", connected)
    return asyncio.run(ask(service.act, ASKED, "a:1", 5))


@pytest.mark.parametrize(
    "status", [RUNNING, WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED]
)
def test_an_open_run_is_acted_on(
    monkeypatch: pytest.MonkeyPatch, status: "WorkflowExecutionStatus.ValueType"
) -> None:
    service = FakeService(status)
    assert asked_of(service, monkeypatch) is None
    assert service.acts == [ASKED]


def test_every_way_to_end_is_told_and_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    finals = [status for status in ExecutionStatus if status.is_final]
    names = [
        name
        for name, value in WorkflowExecutionStatus.items()
        if not name.endswith(("_UNSPECIFIED", "_RUNNING", "_PAUSED"))
    ]
    told = []
    for name in names:
        service = FakeService(WorkflowExecutionStatus.Value(name))
        told.append(asked_of(service, monkeypatch))
        assert service.acts == []
    assert sorted(status for status in told if status) == sorted(finals)


def test_a_run_that_ends_meanwhile_is_told_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    completed = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    service = FakeService(RUNNING, completed)
    service.refusal = error(RPCStatusCode.NOT_FOUND)
    assert asked_of(service, monkeypatch) is ExecutionStatus.COMPLETED


def test_a_refusal_of_a_run_that_goes_on_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService(RUNNING, RUNNING)
    service.refusal = error(RPCStatusCode.PERMISSION_DENIED)
    with pytest.raises(RPCError, match="told by Temporal"):
        asked_of(service, monkeypatch)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT], UnknownRunError),
        (
            [
                RPCStatusCode.UNAVAILABLE,
                RPCStatusCode.DEADLINE_EXCEEDED,
                RPCStatusCode.RESOURCE_EXHAUSTED,
                RPCStatusCode.CANCELLED,
            ],
            TemporalUnreachableError,
        ),
        ([RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.INTERNAL], RPCError),
    ],
)
def test_what_temporal_refuses_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, statuses: Sequence[RPCStatusCode], expected: type[Exception]
) -> None:
    for status in statuses:
        with pytest.raises(expected, match="told by Temporal"):
            asked_of(FakeService(error(status)), monkeypatch)


async def test_a_repeated_request_to_cancel_is_the_same_request_and_another_runs_another() -> None:
    sent: list[Any] = []

    async def noted(request: Any, retry: bool) -> None:
        sent.append(request)

    service: Any = SimpleNamespace(
        request_cancel_workflow_execution=noted, terminate_workflow_execution=noted
    )
    for asked in (ASKED, replace(ASKED, reason="else"), replace(ASKED, run_id="r2")):
        await acting.cancel(service, asked)
    assert sent[0].request_id == sent[1].request_id != sent[2].request_id
    await acting.terminate(service, ASKED)
    for request, reason in ((sent[0], "why"), (sent[1], "else"), (sent[3], "why")):
        run = request.workflow_execution
        assert (run.workflow_id, run.run_id) == ("w", "r")
        assert (request.namespace, request.reason, request.identity) == ("n", reason, "who")


async def test_one_that_never_answers_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*args: object) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(acting, "connect", never)
    with pytest.raises(TemporalUnreachableError, match=r"within 0\.05 s"):
        await ask(acting.cancel, ASKED, "a:1", 0.05)
