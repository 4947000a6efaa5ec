"""Every example workflow, run by a real Temporal and mirrored as it happens."""

import pytest
from temporalio.client import Client

from executions.event_log import read_events
from executions.temporal.examples.workflows import (
    CancellableOptions,
    CancellableWorkflow,
    FailingOptions,
    FailingWorkflow,
    FanOutOptions,
    FanOutWorkflow,
    PipelineOptions,
    PipelineWorkflow,
)
from tests.integration.full_reads import assert_true
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    start,
    states_told,
    until_activity,
    until_ended,
    worker_running,
)

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
    pytest.mark.database,
]

STEP_SECONDS = 0.5
ONCE = ["pending", "running", "completed"]


async def test_pipeline_shows_each_state_of_its_retried_step(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(STEP_SECONDS))
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    document = await assert_true(client, run)
    assert document["status"] == "completed"
    assert document["workflow_type"] == "PipelineWorkflow"
    names = [activity["activity_name"] for activity in document["activities"]]
    assert names == [
        "fetch_data",
        "validate_input",
        "process_data",
        "send_notification",
        "cleanup",
    ]
    assert [activity["depends_on"] for activity in document["activities"]] == [
        [],
        ["1"],
        ["2"],
        ["3"],
        ["4"],
    ]
    assert [activity["retry_count"] for activity in document["activities"]] == [0, 0, 1, 0, 0]
    assert states_told(log, "3") == ["pending", "running", "retrying", "running", "completed"]
    for other in ("1", "2", "4", "5"):
        assert states_told(log, other) == ONCE


async def test_failed_attempt_is_told_with_its_error_while_retrying(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, PipelineWorkflow, PipelineOptions(STEP_SECONDS))
        waiting = await until_activity(run_id_of(run), "3", "retrying")
        assert waiting["error_details"] == {
            "type": "ConnectionReset",
            "message": "The connection was reset after 512 rows",
        }
        assert waiting["retry_count"] == 0
        again = await until_activity(run_id_of(run), "3", "running")
        assert again["retry_count"] == 1
        assert again["error_details"] == waiting["error_details"]
        assert again["started_at"] > waiting["started_at"]
        await until_ended(run_id_of(run))


async def test_fan_out_runs_its_parts_at_once_and_joins_them(
    client: Client, task_queue: str
) -> None:
    width = 20
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, FanOutWorkflow, FanOutOptions(STEP_SECONDS, width))
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    document = await assert_true(client, run)
    parts, join = document["activities"][:-1], document["activities"][-1]
    assert [part["activity_id"] for part in parts] == [str(n) for n in range(1, width + 1)]
    assert all(part["depends_on"] == [] for part in parts)
    assert join["activity_name"] == "join_parts"
    assert join["depends_on"] == [part["activity_id"] for part in parts]
    for activity in document["activities"]:
        assert states_told(log, activity["activity_id"]) == ONCE


async def test_failing_run_ends_failed_with_the_reason_of_its_activity(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, FailingWorkflow, FailingOptions(STEP_SECONDS))
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    document = await assert_true(client, run)
    reason = {"type": "CardDeclined", "message": "The card was declined"}
    assert document["status"] == "failed"
    assert document["error_details"] == reason
    assert [activity["status"] for activity in document["activities"]] == ["completed", "failed"]
    assert document["activities"][1]["error_details"] == reason
    assert document["activities"][1]["retry_count"] == 2
    tries = ["running", "retrying", "running", "retrying", "running", "failed"]
    assert states_told(log, "2") == ["pending", *tries]


async def test_cancelled_run_shows_progress_and_ends_cancelled(
    client: Client, task_queue: str
) -> None:
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, CancellableWorkflow, CancellableOptions(0.05, 100))
        running = await until_activity(
            run_id_of(run), "1", "running", having=lambda activity: activity["progress"]
        )
        assert 0 < running["progress"] < 1
        await run.cancel()
        await until_ended(run_id_of(run))
        log = await in_database(read_events, run_id_of(run), -1, 1_000)
    document = await assert_true(client, run)
    assert document["status"] == "cancelled"
    assert document["error_details"] is None
    assert document["activities"][0]["status"] == "cancelled"
    assert document["activities"][0]["progress"] is None
    assert states_told(log, "1") == ["pending", "running", "cancelled"]
