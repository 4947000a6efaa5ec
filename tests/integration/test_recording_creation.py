"""Creating executions, and reading documents and logs back, on a real database."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from executions import event_log
from executions.event_log import (
    differing_heads,
    find_event_id,
    heads_changed_since,
    read_events,
    read_heads,
)
from executions.identifiers import EventId
from executions.models import Execution, WorkflowDefinition
from executions.recording import (
    ActivityExistsError,
    ExecutionExistsError,
    NewActivity,
    RecordingError,
    UnacceptableValueError,
    changing,
    create_execution,
    ensure_execution,
)
from executions.snapshots import read_snapshot
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from tests.samples import an_execution, shown_activity
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
WRITTEN_MOMENT = "2026-01-02T03:04:05.678901Z"
IMPOSSIBLE_IDS = ["", "a\x00b", "a\ud800", "\xe4", "a/b", "x" * 65, "x" * 10_000]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


def test_creating_an_execution_is_event_0_with_the_whole_document() -> None:
    with assert_patches_tell_the_truth("mine") as told:
        created = create_execution(
            execution_id="mine",
            workflow_id="w",
            workflow_type="t",
            run_id="r",
            status=ExecutionStatus.RUNNING,
            created_at=MOMENT,
            started_at=MOMENT,
            error_details={"type": None, "message": "so far\x00"},
            parent_execution_id="p",
            previous_execution_id="q",
            latest_point={"kind": "signal", "name": None, "at": WRITTEN_MOMENT},
            activities=[
                NewActivity(activity_id="b", activity_name="B", progress=0),
                NewActivity(
                    activity_id="a",
                    activity_name="A",
                    activity_type="script",
                    status=ActivityStatus.RETRYING,
                    pending_state=PendingState.PAUSED,
                    attempt=4,
                    next_attempt_at=MOMENT,
                    scheduled_at=MOMENT,
                    started_at=MOMENT,
                    child_execution_id="c",
                    error_details={"type": "E", "message": "no"},
                    depends_on=("b", "b"),
                ),
            ],
        )
    assert len(told.events) == 1
    assert told.messages[0]["execution"] == {
        "execution_id": "mine",
        "workflow_id": "w",
        "workflow_type": "t",
        "run_id": "r",
        "status": "running",
        "created_at": WRITTEN_MOMENT,
        "started_at": WRITTEN_MOMENT,
        "completed_at": None,
        "error_details": {"type": None, "message": "so far\ufffd"},
        "parent_execution_id": "p",
        "previous_execution_id": "q",
        "next_execution_id": None,
        "latest_point": {"kind": "signal", "name": None, "at": WRITTEN_MOMENT},
        "activities": [
            shown_activity("b", "B", progress=0.0),
            shown_activity(
                "a",
                "A",
                activity_type="script",
                status="retrying",
                pending_state="paused",
                scheduled_at=WRITTEN_MOMENT,
                started_at=WRITTEN_MOMENT,
                error_details={"type": "E", "message": "no"},
                retry_count=3,
                next_attempt_at=WRITTEN_MOMENT,
                depends_on=["b"],
                child_execution_id="c",
            ),
        ],
    }
    assert created.head == told.events[0].event_id
    assert_log_is_whole("mine")


def test_an_execution_without_a_given_id_is_a_uuid_created_now() -> None:
    before = datetime.now(UTC)
    created = create_execution(workflow_id="w", workflow_type="t")
    assert str(UUID(created.execution_id)) == created.execution_id
    assert before <= created.created_at <= datetime.now(UTC)
    assert created.status == "pending"
    assert_log_is_whole(created.execution_id)


@pytest.mark.parametrize("status", [status for status in ExecutionStatus if status.is_final])
def test_an_execution_created_final_has_both_snapshots(status: ExecutionStatus) -> None:
    with assert_patches_tell_the_truth("done") as told:
        created = create_execution(
            execution_id="done",
            workflow_id="w",
            workflow_type="t",
            status=status,
            completed_at=MOMENT,
            activities=[NewActivity(activity_id="a", activity_name="a")],
        )
    assert [message["type"] for message in told.messages] == ["initial_snapshot", "final_snapshot"]
    assert told.messages[0]["execution"] == told.messages[1]["execution"]
    assert created.head == told.events[1].event_id
    assert_log_is_whole("done")


def test_a_created_execution_may_be_changed_and_saved() -> None:
    created = create_execution(workflow_id="w", workflow_type="t")
    with assert_patches_tell_the_truth(created.execution_id) as told:
        created.status = ExecutionStatus.RUNNING
        created.save()
    assert [operation["path"] for operation in told.operations] == ["/status"]


@pytest.mark.parametrize("name", ["n" * 300, "\xe9" * 300, "😀" * 250, "a\x00\ud800b", " ", "/~1"])
def test_unusual_text_is_told_as_it_is_stored(name: str) -> None:
    with assert_patches_tell_the_truth("e"):
        create_execution(
            execution_id="e",
            workflow_id=name,
            workflow_type=name,
            run_id=name,
            error_details={"type": name, "message": name * 20},
            activities=[NewActivity(activity_id=name, activity_name=name, depends_on=[name])],
        )
    with assert_patches_tell_the_truth("e"), changing("e") as change:
        change.activity(name).status = ActivityStatus.RUNNING
        change.activity(name).error_details = {"type": name, "message": name * 20}
        change.add_activity(NewActivity(activity_id=name[:-1] + "2", activity_name=name))
    assert_log_is_whole("e")


@pytest.mark.parametrize(
    "fields",
    [
        *({"execution_id": unusable} for unusable in IMPOSSIBLE_IDS),
        {"workflow_id": ""},
        {"workflow_id": "😀" * 251},
        {"workflow_type": None},
        {"run_id": ""},
        {"status": "sleeping"},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"error_details": "text"},
        {"activities": [NewActivity(activity_id="", activity_name="a")]},
        {"activities": [NewActivity(activity_id="a", activity_name="x" * 1_001)]},
        {"workflow_definition": "x" * 1024 * 1024},
        {"workflow_definition": {"nodes": ["x" * 100] * 100_000}},
        {"workflow_definition": {"at": datetime.now(UTC)}},
        {"workflow_definition": {1: "key"}},
        {"workflow_definition": {"not": float("nan")}},
        {"workflow_definition": [float("inf")]},
        {"workflow_definition": 10**5_000},
    ],
)
def test_an_execution_of_unacceptable_values_is_refused_and_not_there(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(UnacceptableValueError):
        create_execution(**{"workflow_id": "w", "workflow_type": "t"} | fields)
    assert not Execution.objects.exists()


def test_a_definition_of_10_mb_or_without_end_is_refused_with_what_is_accepted() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for definition, says in (
        ("x" * 10_000_000, r"10000002 bytes as JSON; at most 1048576"),
        (endless, "must be JSON data"),
    ):
        with pytest.raises(UnacceptableValueError, match=says):
            create_execution(workflow_id="w", workflow_type="t", workflow_definition=definition)


@pytest.mark.parametrize(
    ("definition", "stored"),
    [
        ({"nodes": [{"id": "a\x00", "n": 1, "x": 1.5, "t": True, "z": None}]},
         {"nodes": [{"id": "a\ufffd", "n": 1, "x": 1.5, "t": True, "z": None}]}),
        ("\ud800", "\ufffd"),
        (2**64, 2**64),
        (0, 0),
        ([], []),
        ("x" * (1024 * 1024 - 2), "x" * (1024 * 1024 - 2)),
    ],
)  # fmt: skip
def test_a_definition_is_kept_beside_the_document(definition: Any, stored: Any) -> None:
    with assert_patches_tell_the_truth("e") as told:
        create_execution(
            execution_id="e", workflow_id="w", workflow_type="t", workflow_definition=definition
        )
    assert WorkflowDefinition.objects.get(execution_id="e").definition == stored
    assert "workflow_definition" not in told.messages[0]["execution"]


def test_no_definition_is_no_row() -> None:
    an_execution()
    assert not WorkflowDefinition.objects.exists()


def test_creating_an_execution_twice_is_refused() -> None:
    an_execution("a", execution_id="mine")
    with (
        assert_patches_tell_the_truth("mine", nothing_expected=True),
        pytest.raises(ExecutionExistsError, match="mine already"),
    ):
        an_execution("b", execution_id="mine", workflow_definition={})
    assert not WorkflowDefinition.objects.exists()


@pytest.mark.parametrize("second", ["a", "a\x00"])
def test_an_execution_with_an_activity_twice_is_refused_and_not_there(second: str) -> None:
    with pytest.raises(ActivityExistsError):
        an_execution(second.replace("\x00", "\ufffd"), second)
    assert not Execution.objects.exists()


def test_ensuring_creates_once_and_leaves_what_is_there() -> None:
    fields = {"workflow_id": "w", "workflow_type": "t"}
    with assert_patches_tell_the_truth("mine") as told:
        first, first_created = ensure_execution(execution_id="mine", **fields)
        second, second_created = ensure_execution(
            execution_id="mine", workflow_id="other", workflow_type="", activities=[None]
        )
    assert (first_created, second_created) == (True, False)
    assert first == second
    assert second.workflow_id == "w"
    assert len(told.events) == 1


def test_ensuring_an_impossible_id_is_refused() -> None:
    for unusable in IMPOSSIBLE_IDS:
        with pytest.raises(UnacceptableValueError, match="execution_id"):
            ensure_execution(execution_id=unusable, workflow_id="w", workflow_type="t")


def test_every_refusal_is_a_recording_error() -> None:
    for error in (ActivityExistsError, ExecutionExistsError, UnacceptableValueError):
        assert issubclass(error, RecordingError)


# Reading back


def test_the_log_is_read_after_a_sequence_and_up_to_a_limit() -> None:
    execution_id = an_execution("a")
    an_execution("a", execution_id="other")
    for number in range(4):
        with changing(execution_id) as change:
            change.execution.run_id = str(number)
    log = read_events(execution_id, -1, 100)
    assert [event.event_id.sequence for event in log] == [0, 1, 2, 3, 4]
    assert json.loads(log[0].message)["execution_id"] == execution_id
    assert read_events(execution_id, 1, 2) == log[2:4]
    assert read_events(execution_id, 4, 2) == []
    assert [find_event_id(execution_id, number) for number in range(6)] == [
        *(event.event_id for event in log),
        None,
    ]


def test_heads_are_read_for_many_executions_at_once() -> None:
    ids = [an_execution() for _ in range(3)]
    with changing(ids[1]) as change:
        change.execution.run_id = "r"
    unknown = [*IMPOSSIBLE_IDS, *(f"none-{number}" for number in range(1_200))]
    found = read_heads([ids[0], *unknown, *ids[1:]])
    assert set(found) == set(ids)
    assert {head.is_final for head in found.values()} == {False}
    heads = {execution_id: head.event_id for execution_id, head in found.items()}
    assert [heads[execution_id].sequence for execution_id in ids] == [0, 1, 0]
    since = heads[ids[1]].milliseconds
    assert ids[1] in dict(heads_changed_since(since))
    assert dict(heads_changed_since(min(heads.values()).milliseconds)) == heads
    assert not dict(heads_changed_since(max(heads.values()).milliseconds + 1))


@pytest.mark.parametrize("database_compares", [True, False])
def test_of_many_heads_those_are_told_that_are_others_than_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, database_compares: bool
) -> None:
    if not database_compares:
        monkeypatch.setattr(event_log, "_DIFFERING", {})
    ids = [an_execution() for _ in range(5)]
    heads: dict[str, EventId | None] = {
        execution_id: head.event_id for execution_id, head in read_heads(ids).items()
    }
    assert differing_heads(heads) == {}
    assert differing_heads({}) == {}
    ms, sequence = heads[ids[0]] or (0, 0)
    known = {
        ids[0]: EventId(ms + 1, sequence),
        ids[1]: EventId(ms, sequence + 1),
        ids[2]: None,
        ids[3]: heads[ids[3]],
        "none": None,
        "gone": EventId(1, 0),
    }
    told = {execution_id: heads[execution_id] for execution_id in ids[:3]} | {"gone": None}
    many = {f"none-{number}": None for number in range(1_200)}
    assert differing_heads(known | many | dict.fromkeys(IMPOSSIBLE_IDS)) == told


@pytest.mark.parametrize("unknown", ["none", *IMPOSSIBLE_IDS])
def test_an_unknown_execution_has_no_snapshot_and_no_events(unknown: str) -> None:
    assert read_snapshot(unknown) is None
    assert read_events(unknown, -1, 10) == []
    assert find_event_id(unknown, 0) is None
    assert read_heads([unknown]) == {}


def test_a_snapshot_says_at_which_event_it_is_true_and_whether_it_is_the_last() -> None:
    execution_id = an_execution("b", "a")
    first = read_snapshot(execution_id)
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED
    last = read_snapshot(execution_id)
    assert first is not None
    assert last is not None
    assert (first.is_final, last.is_final) == (False, True)
    assert (first.event_id.sequence, last.event_id.sequence) == (0, 2)
    assert last.event_id == read_heads([execution_id])[execution_id].event_id
    assert [row["activity_id"] for row in last.document["activities"]] == ["b", "a"]
