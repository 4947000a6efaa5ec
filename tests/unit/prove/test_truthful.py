"""P2 is seen broken when a document is told that is not the fold of the log."""

import json
from dataclasses import replace

import pytest

from tests.prove.records import Connection, JsonObject, Records
from tests.unit.prove.good_history import (
    connection_of,
    document,
    event,
    event_id,
    marker,
    snapshot,
    text,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged

altering = Altering("P2")


def with_other(message: str, **fields: object) -> str:
    """The snapshot with other fields in its document."""
    decoded = json.loads(message)
    decoded["execution"].update(fields)
    return json.dumps(decoded)


def set_log(records: Records, execution_id: str, sequence: int, message: str) -> None:
    """The log, the stream and every client have this text as that event."""
    before = event(execution_id, sequence)
    for held in (records.logs, records.streams):
        held[execution_id] = [
            (name, message if told == before else told) for name, told in held[execution_id]
        ]
    for connection in records.connections:
        connection.frames = [
            (at, message if told == before else told) for at, told in connection.frames
        ]


def replace_frame(connection: Connection, place: int, message: str) -> None:
    connection.frames[place] = (connection.frames[place][0], message)


def set_document(records: Records, execution_id: str, shown: JsonObject) -> None:
    """The database, and REST at the end, show this document."""
    records.documents[execution_id] = (records.documents[execution_id][0], shown)
    records.readings = [
        replace(each, document=shown)
        if (each.execution_id, each.status, each.at) == (execution_id, 200, 39.0)
        else each
        for each in records.readings
    ]


@altering.breaks("the document at event 0 is not the fold of the log")
def a_snapshot_of_now_has_another_field(records: Records) -> None:
    connection = connection_of(records, "stays")
    replace_frame(connection, 0, with_other(snapshot("one", 0), status="pending"))


@altering.breaks("the document at event 3 is not the fold of the log")
def a_resync_has_the_document_of_the_event_after(records: Records) -> None:
    told = with_other(snapshot("two", 3, "slow"), activities=document("two", 4)["activities"])
    replace_frame(connection_of(records, "stalls"), 2, told)


@altering.breaks("the document at event 2 is not the fold")
def a_number_is_of_another_kind(records: Records) -> None:
    for each in (records.logs, records.streams):
        each["two"] = [(name, told.replace('"running"', "1")) for name, told in each["two"]]
    for connection in records.connections:
        connection.frames = [
            (at, told.replace('"running"', "1") if '"two"' in told else told)
            for at, told in connection.frames
        ]
    shown = {**document("two", 4), "status": 1}
    set_document(records, "two", shown)
    records.readings[0] = replace(
        records.readings[0], document={**document("two", 2), "status": 1.0}
    )


@altering.breaks("which is not in the log")
def a_snapshot_is_at_an_event_that_is_not_there(records: Records) -> None:
    connection = connection_of(records, "late")
    told = snapshot("one", 4).replace(event_id(4), "1800000004001-4")
    replace_frame(connection, 0, told)


@altering.breaks("is not the fold of what came before it")
def the_final_snapshot_is_not_the_fold(records: Records) -> None:
    final = text(
        "final_snapshot", "one", 5, execution={**document("one", 5), "status": "cancelled"}
    )
    set_log(records, "one", 5, final)


@altering.breaks("does not apply")
def a_patch_of_the_log_does_not_apply(records: Records) -> None:
    ops = [
        {"op": "replace", "path": "/nowhere", "value": 1},
        {"op": "add", "path": "/activities/3", "value": {"run_id": marker("two", 4)}},
    ]
    set_log(records, "two", 4, text("activity_patch", "two", 4, ops=ops))
    records.readings = [each for each in records.readings if each.event_id != event_id(4)]


@altering.breaks("nothing proves this document")
def a_reading_is_at_an_event_that_does_not_fold(records: Records) -> None:
    ops = [{"op": "replace", "path": "/nowhere", "value": marker("two", 4)}]
    set_log(records, "two", 4, text("activity_patch", "two", 4, ops=ops))


@altering.breaks("adds at /activities/2, not at /activities/3")
def a_patch_moves_activities(records: Records) -> None:
    value = {"activity_id": "step-4", "run_id": marker("two", 4)}
    ops = [{"op": "add", "path": "/activities/2", "value": value}]
    set_log(records, "two", 4, text("activity_patch", "two", 4, ops=ops))


@altering.breaks("has no operation")
def a_patch_has_no_operation(records: Records) -> None:
    set_log(records, "two", 4, text("activity_patch", "two", 4, ops=[], mark=marker("two", 4)))


@altering.breaks("has an operation that is none")
def a_patch_has_something_else_as_its_operation(records: Records) -> None:
    set_log(records, "two", 4, text("activity_patch", "two", 4, ops=[marker("two", 4)]))


@altering.breaks("the document held of two is not the fold of its log")
def the_database_holds_another_document(records: Records) -> None:
    shown = {**document("two", 4), "status": "pending"}
    records.documents["two"] = (event_id(4), shown)
    records.readings = [each for each in records.readings if each.at < 39 or each.status != 200]


@altering.breaks("REST told olga of two at 12.500 s: the document at event 2")
def rest_shows_the_document_of_another_event(records: Records) -> None:
    records.readings[0] = replace(records.readings[0], document=document("two", 1))


@altering.breaks("REST told olga of two at 12.500 s: it is at 7-7")
def rest_names_an_event_that_is_not_there(records: Records) -> None:
    records.readings[0] = replace(records.readings[0], event_id="7-7")


@altering.breaks("the client's fold at 1800000004000-4 is not the log's", "P3")
def a_client_is_sent_another_value(records: Records) -> None:
    connection = connection_of(records, "killed", 2)
    place = next(n for n, (_, told) in enumerate(connection.frames) if event("two", 4) == told)
    told = connection.frames[place][1].replace("step-4", "step-X")
    replace_frame(connection, place, told)


@altering.breaks("the client cannot fold what it was sent", "P3")
def a_client_is_sent_a_patch_that_does_not_apply(records: Records) -> None:
    connection = connection_of(records, "open")
    told = connection.frames[2][1].replace("/activities/1", "/activities/7")
    replace_frame(connection, 2, told)


@altering.breaks("is not the fold of what came before it", "P3")
def a_client_is_sent_another_final_snapshot(records: Records) -> None:
    connection = connection_of(records, "stays")
    replace_frame(connection, 5, with_other(event("one", 5), status="failed"))


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
