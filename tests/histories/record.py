"""Records the histories in this directory anew: `python -m tests.histories.record`.

They come from a Temporal dev server and the workflows of the examples and of
tests/histories/workflows.py, without Nexus, and without what tells of the machine.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from executions.temporal import workflows as examples
from executions.temporal.activities import ALL_ACTIVITIES
from tests.histories import workflows as odd
from tests.integration.temporal_fixtures import temporal_running

DIRECTORY = Path(__file__).parent
TASK_QUEUE = "histories"


async def record_all(address: str) -> None:
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[*examples.ALL_WORKFLOWS, *odd.ODD_WORKFLOWS],
        activities=[*ALL_ACTIVITIES, *odd.ODD_ACTIVITIES],
    )
    async with worker:
        await _record_all(client)


async def _record_all(client: Client) -> None:
    async def start(name: str, workflow: Any, *args: Any) -> WorkflowHandle[Any, Any]:
        return await client.start_workflow(workflow, args=args, id=name, task_queue=TASK_QUEUE)

    async def ended(name: str, run: WorkflowHandle[Any, Any]) -> None:
        async for _ in _own(run).fetch_history_events(wait_new_event=True):
            pass
        await _save(name, run)

    await ended(
        "pipeline", await start("pipeline", "PipelineWorkflow", examples.PipelineOptions(0.02))
    )
    await ended(
        "fan-out", await start("fan-out", "FanOutWorkflow", examples.FanOutOptions(0.05, 5))
    )
    await ended("failing", await start("failing", "FailingWorkflow", examples.FailingOptions(0.02)))
    await ended("two-chains", await start("two-chains", odd.TwoChainsWorkflow.run))
    await ended("repeated-ids", await start("repeated-ids", odd.RepeatedIdsWorkflow.run))
    await ended("compensating", await start("compensating", odd.CompensatingWorkflow.run))
    await ended("abandoning", await start("abandoning", odd.AbandoningWorkflow.run, 0.2))
    await ended("continued-as-new", await start("continued-as-new", odd.ContinuingWorkflow.run, 1))

    run = await start("signalled", odd.SignalledWorkflow.run)
    await _wait_for(run, "activity_task_completed")
    await run.signal(odd.SignalledWorkflow.go_on, "chosen")
    await ended("signalled", run)

    run = await start("cancelled", "CancellableWorkflow", examples.CancellableOptions(0.05, 10_000))
    await _wait_for(run, "activity_task_scheduled")
    await run.cancel()
    await ended("cancelled", run)

    run = await start("terminated", odd.AbandoningWorkflow.run, 60)
    await _wait_for(run, "activity_task_scheduled")
    await run.terminate(reason="Out of budget")
    await ended("terminated", run)


async def _wait_for(run: WorkflowHandle[Any, Any], kind: str) -> None:
    async for event in _own(run).fetch_history_events(wait_new_event=True):
        if (event.WhichOneof("attributes") or "").startswith(kind):
            return
    raise RuntimeError(f"{run.id} closed without an event {kind}")


def _own(run: WorkflowHandle[Any, Any]) -> WorkflowHandle[Any, Any]:
    return run._client.get_workflow_handle(run.id, run_id=run.first_execution_run_id)


async def _save(name: str, run: WorkflowHandle[Any, Any]) -> None:
    history = (await _own(run).fetch_history()).to_json_dict()
    text = json.dumps(_anonymous(history), indent=1, ensure_ascii=False)
    (DIRECTORY / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _anonymous(value: Any) -> Any:
    """Without stack traces (they hold paths) and worker identities (process@machine)."""
    if isinstance(value, list):
        return [_anonymous(item) for item in value]
    if isinstance(value, dict):
        return {key: _anonymous(item) for key, item in value.items() if key != "stackTrace"}
    if isinstance(value, str) and re.match(r"\d+@", value):
        return "worker@example"
    return value


if __name__ == "__main__":
    with temporal_running() as address:
        asyncio.run(record_all(address))
