"""Asking Temporal what is pending of one run."""

from collections.abc import Sequence

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal.following.call_pace import CallPace
from executions.temporal.following.decoding import converter_of_run, decode
from executions.temporal.following.history_reader import RunGoneError
from executions.temporal.live.descriptions import DescribedActivity, described

log = structlog.get_logger(__name__)


class RunDescriber:
    """Describes one run at the pace of all of the process' calls."""

    def __init__(
        self,
        client: Client,
        workflow_id: str,
        run_id: str,
        pace: CallPace,
        *,
        keep_payloads: bool = True,
    ) -> None:
        self._client = client
        self._run = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        self._pace = pace
        self._keep_payloads = keep_payloads
        self._converter = converter_of_run(client, workflow_id)

    async def pending(self) -> Sequence[DescribedActivity]:
        """The activities that are pending, none where Temporal does not answer.

        Raises RunGoneError.
        """
        await self._pace.turn()
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=self._run
        )
        try:
            answer = await self._client.workflow_service.describe_workflow_execution(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise RunGoneError(f"Temporal has no run {self._run.run_id}") from error
            if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
                self._pace.exhausted()
            log.warning(
                "run_not_described",
                execution_id=self._run.run_id,
                status=error.status.name,
                problem=error.message,
            )
            return ()
        self._pace.answered()
        await decode(self._converter, answer.pending_activities)
        return [
            described(pending, keep_payloads=self._keep_payloads)
            for pending in answer.pending_activities
        ]
