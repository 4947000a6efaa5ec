"""Everything that a Temporal run can do, each as a small real workflow of a worker with Nexus."""

import base64
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetWorkflowExecutionRequest,
    UnpauseActivityRequest,
)
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import RetryPolicy
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from executions.attempts import AttemptOutcome
from executions.document import JsonObject
from executions.models import Attempt, Execution
from executions.temporal.activity_sync_service import ActivitySyncService
from executions.temporal.following import run_follower
from executions.temporal.live.hints import HintQueue
from tests.histories.features import (
    BranchingWorkflow,
    ChildrenWorkflow,
    ImpatientWorkflow,
    LocalActivitiesWorkflow,
    PatientLocalActivityWorkflow,
    ReachingWorkflow,
    SecondTryWorkflow,
    TalkingWorkflow,
    TimeoutsWorkflow,
    TimersWorkflow,
)
from tests.histories.workflows import (
    AbandoningWorkflow,
    ContinuingWorkflow,
    RepeatedIdsWorkflow,
)
from tests.integration.full_reads import (
    activities_by_id,
    assert_true,
    attempts_of,
    details_of,
    points_of,
    values_told,
)
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import EchoWorkflow, Held, HeldOptions, HeldWorkflow
from tests.integration.temporal_runs import (
    in_database,
    run_id_of,
    until,
    until_activity,
    until_ended,
)

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

STILL_RUNNING = ("started_at", "retry_count")
"""What history does not tell of an activity that was running when its run closed."""


@pytest.fixture(autouse=True)
def never_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that history and the worker's hints have to do; what only a description tells is rare."""
    monkeypatch.setattr(run_follower, "DESCRIBE_SECONDS", 600.0)


@pytest.fixture
def described_often(never_described: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_follower, "DESCRIBE_SECONDS", 0.05)


@pytest.fixture
def held() -> Held:
    return Held()


Run = WorkflowHandle[Any, Any]


def same_workflow(client: Client, run: Run, run_id: str) -> Run:
    return client.get_workflow_handle(run.id, run_id=run_id)


async def until_execution(run_id: str, what: str, found: Callable[[Execution], bool]) -> Execution:
    """Wait until the execution's row is as asked for."""

    def row() -> Execution | None:
        execution = Execution.objects.filter(pk=run_id).first()
        return execution if execution is not None and found(execution) else None

    execution: Execution | None = await until(what, lambda: in_database(row))
    assert execution is not None
    return execution


def assert_attempt_is_whole(attempt: Attempt, identity: str) -> None:
    """Who made it and when is known, in order."""
    assert attempt.worker_identity == identity
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.scheduled_at is not None
    assert attempt.scheduled_at <= attempt.started_at <= attempt.ended_at


def told_progress(progress: float) -> Callable[[JsonObject], bool]:
    return lambda activity: activity["progress"] == progress


def asked(state: str | None) -> Callable[[JsonObject], bool]:
    return lambda activity: activity["pending_state"] == state


def shown(value: Any) -> JsonObject:
    """Of a value of JSON, as payloads are shown."""
    return {"encoding": "json/plain", "value": value, "is_cut": False, "problem": None}


def without_sizes(payloads: Iterable[JsonObject] | None) -> list[JsonObject]:
    entries = [dict(payload) for payload in payloads or ()]
    assert all(entry.pop("size_bytes") >= 0 for entry in entries)
    return entries


@pytest.mark.database
async def test_each_kind_of_timeout_is_told_with_its_attempts(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, TimeoutsWorkflow)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run, {"schedule-to-close": ["started_at"]})
    activities = activities_by_id(document)
    for activity_id, kind in {
        "start-to-close": "StartToClose",
        "schedule-to-start": "ScheduleToStart",
        "schedule-to-close": "ScheduleToClose",
        "heartbeat": "Heartbeat",
    }.items():
        assert activities[activity_id]["status"] == "failed"
        assert activities[activity_id]["error_details"]["type"] == "TimeoutError"
        assert kind in activities[activity_id]["error_details"]["message"]
    for activity_id in ("start-to-close", "heartbeat"):
        [attempt] = await in_database(attempts_of, run_id_of(run), activity_id)
        assert attempt.outcome == AttemptOutcome.TIMED_OUT
        assert attempt.failure["type"] == "TimeoutError"
        assert_attempt_is_whole(attempt, client.identity)
    assert await in_database(attempts_of, run_id_of(run), "schedule-to-start") == []
    attempts = await in_database(attempts_of, run_id_of(run), "schedule-to-close")
    assert [attempt.failure["type"] for attempt in attempts] == ["NotYet"] * len(attempts)
    assert {attempt.outcome for attempt in attempts} == {"failed"}
    assert activities["schedule-to-close"]["retry_count"] == len(attempts) - 1


@pytest.mark.database
async def test_failed_attempts_stay_known_when_the_activity_has_completed(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
        await until_activity(run_id_of(run), "held", "running")
        held.fail()
        for progress, go_on in ((0.25, held.fail), (0.5, held.complete)):
            held.heartbeat(progress)
            await until_activity(run_id_of(run), "held", "running", told_progress(progress))
            go_on()
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    [activity] = document["activities"]
    assert (activity["status"], activity["retry_count"]) == ("completed", 2)
    assert activity["error_details"] is None
    attempts = await in_database(attempts_of, run_id_of(run), "held")
    assert [attempt.outcome for attempt in attempts] == ["failed", "failed", "completed"]
    for attempt, following in zip(attempts, [*attempts[1:], None], strict=True):
        assert_attempt_is_whole(attempt, client.identity)
        if following is None:
            assert attempt.failure is attempt.next_attempt_at is None
            continue
        assert attempt.failure["type"] == "ToldToFail"
        assert attempt.failure["message"] == f"Told to fail attempt {attempt.number}"
        assert "raise ApplicationError" in attempt.failure["stack_trace"]
        assert attempt.ended_at <= attempt.next_attempt_at <= following.started_at
    heartbeats = [
        attempt.heartbeat_details and without_sizes(attempt.heartbeat_details)
        for attempt in attempts
    ]
    assert heartbeats == [None, [shown({"progress": 0.25})], [shown({"progress": 0.5})]]
    details = await in_database(details_of, run_id_of(run), "held")
    assert without_sizes(details.input) == [shown("held")]
    assert without_sizes(details.output) == [shown("held")]
    assert details.task_queue == task_queue


async def test_cancelled_activity_is_seen_to_be_asked_first(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, ImpatientWorkflow)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    patient = activities_by_id(document)["patient"]
    assert (patient["status"], patient["pending_state"]) == ("cancelled", None)
    assert patient["error_details"] is None
    asked = await in_database(values_told, run_id_of(run), "patient", "pending_state")
    assert asked == [None, "cancel_requested", None]
    [attempt] = await in_database(attempts_of, run_id_of(run), "patient")
    assert (attempt.outcome, attempt.failure) == ("cancelled", None)
    assert_attempt_is_whole(attempt, client.identity)


async def test_local_activities_are_activities_of_their_own_type(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        runs = [
            await start_with(client, task_queue, LocalActivitiesWorkflow),
            await start_with(client, task_queue, PatientLocalActivityWorkflow),
        ]
        await until_ended(*map(run_id_of, runs))
    document = await assert_true(client, runs[0])
    ends = {
        each["activity_id"]: (each["activity_type"], each["status"], each["retry_count"])
        for each in document["activities"]
    }
    assert ends == {
        "local:first": ("local_activity", "completed", 0),
        "local:left": ("local_activity", "completed", 0),
        "local:right": ("local_activity", "completed", 0),
        "local:flaky": ("local_activity", "completed", 2),
        "after": ("activity", "completed", 0),
        "local:refused": ("local_activity", "failed", 0),
        "local:slow": ("local_activity", "failed", 0),
    }
    activities = activities_by_id(document)
    assert activities["local:flaky"]["depends_on"] == ["local:left", "local:right"]
    assert activities["local:refused"]["error_details"] == {
        "type": "NotYet",
        "message": "Not in attempt 1",
    }
    flaky = await in_database(details_of, run_id_of(runs[0]), "local:flaky")
    assert without_sizes(flaky.output) == [shown(3)]
    [patient] = [
        each
        for each in (await assert_true(client, runs[1]))["activities"]
        if each["activity_type"] == "local_activity"
    ]
    assert (patient["status"], patient["retry_count"]) == ("completed", 1)
    first, second = await in_database(attempts_of, run_id_of(runs[1]), patient["activity_id"])
    assert (first.outcome, first.failure["type"]) == ("failed", "NotYet")
    assert second.outcome == "completed"


@pytest.mark.database
async def test_child_workflows_are_linked_to_their_own_executions_and_back(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, ChildrenWorkflow)
        await until_ended(run_id_of(run))
        document = await assert_true(client, run)
        children = {each["activity_id"].rpartition("/")[2]: each for each in document["activities"]}
        await client.get_workflow_handle(f"{run.id}/abandoned").terminate()
        links = {name: each["child_execution_id"] for name, each in children.items()}
        started = [link for link in links.values() if link is not None]
        await until_ended(*started)
    assert {name: each["status"] for name, each in children.items()} == {
        "completed": "completed",
        "failed": "failed",
        f"child:{run.id}": "failed",
        "timed-out": "failed",
        "cancelled": "cancelled",
        "abandoned": "cancelled",
    }
    assert {each["activity_type"] for each in document["activities"]} == {"child_workflow"}
    assert links.pop(f"child:{run.id}") is None
    rows = {each.pk: each for each in await in_database(list, Execution.objects.all())}
    statuses = {}
    for name, link in links.items():
        assert rows[link].parent_execution_id == run_id_of(run)
        assert rows[link].workflow_id == f"{run.id}/{name}"
        statuses[name] = rows[link].status
        await assert_true(client, client.get_workflow_handle(rows[link].workflow_id, run_id=link))
    assert statuses == {
        "completed": "completed",
        "failed": "failed",
        "timed-out": "timed_out",
        "cancelled": "cancelled",
        "abandoned": "terminated",
    }
    assert "may go on" in children["abandoned"]["error_details"]["message"]


async def test_timers_fire_and_are_cancelled(client: Client, task_queue: str, held: Held) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, TimersWorkflow)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    timers = [each for each in document["activities"] if each["activity_type"] == "timer"]
    assert [(each["activity_name"], each["status"]) for each in timers] == [
        ("Cooling down", "completed"),
        ("timer", "cancelled"),
    ]
    fired = timers[0]
    assert activities_by_id(document)["after-the-wait"]["depends_on"] == [fired["activity_id"]]
    told = await in_database(values_told, run_id_of(run), fired["activity_id"], "status")
    # So short a timer may be over before its start was read.
    assert told[-1] == "completed"
    details = await in_database(details_of, run_id_of(run), fired["activity_id"])
    assert details.options == {"seconds": 0.05}


@pytest.mark.database
async def test_signals_and_updates_are_points_of_the_run(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, TalkingWorkflow)
        await run.signal(TalkingWorkflow.say, "said")

        def is_signal(execution: Execution) -> bool:
            return (execution.latest_point or {}).get("kind") == "signal"

        told = await until_execution(run_id_of(run), "the signal", is_signal)
        assert (told.latest_point or {})["name"] == "say"
        assert await run.execute_update(TalkingWorkflow.ask, 1) == 2
        for refused in (-1, 13):
            with pytest.raises(WorkflowUpdateFailedError):
                await run.execute_update(TalkingWorkflow.ask, refused)
        await run.signal(TalkingWorkflow.finish)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    points = await in_database(points_of, run_id_of(run))
    assert [(point.kind, point.name) for point in points] == [
        ("signal", "say"),
        ("update_accepted", "ask"),
        ("update_completed", "ask"),
        ("update_accepted", "ask"),
        ("update_completed", "ask"),
        ("signal", "finish"),
    ]
    assert without_sizes(points[0].details["input"]) == [shown("said")]
    assert without_sizes(points[2].details["output"]) == [shown(2)]
    assert points[4].details["failure"] == {"type": "Unlucky", "message": "Not that number"}
    assert document["latest_point"]["name"] == "finish"


async def test_what_a_run_asks_of_other_runs_is_told_on_both_sides(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        other = await start_with(client, task_queue, TalkingWorkflow)
        run = await start_with(client, task_queue, ReachingWorkflow, other.id)
        await until_ended(run_id_of(run), run_id_of(other))
    await assert_true(client, run)
    sent = [point.kind for point in await in_database(points_of, run_id_of(run))]
    assert sent == [
        "memo",
        "signal_sent",
        "external_cancel_requested",
        "signal_sent",
        "signal_failed",
        "external_cancel_requested",
        "external_cancel_failed",
    ]
    assert (await assert_true(client, other))["status"] == "cancelled"
    points = await in_database(points_of, run_id_of(other))
    # What arrives while a workflow task is being worked on may have it done again.
    heard = [point for point in points if point.kind != "workflow_task_failed"]
    assert [point.kind for point in heard] == ["signal", "cancel_requested"]
    assert {point.details["workflow_id"] for point in heard} == {run.id}


async def linked_runs(client: Client, run: Run, count: int) -> list[JsonObject]:
    """The run and those that follow, each true, as documents; proven to be linked both ways."""
    documents: list[JsonObject] = []
    run_id: str | None = run_id_of(run)
    while run_id is not None:
        await until_ended(run_id)
        document = await assert_true(client, same_workflow(client, run, run_id))
        assert document["previous_execution_id"] == (
            documents[-1]["execution_id"] if documents else None
        )
        documents.append(document)
        run_id = document["next_execution_id"]
    assert len(documents) == count
    return documents


async def test_runs_that_continue_as_new_are_linked_both_ways(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, ContinuingWorkflow, 2)
        documents = await linked_runs(client, run, 3)
    assert [document["status"] for document in documents] == [
        "continued_as_new",
        "continued_as_new",
        "completed",
    ]
    assert documents[1]["latest_point"]["kind"] == "continued_as_new"


async def test_retry_of_a_workflow_is_linked_to_the_run_that_failed(
    client: Client, task_queue: str, held: Held
) -> None:
    policy = RetryPolicy(maximum_attempts=2, initial_interval=timedelta(seconds=0.1))
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, SecondTryWorkflow, retry_policy=policy)
        first, second = await linked_runs(client, run, 2)
    assert first["status"] == "failed"
    assert first["error_details"]["type"] == "FirstRun"
    assert second["status"] == "completed"
    [point] = await in_database(points_of, second["execution_id"])
    assert (point.kind, point.details["attempt"]) == ("retried", 2)


async def test_turns_of_a_cron_workflow_are_linked_both_ways(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, BranchingWorkflow, cron_schedule="@every 1s")
        await until_ended(run_id_of(run))
        ended = await in_database(Execution.objects.get, pk=run_id_of(run))
        assert ended.next_execution_id is not None
        await until_execution(ended.next_execution_id, "the next turn", lambda row: True)
        await same_workflow(client, run, ended.next_execution_id).terminate()
        first, second = await linked_runs(client, run, 2)
    assert (first["status"], second["status"]) == ("completed", "terminated")
    assert second["latest_point"]["kind"] == "cron"


@pytest.mark.database
async def test_reset_makes_a_new_run_and_the_old_one_closes_as_its_history_says(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, TalkingWorkflow)
        await run.signal(TalkingWorkflow.say, "said")
        await until_activity(run_id_of(run), "said", "completed")
        tasks = [
            event.event_id
            async for event in run.fetch_history_events()
            if event.HasField("workflow_task_completed_event_attributes")
        ]
        answer = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run_id_of(run)),
                reason="Try again",
                workflow_task_finish_event_id=tasks[0],
                request_id=f"reset-{run.id}",
            )
        )
        following = same_workflow(client, run, answer.run_id)
        await following.signal(TalkingWorkflow.finish)
        await until_ended(run_id_of(run), answer.run_id)
    old, new = await assert_true(client, run), await assert_true(client, following)
    assert old["status"] == "terminated"
    assert new["status"] == "completed"
    assert new["previous_execution_id"] == old["execution_id"]
    points = await in_database(points_of, answer.run_id)
    [reset] = [point for point in points if point.kind == "reset"]
    assert reset.details["run_id"] == run_id_of(run)
    assert reset.details["reason"].endswith("Try again")


@pytest.mark.parametrize("ending", ["terminated", "timed_out"])
async def test_activities_that_a_run_leaves_open_end_with_it(
    client: Client, task_queue: str, held: Held, ending: str
) -> None:
    async with held_worker_running(client, task_queue, held):
        limit = timedelta(seconds=1) if ending == "timed_out" else None
        run = await start_with(client, task_queue, AbandoningWorkflow, 60.0, run_timeout=limit)
        await until_activity(run_id_of(run), "running", "running")
        if ending == "terminated":
            await run.terminate(reason="Out of budget")
        await until_ended(run_id_of(run))
    document = await assert_true(client, run, {"running": STILL_RUNNING})
    activities = activities_by_id(document)
    assert document["status"] == ending
    why = {"terminated": "Out of budget", "timed_out": "longer than its timeout"}[ending]
    for activity_id in ("running", "queued"):
        assert activities[activity_id]["status"] == "cancelled"
        assert why in activities[activity_id]["error_details"]["message"]
    assert activities["queued"]["started_at"] is None
    assert await in_database(attempts_of, run_id_of(run), "queued") == []
    [attempt] = await in_database(attempts_of, run_id_of(run), "running")
    assert (attempt.outcome, attempt.ended_at) == ("unknown", None)
    assert attempt.worker_identity == client.identity


async def test_run_that_returns_takes_its_open_activities_along(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, AbandoningWorkflow, 0.3)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run, {"running": STILL_RUNNING})
    assert document["status"] == "completed"
    for activity_id in ("running", "queued"):
        assert activities_by_id(document)[activity_id]["error_details"] == {
            "type": "RunClosed",
            "message": "Still open when the run ended as completed",
        }


async def test_activities_that_use_one_id_again_have_ledgers_of_their_own(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, RepeatedIdsWorkflow, 0.02)
        await until_ended(run_id_of(run))
    document = await assert_true(client, run)
    ids = [each["activity_id"] for each in document["activities"]]
    assert ids == ["again", "again~2", "again~3"]
    started: list[Any] = []
    for activity_id in ids:
        [attempt] = await in_database(attempts_of, run_id_of(run), activity_id)
        assert (attempt.outcome, attempt.worker_identity) == ("completed", client.identity)
        started.append(attempt.started_at)
    assert started == sorted(started)


@pytest.mark.database
@pytest.mark.usefixtures("described_often")
async def test_activity_is_paused_while_it_runs_and_goes_on(
    client: Client, task_queue: str, held: Held
) -> None:
    async with held_worker_running(client, task_queue, held):
        run = await start_with(client, task_queue, HeldWorkflow, HeldOptions())
        run_id = run_id_of(run)
        execution = WorkflowExecution(workflow_id=run.id, run_id=run_id)
        about: Any = {"namespace": client.namespace, "execution": execution, "id": "held"}
        await until_activity(run_id, "held", "running")
        await client.workflow_service.pause_activity(PauseActivityRequest(**about))
        await until_activity(run_id, "held", "running", asked("pause_requested"))
        held.fail()
        paused = await until_activity(run_id, "held", "retrying", asked("paused"))
        assert paused["next_attempt_at"] is None
        await client.workflow_service.unpause_activity(UnpauseActivityRequest(**about))
        resumed = await until_activity(run_id, "held", "running", asked(None))
        assert resumed["retry_count"] == 1
        held.complete()
        await until_ended(run_id)
    await assert_true(client, run)
    told = await in_database(values_told, run_id, "held", "pending_state")
    assert told == [None, "pause_requested", "paused", None]
    attempts = await in_database(attempts_of, run_id, "held")
    assert [attempt.outcome for attempt in attempts] == ["failed", "completed"]


class Reversing(PayloadCodec):
    """Stands for encryption: what it encodes nobody else can read."""

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [
            Payload(
                metadata={"encoding": b"binary/reversed"}, data=payload.SerializeToString()[::-1]
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        return [Payload.FromString(payload.data[::-1]) for payload in payloads]


ENCRYPTED = DataConverter(
    payload_codec=Reversing(), failure_converter_class=DefaultFailureConverterWithEncodedAttributes
)


async def test_encrypted_payloads_are_told_through_the_clients_converter(
    temporal_address: str, task_queue: str, held: Held
) -> None:
    client = await Client.connect(temporal_address, data_converter=ENCRYPTED)
    async with held_worker_running(client, task_queue, held):
        runs = [
            await start_with(client, task_queue, EchoWorkflow, {"secret": 42}),
            await start_with(client, task_queue, EchoWorkflow, "fail"),
        ]
        await until_ended(*map(run_id_of, runs))
    await assert_true(client, runs[0])
    details = await in_database(details_of, run_id_of(runs[0]), "echo")
    assert without_sizes(details.input) == [shown({"secret": 42})]
    assert without_sizes(details.output) == [shown({"secret": 42})]
    document = await assert_true(client, runs[1])
    told = {"type": "ToldToFail", "message": "Told to fail"}
    assert document["activities"][0]["error_details"] == told
    [attempt] = await in_database(attempts_of, run_id_of(runs[1]), "echo")
    assert "raise ApplicationError" in attempt.failure["stack_trace"]


async def test_encrypted_payloads_that_cannot_be_decoded_are_said_to_be_so(
    temporal_address: str, client: Client, task_queue: str, held: Held
) -> None:
    encrypting = await Client.connect(temporal_address, data_converter=ENCRYPTED)
    async with held_worker_running(encrypting, task_queue, held, plugins=[]):
        runs = [
            await start_with(encrypting, task_queue, EchoWorkflow, {"secret": 42}),
            await start_with(encrypting, task_queue, EchoWorkflow, "fail"),
        ]
        async with ActivitySyncService(client, HintQueue(), task_queue=task_queue):
            await until_ended(*map(run_id_of, runs))
    await assert_true(client, runs[0])
    details = await in_database(details_of, run_id_of(runs[0]), "echo")
    for [payload] in (details.input, details.output):
        assert (payload["encoding"], payload["value"]) == ("binary/reversed", None)
        assert "configure the data converter" in payload["problem"]
    failed = (await assert_true(client, runs[1]))["activities"][0]
    assert failed["error_details"] == {"type": "ToldToFail", "message": "Encoded failure"}


async def test_binary_and_enormous_payloads_are_shown_and_marked(
    client: Client, task_queue: str, held: Held
) -> None:
    text = "0123456789" * 100_000
    async with held_worker_running(client, task_queue, held):
        binary = await start_with(client, task_queue, EchoWorkflow, b"\x00\xff" * 9)
        nothing = await start_with(client, task_queue, EchoWorkflow, None)
        enormous = await start_with(client, task_queue, EchoWorkflow, {"text": text})
        await until_ended(*map(run_id_of, (binary, nothing, enormous)))
    for run in (binary, nothing, enormous):
        await assert_true(client, run)
    details = await in_database(details_of, run_id_of(binary), "echo")
    [payload] = details.output
    assert (payload["encoding"], payload["size_bytes"]) == ("binary/plain", 18)
    assert base64.b64decode(payload["value"]) == b"\x00\xff" * 9
    [payload] = (await in_database(details_of, run_id_of(nothing), "echo")).output
    assert (payload["encoding"], payload["value"]) == ("binary/null", None)
    [payload] = (await in_database(details_of, run_id_of(enormous), "echo")).output
    assert payload["size_bytes"] > 1_000_000
    assert payload["is_cut"]
    assert payload["value"] == ('{"text":"' + text)[: len(payload["value"])]
    assert 1_000 < len(payload["value"]) <= 16 * 1024
