"""Worker interceptors that hint at what happens as it happens.

They add no commands to a workflow and no waiting to an activity: a history recorded with
them replays without them, and the other way round.
"""

from datetime import UTC, datetime
from typing import Any, Final

import structlog
from temporalio import activity, workflow
from temporalio.exceptions import CancelledError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from executions.temporal.history.failures import error_of_exception
from executions.temporal.live.hints import (
    AttemptBegan,
    AttemptFailed,
    HeartbeatSent,
    HintQueue,
    RunSeen,
    progress_told,
)
from executions.temporal.live.retries import retry_delay, will_retry

log = structlog.get_logger(__name__)

_RUN_SEEN: Final = "nexus_run_seen"


class NexusInterceptor(Interceptor):
    """Puts hints about one worker's runs and activities into `hints`.

    `identity` is the worker's; without `keep_payloads` hints carry no heartbeats' details.
    """

    def __init__(self, hints: HintQueue, identity: str = "", *, keep_payloads: bool = True) -> None:
        self.hints = hints
        self.identity = identity
        self.keep_payloads = keep_payloads
        self._claimed = False

    def claim(self) -> bool:
        """Whether the caller is the first: the hints are for one taker."""
        claimed, self._claimed = self._claimed, True
        return not claimed

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _HintingActivity(next, self)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        hints = self.hints

        def run_seen(workflow_id: str, run_id: str) -> None:
            hints.put(RunSeen(workflow_id, run_id))

        # The sandbox's own way out to code that lives outside of it.
        input.unsafe_extern_functions[_RUN_SEEN] = run_seen
        return _AnnouncingWorkflow


class _AnnouncingWorkflow(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        if not workflow.unsafe.is_replaying():
            info = workflow.info()
            workflow.extern_functions()[_RUN_SEEN](info.workflow_id, info.run_id)
        return await super().execute_workflow(input)


class _HintingActivity(ActivityInboundInterceptor):
    """One attempt. Runs in the worker's loop, wherever the activity itself runs."""

    def __init__(self, next: ActivityInboundInterceptor, worker: NexusInterceptor) -> None:
        super().__init__(next)
        self._worker = worker

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        if _is_mirrored(outbound.info()):
            outbound = _HintingHeartbeats(outbound, self._worker)
        super().init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not _is_mirrored(info):
            return await super().execute_activity(input)
        self._worker.hints.put(
            AttemptBegan(
                **_attempt(info, self._worker),
                started_at=info.started_time,
                attempt_scheduled_at=info.current_attempt_scheduled_time,
            )
        )
        try:
            return await super().execute_activity(input)
        except CancelledError:
            raise
        except Exception as error:
            self._attempt_failed(info, error)
            raise

    def _attempt_failed(self, info: activity.Info, error: Exception) -> None:
        try:
            self._worker.hints.put(
                AttemptFailed(
                    **_attempt(info, self._worker),
                    error=error_of_exception(error),
                    ended_at=(ended_at := datetime.now(UTC)),
                    next_attempt_at=_next_attempt_at(info, error, ended_at),
                )
            )
        except Exception:
            # A user's exception may fail at anything, even at being turned into text.
            log.warning("hint_failed", execution_id=info.workflow_run_id, exc_info=True)


class _HintingHeartbeats(ActivityOutboundInterceptor):
    """Called in the worker's loop for asynchronous activities, in any thread for others."""

    def __init__(self, next: ActivityOutboundInterceptor, worker: NexusInterceptor) -> None:
        super().__init__(next)
        self._worker = worker

    def heartbeat(self, *details: Any) -> None:
        super().heartbeat(*details)
        self._worker.hints.put(
            HeartbeatSent(
                **_attempt(self.info(), self._worker),
                sent_at=datetime.now(UTC),
                progress=progress_told(details),
                details=details if self._worker.keep_payloads else (),
            )
        )


def _is_mirrored(info: activity.Info) -> bool:
    """Whether history has this activity, as one of a run: not so for local and standalone ones."""
    return bool(info.workflow_run_id) and not info.is_local


def _next_attempt_at(info: activity.Info, error: Exception, ended_at: datetime) -> datetime | None:
    """When the server will try again, None if it will not, as far as a worker can tell."""
    limit = info.schedule_to_close_timeout
    remaining = limit and info.scheduled_time + limit - ended_at
    policy = info.retry_policy
    if policy is None or not will_retry(policy, info.attempt, error, remaining):
        return None
    return ended_at + retry_delay(policy, info.attempt, error)


def _attempt(info: activity.Info, worker: NexusInterceptor) -> dict[str, Any]:
    return {
        "workflow_id": info.workflow_id,
        "run_id": info.workflow_run_id,
        "activity_id": info.activity_id,
        "scheduled_at": info.scheduled_time,
        "attempt": info.attempt,
        "worker_identity": worker.identity,
    }
