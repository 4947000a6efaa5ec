"""What the interceptors hint at, attempt by attempt, without a server."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
)

from executions.temporal.live.hints import (
    AttemptBegan,
    AttemptFailed,
    HeartbeatSent,
    Hint,
    HintQueue,
)
from executions.temporal.live.interceptors import NexusInterceptor

INFO = replace(
    ActivityEnvironment.default_info(),
    activity_id="7",
    workflow_id="w",
    workflow_run_id="r",
    attempt=2,
    scheduled_time=datetime(2026, 1, 1, tzinfo=UTC),
    started_time=datetime(2026, 1, 2, tzinfo=UTC),
    schedule_to_close_timeout=None,
    retry_policy=RetryPolicy(),
)
ATTEMPT: dict[str, Any] = {
    "workflow_id": "w",
    "run_id": "r",
    "activity_id": "7",
    "scheduled_at": INFO.scheduled_time,
    "attempt": 2,
    "worker_identity": "worker@here",
}
BEGAN = AttemptBegan(
    **ATTEMPT,
    started_at=INFO.started_time,
    attempt_scheduled_at=INFO.current_attempt_scheduled_time,
)

Work = Callable[[], Awaitable[Any]]


class Worker(ActivityInboundInterceptor):
    """What is behind our interceptor: runs the activity, and takes its heartbeats."""

    def __init__(self, info: activity.Info) -> None:
        self.outbound: ActivityOutboundInterceptor = Outbound(info)

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self.outbound = outbound

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn()


class Outbound(ActivityOutboundInterceptor):
    def __init__(self, info: activity.Info) -> None:
        self._info = info
        self.heartbeats: list[tuple[Any, ...]] = []

    def info(self) -> activity.Info:
        return self._info

    def heartbeat(self, *details: Any) -> None:
        self.heartbeats.append(details)


async def hints_of(info: activity.Info, work: Work) -> tuple[list[Hint], Any]:
    """The hints about an attempt of `work`, and what the worker saw of it."""
    queue = HintQueue()
    interceptor = NexusInterceptor(queue, "worker@here").intercept_activity(Worker(info))
    environment = ActivityEnvironment()
    environment.info = info
    call = ExecuteActivityInput(fn=work, args=[], executor=None, headers={})
    try:
        seen: Any = await environment.run(interceptor.execute_activity, call)
    except Exception as error:
        seen = error
    return queue.take()[0], seen


async def succeeding() -> str:
    return "done"


async def failing() -> None:
    raise ApplicationError("declined", type="CardDeclined")


async def test_attempt_that_succeeds_is_only_told_to_have_begun() -> None:
    assert await hints_of(INFO, succeeding) == ([BEGAN], "done")


def failure_among(hints: list[Hint]) -> AttemptFailed:
    assert hints[0] == BEGAN
    [_, failed] = hints
    assert isinstance(failed, AttemptFailed)
    assert failed == AttemptFailed(
        **ATTEMPT,
        error=failed.error,
        ended_at=failed.ended_at,
        next_attempt_at=failed.next_attempt_at,
    )
    return failed


async def test_attempt_that_will_be_retried_is_told_with_the_time_of_the_next() -> None:
    before = datetime.now(UTC)
    hints, seen = await hints_of(INFO, failing)
    failed = failure_among(hints)
    assert before <= failed.ended_at <= datetime.now(UTC)
    assert failed.next_attempt_at == failed.ended_at + timedelta(seconds=2)
    assert (failed.error.type, failed.error.message) == ("CardDeclined", "declined")
    assert "in failing" in failed.error.stack_trace
    assert isinstance(seen, ApplicationError)


@pytest.mark.parametrize(
    "info",
    [
        replace(INFO, retry_policy=RetryPolicy(maximum_attempts=2)),
        replace(INFO, retry_policy=None),
        replace(INFO, schedule_to_close_timeout=timedelta(seconds=1)),
    ],
)
async def test_last_attempt_is_told_without_a_next(info: activity.Info) -> None:
    hints, seen = await hints_of(info, failing)
    assert failure_among(hints).next_attempt_at is None
    assert isinstance(seen, ApplicationError)


async def test_cancelled_attempt_is_left_to_history() -> None:
    async def work() -> None:
        raise CancelledError("as was asked")

    hints, seen = await hints_of(INFO, work)
    assert hints == [BEGAN]
    assert isinstance(seen, CancelledError)


async def test_error_that_cannot_be_told_reaches_the_worker_unharmed() -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def work() -> None:
        raise UnspeakableError

    hints, seen = await hints_of(INFO, work)
    assert hints == [BEGAN]
    assert isinstance(seen, UnspeakableError)


@pytest.mark.parametrize(
    "info",
    [replace(INFO, is_local=True), replace(INFO, workflow_id=None, workflow_run_id=None)],
)
async def test_local_and_standalone_activities_are_not_hinted_at(info: activity.Info) -> None:
    hints, _ = await hints_of(info, failing)
    assert hints == []
    queue, worker = HintQueue(), Worker(info)
    NexusInterceptor(queue).intercept_activity(worker).init(worker.outbound)
    worker.outbound.heartbeat(0.5)
    assert queue.take()[0] == []


@pytest.mark.parametrize("keep_payloads", [True, False])
@pytest.mark.parametrize(
    ("details", "progress"), [((0.5, "details"), 0.5), (("no progress",), None)]
)
def test_heartbeats_reach_the_worker_and_are_hinted_at(
    details: tuple[Any, ...], progress: float | None, keep_payloads: bool
) -> None:
    queue, worker = HintQueue(), Worker(INFO)
    outbound = Outbound(INFO)
    interceptor = NexusInterceptor(queue, "worker@here", keep_payloads=keep_payloads)
    interceptor.intercept_activity(worker).init(outbound)
    before = datetime.now(UTC)
    worker.outbound.heartbeat(*details)
    assert outbound.heartbeats == [details]
    [hint] = queue.take()[0]
    assert isinstance(hint, HeartbeatSent)
    assert before <= hint.sent_at <= datetime.now(UTC)
    kept = details if keep_payloads else ()
    assert hint == HeartbeatSent(**ATTEMPT, sent_at=hint.sent_at, progress=progress, details=kept)


def test_only_the_first_claims_the_hints() -> None:
    interceptor = NexusInterceptor(HintQueue())
    assert [interceptor.claim() for _ in range(3)] == [True, False, False]
