"""Worker interceptors that hint at what happens as it happens.

They add no commands to a workflow and no waiting to an activity: a history recorded with
them replays without them, and the other way round.
"""

from datetime import UTC, datetime
from typing import Any, Final

import structlog
from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from executions.temporal.failures import error_of_exception
from executions.temporal.hints import (
    AttemptBegan,
    AttemptFailed,
    HintQueue,
    ProgressMade,
    RunSeen,
    progress_told,
)
from executions.temporal.retries import will_retry

log = structlog.get_logger(__name__)

_RUN_SEEN: Final = "nexus_run_seen"


class NexusInterceptor(Interceptor):
    """Puts hints about one worker's runs and activities into `hints`."""

    def __init__(self, hints: HintQueue) -> None:
        self.hints = hints
        self._claimed = False

    def claim(self) -> bool:
        """Whether the caller is the first: the hints are for one taker."""
        claimed, self._claimed = self._claimed, True
        return not claimed

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _HintingActivity(next, self.hints)

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

    def __init__(self, next: ActivityInboundInterceptor, hints: HintQueue) -> None:
        super().__init__(next)
        self._hints = hints

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        if _is_mirrored(outbound.info()):
            outbound = _HintingHeartbeats(outbound, self._hints)
        super().init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not _is_mirrored(info):
            return await super().execute_activity(input)
        self._hints.put(AttemptBegan(**_attempt(info), started_at=info.started_time))
        try:
            return await super().execute_activity(input)
        except Exception as error:
            self._attempt_failed(info, error)
            raise

    def _attempt_failed(self, info: activity.Info, error: Exception) -> None:
        try:
            limit = info.schedule_to_close_timeout
            remaining = limit and info.scheduled_time + limit - datetime.now(UTC)
            if will_retry(info.retry_policy, info.attempt, error, remaining):
                told = error_of_exception(error)
                self._hints.put(AttemptFailed(**_attempt(info), error=told))
        except Exception:
            # A user's exception may fail at anything, even at being turned into text.
            log.warning("hint_failed", execution_id=info.workflow_run_id, exc_info=True)


class _HintingHeartbeats(ActivityOutboundInterceptor):
    """Called in the worker's loop for asynchronous activities, in any thread for others."""

    def __init__(self, next: ActivityOutboundInterceptor, hints: HintQueue) -> None:
        super().__init__(next)
        self._hints = hints

    def heartbeat(self, *details: Any) -> None:
        super().heartbeat(*details)
        progress = progress_told(details)
        if progress is not None:
            self._hints.put(ProgressMade(**_attempt(self.info()), progress=progress))


def _is_mirrored(info: activity.Info) -> bool:
    """Whether history has this activity, as one of a run: not so for local and standalone ones."""
    return bool(info.workflow_run_id) and not info.is_local


def _attempt(info: activity.Info) -> dict[str, Any]:
    return {
        "workflow_id": info.workflow_id,
        "run_id": info.workflow_run_id,
        "activity_id": info.activity_id,
        "scheduled_at": info.scheduled_time,
        "attempt": info.attempt,
    }
