"""Runs with a workflow definition: planned from their start, real as they go."""

from typing import Any

import pytest
from temporalio.client import Client

from executions.document import JsonObject
from executions.models import WorkflowDefinition
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.history.plan import MalformedPlanError
from executions.temporal.live.hints import HintQueue
from executions.temporal.plugin import NexusPlugin
from tests.histories.features import BranchingWorkflow
from tests.integration.full_reads import activities_by_id, assert_true, values_told
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import Held, HeldOptions, HeldWorkflow
from tests.integration.temporal_runs import (
    in_database,
    mirrored_document,
    run_id_of,
    until_activity,
    until_ended,
)

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

MEMO = "nexus_workflow_definition"
BRANCHES: JsonObject = {
    "activities": [
        {"activity_id": "check"},
        {"activity_id": "pack-and-ship", "depends_on": ["check"]},
        {"activity_id": "refund", "depends_on": ["check"]},
        {"activity_id": "report", "depends_on": ["pack-and-ship", "refund"]},
    ]
}


@pytest.fixture
def held() -> Held:
    return Held()


def planned(*activity_ids: str, **more: Any) -> JsonObject:
    """A definition of activities that do not depend on each other."""
    return {"activities": [{"activity_id": each} for each in activity_ids], **more}


def graph_of(document: JsonObject) -> dict[str, tuple[str, list[str]]]:
    return {
        each["activity_id"]: (each["status"], each["depends_on"]) for each in document["activities"]
    }


def stored(run_id: str) -> Any:
    rows = WorkflowDefinition.objects.filter(pk=run_id)
    return rows.values_list("definition", flat=True).first()


@pytest.mark.database
@pytest.mark.parametrize("given_by", ["plugin", "memo"])
async def test_planned_branch_that_is_not_taken_ends_as_skipped(
    client: Client, task_queue: str, held: Held, given_by: str
) -> None:
    by_plugin = {"BranchingWorkflow": BRANCHES} if given_by == "plugin" else {}
    by_memo = {MEMO: BRANCHES} if given_by == "memo" else {}
    plugin = NexusPlugin(workflow_definitions=by_plugin)
    async with held_worker_running(client, task_queue, held, [plugin]):
        run = await start_with(client, task_queue, BranchingWorkflow, "refund", memo=by_memo)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    assert graph_of(document) == {
        "check": ("completed", []),
        "pack-and-ship": ("skipped", ["check"]),
        "refund": ("completed", ["check"]),
        "report": ("completed", ["refund"]),
    }
    for activity_id in graph_of(document):
        told = await in_database(values_told, run_id_of(run), activity_id, "status")
        assert told[0] == "pending"
    report = await in_database(values_told, run_id_of(run), "report", "depends_on")
    assert report == [["pack-and-ship", "refund"], ["refund"]]
    named = activities_by_id(document)
    assert named["report"]["activity_name"] == "later"
    assert named["pack-and-ship"]["scheduled_at"] is None
    assert await in_database(stored, run_id_of(run)) == BRANCHES


async def test_plan_is_there_as_pending_before_anything_of_it_has_been_scheduled(
    client: Client, task_queue: str, held: Held
) -> None:
    """Found by `activity_name` too, and beside what nobody planned."""
    definition = {
        "activities": [
            {"activity_id": "first", "activity_name": "held"},
            {"activity_id": "later", "activity_name": "never", "depends_on": ["first"]},
        ],
        "title": "Kept, and of no meaning here",
    }
    run = await start_with(
        client,
        task_queue,
        HeldWorkflow,
        HeldOptions(["held", "unplanned"]),
        memo={MEMO: definition},
    )
    run_id = run_id_of(run)
    async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
        first = await until_activity(run_id, "first", "pending")
        assert (first["activity_name"], first["scheduled_at"]) == ("held", None)
        document = await in_database(mirrored_document, run_id)
        assert graph_of(document) == {"first": ("pending", []), "later": ("pending", ["first"])}
        async with held_worker_running(client, task_queue, held, plugins=[]):
            held.complete("held")
            held.complete("unplanned")
            await until_ended(run_id)
    document = await assert_true(client, run)
    assert graph_of(document) == {
        "first": ("completed", []),
        "later": ("skipped", ["first"]),
        "unplanned": ("completed", []),
    }
    assert await in_database(stored, run_id) == definition


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ({"activities": {"check": {}}}, "activities must be a list"),
        ({"activities": [{"activity_id": ""}]}, "text that is not empty"),
        (planned("check", "check"), "planned twice"),
        (
            {"activities": [{"activity_id": "check", "depends_on": ["nobody"]}]},
            "'nobody', which is not planned",
        ),
    ],
)
def test_malformed_definition_is_refused_when_the_plugin_is_made(
    definition: JsonObject, problem: str
) -> None:
    with pytest.raises(MalformedPlanError, match=problem):
        NexusPlugin(workflow_definitions={"BranchingWorkflow": definition})


async def test_memo_that_cannot_be_a_plan_plans_nothing_and_harms_nothing(
    client: Client, task_queue: str, held: Held
) -> None:
    enormous = planned("check", filler="x" * 1_100_000)
    memos: list[Any] = [
        {"activities": [{"activity_id": "check", "depends_on": ["nobody"]}]},
        "no definition at all",
        None,
        planned(*(f"step-{number}" for number in range(5_001))),
        enormous,
    ]
    async with held_worker_running(client, task_queue, held):
        runs = [
            await start_with(client, task_queue, BranchingWorkflow, memo={MEMO: memo})
            for memo in memos
        ]
        await until_ended(*map(run_id_of, runs))
    for run in runs:
        document = await assert_true(client, run)
        assert graph_of(document) == {
            "check": ("completed", []),
            "pack-and-ship": ("completed", ["check"]),
            "report": ("completed", ["pack-and-ship"]),
        }


async def test_process_with_another_definition_goes_on_with_the_stored_one(
    client: Client, task_queue: str, held: Held
) -> None:
    before, after = planned("held", "untaken"), planned("other")
    async with held_worker_running(
        client, task_queue, held, [NexusPlugin(workflow_definitions={"HeldWorkflow": before})]
    ):
        run = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
        await until_activity(run_id_of(run), "held", "running")
    other = ActivitySyncService(
        client, HintQueue(), task_queue=task_queue, workflow_definitions={"HeldWorkflow": after}
    )
    async with held_worker_running(client, task_queue, held, plugins=[]), other:
        held.complete()
        held.complete()
        newer = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
        await until_ended(run_id_of(run), run_id_of(newer))
    assert {
        activity_id: status
        for activity_id, (status, _) in graph_of(await assert_true(client, run)).items()
    } == {"held": "completed", "untaken": "skipped"}
    assert set(graph_of(await assert_true(client, newer))) == {"other", "held"}
