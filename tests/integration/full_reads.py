"""What a run has left in Nexus, and what a fresh, full read of its history gives."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle

from executions.attempts import AttemptOutcome
from executions.document import JsonObject
from executions.event_log import read_events
from executions.models import ActivityDetails, Attempt, Point
from executions.temporal.following.decoding import decode
from executions.temporal.history.changes import RunStarted
from executions.temporal.history.fold import HistoryFold
from executions.temporal.mirroring.definitions import stored_definition
from executions.temporal.mirroring.histories import record_history, record_start
from streaming.stream import stream_key
from tests.integration.temporal_runs import in_database, mirrored_document, run_id_of
from tests.servers.valkey import ValkeyServer
from tests.truth import assert_same_document, document_of_rows, logged_ids
from tests.waiting import wait_until

Rows = dict[tuple[Any, ...], dict[str, Any]]

_ROW: Final = ("id", "execution_id")


async def assert_true(
    client: Client,
    run: WorkflowHandle[Any, Any],
    seen_live: Mapping[str, Collection[str]] | None = None,
) -> JsonObject:
    """The run's document, which its log proves, and its ledger are what its history says.

    A run may have been planned. `seen_live` names the fields, by activity, in which history
    knows less: of what was still open when the run closed.
    """
    document = await in_database(mirrored_document, run_id_of(run))
    await assert_as_history_says(client, run, document, seen_live)
    return document


async def assert_as_history_says(
    client: Client,
    run: WorkflowHandle[Any, Any],
    document: JsonObject,
    seen_live: Mapping[str, Collection[str]] | None = None,
) -> None:
    """As `assert_true`, of a document that was proven otherwise."""
    history = await run.fetch_history()
    await decode(client.data_converter, history.events)
    await in_database(_compare, run, history.events, document, seen_live or {})


def attempts_of(run_id: str, activity_id: str) -> list[Any]:
    """The rows of the ledger of one activity, proven to be without a gap."""
    attempts = list(Attempt.objects.filter(execution_id=run_id, activity_id=activity_id))
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    return attempts


def details_of(run_id: str, activity_id: str) -> Any:
    """The row of what is known of an activity beyond the document."""
    return ActivityDetails.objects.get(execution_id=run_id, activity_id=activity_id)


def points_of(run_id: str) -> list[Any]:
    """The rows of the run's points, in order."""
    return list(Point.objects.filter(execution_id=run_id))


def values_told(run_id: str, activity_id: str, field: str) -> list[Any]:
    """What the log told of one field of an activity, from its being there, in order."""
    told: list[Any] = []
    ids: list[str] = []
    for event in read_events(run_id, -1, 100_000):
        message = json.loads(event.message)
        if message["type"] == "initial_snapshot":
            activities = message["execution"]["activities"]
        else:
            ops = message.get("ops", ())
            activities = [op["value"] for op in ops if op["op"] == "add"]
        ids += [activity["activity_id"] for activity in activities]
        told += [each[field] for each in activities if each["activity_id"] == activity_id]
        told += [
            op["value"]
            for op in message.get("ops", ())
            if activity_id in ids and op["path"] == f"/activities/{ids.index(activity_id)}/{field}"
        ]
    return told


def assert_streams_equal_logs(valkey: ValkeyServer, *run_ids: str) -> None:
    """Every event of these executions is in its stream, once and in order, or soon will be."""
    for run_id in run_ids:
        expected = logged_ids(run_id)
        wait_until(lambda: valkey.stream_ids(stream_key(run_id)) == expected)  # noqa: B023


def activities_by_id(document: JsonObject) -> dict[str, JsonObject]:
    return {activity["activity_id"]: activity for activity in document["activities"]}


def _compare(
    run: WorkflowHandle[Any, Any],
    events: Collection[HistoryEvent],
    mirrored: JsonObject,
    seen_live: Mapping[str, Collection[str]],
) -> None:
    run_id = run_id_of(run)
    fresh_id = _read_fully(run, events)
    fresh = document_of_rows(fresh_id) | {"execution_id": run_id}
    known = activities_by_id(mirrored)
    for activity in fresh["activities"]:
        for name in seen_live.get(activity["activity_id"], ()):
            activity[name] = known[activity["activity_id"]][name]
    assert_same_document(mirrored, fresh)
    assert _rows(Point, run_id, "engine_event_id") == _rows(Point, fresh_id, "engine_event_id")
    assert _rows(ActivityDetails, run_id) == _rows(ActivityDetails, fresh_id)
    attempts = _rows(Attempt, run_id, "activity_id", "number")
    for key, told in _rows(Attempt, fresh_id, "activity_id", "number").items():
        if not AttemptOutcome(told["outcome"]).is_known_end:
            del told["outcome"]
        known_of_it = {name: attempts[key][name] for name, value in told.items() if value}
        assert known_of_it == {name: value for name, value in told.items() if value}


def _read_fully(run: WorkflowHandle[Any, Any], events: Collection[HistoryEvent]) -> str:
    """As a follower reads that has all of the history before it; the fresh execution's id.

    Planned by what the run's own execution was planned by.
    """
    fresh_id = f"fresh-{uuid4().hex}"
    fold = HistoryFold(run.id, run_id_of(run))
    [started, *changes] = fold.feed(list(events)[:1])
    assert isinstance(started, RunStarted)
    started = replace(started, definition=stored_definition(run_id_of(run)))
    fold.adopt(record_start(fresh_id, started))
    record_history(fresh_id, [*changes, *fold.feed(events)])
    return fresh_id


def _rows(model: Any, execution_id: str, *key: str) -> Rows:
    rows = model.objects.filter(execution_id=execution_id).values()
    names = key or ("activity_id",)
    return {
        tuple(row[name] for name in names): {
            name: value for name, value in row.items() if name not in _ROW
        }
        for row in rows
    }
