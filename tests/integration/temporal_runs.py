"""Running workflows with Nexus, and looking at what became of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, ParamSpec, TypeVar
from uuid import uuid4

from django.db import connections
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from executions.document import JsonObject
from executions.models import Execution
from executions.statuses import ExecutionStatus
from executions.temporal.examples.activities import ALL_ACTIVITIES
from executions.temporal.examples.workflows import ALL_WORKFLOWS
from executions.temporal.plugin import NexusPlugin
from tests.histories.workflows import ODD_ACTIVITIES, ODD_WORKFLOWS, crunch
from tests.truth import assert_log_is_whole, document_of_rows

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_SECONDS: Final = 30.0


@asynccontextmanager
async def worker_running(
    client: Client, task_queue: str, plugins: Sequence[Any] | None = None, **options: Any
) -> AsyncIterator[Worker]:
    """A worker for all workflows of the tests, with Nexus unless other plugins are given."""
    synchronous = [crunch] if "activity_executor" in options else []
    worker = Worker(
        client,
        task_queue=task_queue,
        workflows=[*ALL_WORKFLOWS, *ODD_WORKFLOWS],
        activities=[*ALL_ACTIVITIES, *ODD_ACTIVITIES, *synchronous],
        plugins=[NexusPlugin()] if plugins is None else plugins,
        **options,
    )
    async with worker:
        yield worker


async def start(
    client: Client, task_queue: str, workflow: type, *args: Any
) -> WorkflowHandle[Any, Any]:
    """Start a run; the handle is the run's own, not that of its successors."""
    started: WorkflowHandle[Any, Any] = await client.start_workflow(
        workflow.__name__, args=args, id=f"test-{uuid4().hex[:12]}", task_queue=task_queue
    )
    return client.get_workflow_handle(started.id, run_id=started.first_execution_run_id)


def run_id_of(run: WorkflowHandle[Any, Any]) -> str:
    assert run.run_id is not None
    return run.run_id


async def in_database(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run database code in a thread, and leave no connection behind."""

    def run() -> T:
        try:
            return job(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until(what: str, condition: Callable[[], Awaitable[T]]) -> T:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS:g} s for: {what}"
        await asyncio.sleep(0.01)
    return found


async def until_ended(*run_ids: str) -> None:
    """Wait until these executions are final in the database."""

    def all_final() -> bool:
        rows = Execution.objects.filter(pk__in=run_ids).values_list("status", flat=True)
        return [ExecutionStatus(status).is_final for status in rows].count(True) == len(run_ids)

    await until(f"the end of {run_ids}", lambda: in_database(all_final))


async def until_activity(
    run_id: str,
    activity_id: str,
    status: str,
    having: Callable[[JsonObject], object] = bool,
) -> JsonObject:
    """Wait until the execution's activity has that status, and what is asked for besides."""

    def found() -> JsonObject | None:
        if not Execution.objects.filter(pk=run_id).exists():
            return None
        activities = document_of_rows(run_id)["activities"]
        return next(
            (
                item
                for item in activities
                if (item["activity_id"], item["status"]) == (activity_id, status) and having(item)
            ),
            None,
        )

    return await until(f"{activity_id} {status}", lambda: in_database(found)) or {}


def mirrored_document(run_id: str) -> JsonObject:
    """The run's document, proven by its log."""
    assert_log_is_whole(run_id)
    return document_of_rows(run_id)


def states_told(log: Sequence[Any], activity_id: str) -> list[str]:
    """The statuses of one activity in the order in which events told them."""
    position: int | None = None
    told: list[str] = []
    positions = 0
    for event in log:
        for operation in json.loads(event.message).get("ops", ()):
            if operation["op"] == "add":
                if operation["value"]["activity_id"] == activity_id:
                    position = positions
                    told.append(operation["value"]["status"])
                positions += 1
            elif operation["path"] == f"/activities/{position}/status":
                told.append(operation["value"])
    return told
