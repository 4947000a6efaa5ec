"""A worker for the workflows of all tests, with activities that the test holds."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from executions.temporal.examples.activities import ALL_ACTIVITIES
from executions.temporal.examples.workflows import ALL_WORKFLOWS
from executions.temporal.plugin import NexusPlugin
from tests.histories.workflows import ODD_ACTIVITIES, ODD_WORKFLOWS
from tests.integration.held_workflows import HELD_WORKFLOWS, Held, echo

ALL_OF_THE_TESTS = (*ALL_WORKFLOWS, *ODD_WORKFLOWS, *HELD_WORKFLOWS)


@asynccontextmanager
async def held_worker_running(
    client: Client,
    task_queue: str,
    held: Held,
    plugins: Sequence[Any] | None = None,
    workflows: Sequence[type] = ALL_OF_THE_TESTS,
    **options: Any,
) -> AsyncIterator[Worker]:
    """A worker with Nexus, unless other plugins are given; further options are the SDK's."""
    worker = Worker(
        client,
        task_queue=task_queue,
        workflows=workflows,
        activities=[*ALL_ACTIVITIES, *ODD_ACTIVITIES, held.held, echo],
        plugins=[NexusPlugin()] if plugins is None else plugins,
        **options,
    )
    async with worker:
        yield worker


async def start_with(
    client: Client, task_queue: str, workflow: type, *args: Any, **options: Any
) -> WorkflowHandle[Any, Any]:
    """Start a run with options of the client's; the handle is the run's own."""
    started: WorkflowHandle[Any, Any] = await client.start_workflow(
        workflow.__name__,
        args=args,
        id=f"test-{uuid4().hex[:12]}",
        task_queue=task_queue,
        **options,
    )
    return client.get_workflow_handle(started.id, run_id=started.first_execution_run_id)
