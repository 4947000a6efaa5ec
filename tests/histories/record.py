"""Records histories in this directory anew: `python -m tests.histories.record [recipe …]`.

They come from a Temporal dev server and the workflows of the examples and of this
directory, without Nexus, and without what tells of the machine. Without names of recipes,
all are recorded.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from executions.temporal.examples import workflows as examples
from executions.temporal.examples.activities import ALL_ACTIVITIES
from tests.histories import features
from tests.histories import workflows as odd
from tests.servers.temporal import temporal_running

DIRECTORY = Path(__file__).parent
TASK_QUEUE = "histories"
PLAN: Final = {
    "activities": [
        {"activity_id": "check", "activity_name": "later"},
        {"activity_id": "pack-and-ship", "activity_name": "later", "depends_on": ["check"]},
        {"activity_id": "refund", "activity_name": "later", "depends_on": ["check"]},
        {"activity_id": "report", "depends_on": ["pack-and-ship", "refund"]},
    ]
}

Run = WorkflowHandle[Any, Any]
Recipe = Callable[["Recorder"], Awaitable[None]]


class Recorder:
    """Starts runs and keeps their histories."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def start(self, name: str, workflow: Any, *args: Any, **options: Any) -> Run:
        """The handle is the run's own, not that of its successors."""
        started = await self.client.start_workflow(
            workflow, args=args, id=name, task_queue=TASK_QUEUE, **options
        )
        return self.run(name, started.first_execution_run_id)

    def run(self, workflow_id: str, run_id: str | None) -> Run:
        return self.client.get_workflow_handle(workflow_id, run_id=run_id)

    async def until(self, run: Run, kind: str, count: int = 1) -> Any:
        """Wait for the event of that kind, or so many; the last one's attributes."""
        async for event in run.fetch_history_events(wait_new_event=True):
            found = event.WhichOneof("attributes") or ""
            if found.startswith(kind):
                count -= 1
                if count == 0:
                    return getattr(event, found)
        raise RuntimeError(f"{run.id} closed without enough events {kind}")

    async def keep(self, name: str, run: Run) -> str:
        """Save the run's history once it has closed; the id of the run that follows, or ""."""
        last: Any = None
        async for event in run.fetch_history_events(wait_new_event=True):
            last = getattr(event, event.WhichOneof("attributes") or "", None)
        history = (await run.fetch_history()).to_json_dict()
        text = json.dumps(_anonymous(history), indent=1, ensure_ascii=False)
        (DIRECTORY / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        return getattr(last, "new_execution_run_id", "")

    async def reset(self, run: Run, workflow_task_finish_event_id: int) -> Run:
        answer = await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run.run_id or ""),
                reason="Try again",
                workflow_task_finish_event_id=workflow_task_finish_event_id,
                request_id=f"reset-{run.run_id}",
            )
        )
        return self.run(run.id, answer.run_id)


def whole(name: str, workflow: Any, *args: Any, **options: Any) -> Recipe:
    """A run that needs nobody to end."""

    async def record(recorder: Recorder) -> None:
        await recorder.keep(name, await recorder.start(name, workflow, *args, **options))

    return record


async def continued_as_new(recorder: Recorder) -> None:
    run = await recorder.start("continued-as-new", odd.ContinuingWorkflow.run, 1)
    following = await recorder.keep("continued-as-new", run)
    await recorder.keep("continued-from", recorder.run(run.id, following))


async def signalled(recorder: Recorder) -> None:
    run = await recorder.start("signalled", odd.SignalledWorkflow.run)
    await recorder.until(run, "activity_task_completed")
    await run.signal(odd.SignalledWorkflow.go_on, "chosen")
    await recorder.keep("signalled", run)


async def cancelled(recorder: Recorder) -> None:
    options = examples.CancellableOptions(0.05, 10_000)
    run = await recorder.start("cancelled", "CancellableWorkflow", options)
    await recorder.until(run, "activity_task_scheduled")
    await run.cancel()
    await recorder.keep("cancelled", run)


async def terminated(recorder: Recorder) -> None:
    run = await recorder.start("terminated", odd.AbandoningWorkflow.run, 60)
    await recorder.until(run, "activity_task_scheduled")
    await run.terminate(reason="Out of budget")
    await recorder.keep("terminated", run)


async def children(recorder: Recorder) -> None:
    await whole("children", features.ChildrenWorkflow.run)(recorder)
    abandoned = recorder.run("children/abandoned", None)
    await abandoned.terminate()
    run = await recorder.start("parent", features.ChildrenWorkflow.run)
    child = await recorder.until(run, "child_workflow_execution_started")
    await recorder.keep("child", recorder.run("parent/completed", child.workflow_execution.run_id))
    await run.terminate()


async def talking(recorder: Recorder) -> None:
    run = await recorder.start("talking", features.TalkingWorkflow.run)
    await run.signal(features.TalkingWorkflow.say, "said")
    await run.execute_update(features.TalkingWorkflow.ask, 1)
    for refused in (-1, 13):
        try:
            await run.execute_update(features.TalkingWorkflow.ask, refused)
        except WorkflowUpdateFailedError:
            continue
        raise RuntimeError(f"{refused} was not refused")
    await run.signal(features.TalkingWorkflow.finish)
    await recorder.keep("talking", run)


async def reaching(recorder: Recorder) -> None:
    other = await recorder.start("other", features.TalkingWorkflow.run)
    await whole("reaching", features.ReachingWorkflow.run, "other")(recorder)
    await recorder.keep("reached", other)


async def retried(recorder: Recorder) -> None:
    policy = RetryPolicy(maximum_attempts=2)
    run = await recorder.start("retried", features.SecondTryWorkflow.run, retry_policy=policy)
    following = await recorder.keep("retried", run)
    await recorder.keep("retried-from", recorder.run(run.id, following))


async def cron(recorder: Recorder) -> None:
    run = await recorder.start("cron", features.BranchingWorkflow.run, cron_schedule="@every 1s")
    following = recorder.run(run.id, await recorder.keep("cron", run))
    await following.terminate(reason="Enough turns")
    await recorder.keep("cron-from", following)


async def reset(recorder: Recorder) -> None:
    """Back to the second workflow task: `opening` is under way, the signals come again."""
    run = await recorder.start("reset", features.TalkingWorkflow.run, 1.0)
    await recorder.until(run, "workflow_task_completed")
    await run.signal(features.TalkingWorkflow.say, "said")
    await recorder.until(run, "workflow_task_completed", 3)
    second = [
        event.event_id
        async for event in run.fetch_history_events()
        if event.HasField("workflow_task_completed_event_attributes")
    ][1]
    following = await recorder.reset(run, second)
    await recorder.until(following, "activity_task_completed")
    await following.signal(features.TalkingWorkflow.finish)
    await recorder.keep("reset-base", run)
    await recorder.keep("reset", following)


RECIPES: Final[dict[str, Recipe]] = {
    "pipeline": whole("pipeline", "PipelineWorkflow", examples.PipelineOptions(0.02)),
    "fan-out": whole("fan-out", "FanOutWorkflow", examples.FanOutOptions(0.05, 5)),
    "failing": whole("failing", "FailingWorkflow", examples.FailingOptions(0.02)),
    "two-chains": whole("two-chains", odd.TwoChainsWorkflow.run),
    "repeated-ids": whole("repeated-ids", odd.RepeatedIdsWorkflow.run),
    "compensating": whole("compensating", odd.CompensatingWorkflow.run),
    "abandoning": whole("abandoning", odd.AbandoningWorkflow.run, 0.2),
    "continued-as-new": continued_as_new,
    "signalled": signalled,
    "cancelled": cancelled,
    "terminated": terminated,
    "local-activities": whole("local-activities", features.LocalActivitiesWorkflow.run),
    "patient-local-activity": whole(
        "patient-local-activity", features.PatientLocalActivityWorkflow.run
    ),
    "children": children,
    "timers": whole("timers", features.TimersWorkflow.run),
    "talking": talking,
    "reaching": reaching,
    "timeouts": whole("timeouts", features.TimeoutsWorkflow.run),
    "impatient": whole("impatient", features.ImpatientWorkflow.run),
    "planned": whole(
        "planned",
        features.BranchingWorkflow.run,
        "refund",
        memo={"nexus_workflow_definition": PLAN},
    ),
    "retried": retried,
    "cron": cron,
    "reset": reset,
}


async def record(address: str, names: list[str]) -> None:
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[*examples.ALL_WORKFLOWS, *odd.ODD_WORKFLOWS],
        activities=[*ALL_ACTIVITIES, *odd.ODD_ACTIVITIES],
    )
    async with worker:
        for name in names:
            await RECIPES[name](Recorder(client))


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
        asyncio.run(record(address, sys.argv[1:] or list(RECIPES)))
