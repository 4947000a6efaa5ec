"""P4 is seen broken when events are lost or repeated, in logs, streams, documents or REST."""

from dataclasses import replace

import pytest

from tests.prove.records import Fault, FaultKind, Outcome, Records, Write
from tests.unit.prove.good_history import (
    connection_of,
    document,
    event,
    event_id,
    log,
    marker,
    snapshot,
    text,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged

altering = Altering("P4")


def set_row(records: Records, execution_id: str, row: int, name: str, told: str) -> None:
    """The log and the stream hold this, and clients were sent it."""
    before = event(execution_id, row)
    for held in (records.logs, records.streams):
        held[execution_id] = [
            (name, told) if message == before else (old, message)
            for old, message in held[execution_id]
        ]
    for connection in records.connections:
        connection.frames = [(at, told if old == before else old) for at, old in connection.frames]


@altering.breaks("was acknowledged, and is not in the log")
def an_acknowledged_write_is_lost(records: Records) -> None:
    lost = Write(24.4, "writer-0", "two", marker("two", 43), Outcome.COMMITTED, 24.5)
    records.writes.append(lost)


@altering.breaks("was acknowledged, and is not in the log")
def an_acknowledged_write_of_a_lost_execution(records: Records) -> None:
    lost = Write(24.4, "writer-0", "three", marker("three", 1), Outcome.COMMITTED, 24.5)
    records.writes.append(lost)


@altering.breaks_at_least("is in the log 2 times")
def a_write_is_repeated(records: Records) -> None:
    ops = [{"op": "replace", "path": "/status", "value": marker("two", 4)}]
    for held in (records.logs, records.streams):
        held["two"].append((event_id(5), text("activity_patch", "two", 5, ops=ops)))
    records.documents["two"] = (event_id(5), document("two", 4))
    records.readings = [each for each in records.readings if each.event_id != event_id(4)]


@altering.breaks_at_least("is in the log 2 times")
def a_write_of_unknown_outcome_is_repeated(records: Records) -> None:
    a_write_is_repeated(records)
    records.writes = [
        replace(each, outcome=Outcome.UNKNOWN, told_at=None)
        if each.marker == marker("two", 4)
        else each
        for each in records.writes
    ]


@altering.breaks("is in another execution's log")
def a_write_is_in_another_executions_log(records: Records) -> None:
    records.writes = [
        replace(each, execution_id="one") if each.marker == marker("two", 3) else each
        for each in records.writes
    ]


@altering.breaks("but event 3 was committed before it began")
def a_later_write_has_an_earlier_event(records: Records) -> None:
    records.writes = [
        replace(each, at=13.5, told_at=13.6) if each.marker == marker("two", 2) else each
        for each in records.writes
    ]


@altering.breaks_at_least("goes on with 1800000002000-2 after sequence 0")
def the_log_has_a_gap(records: Records) -> None:
    del records.logs["two"][1]
    records.writes = [each for each in records.writes if each.marker != marker("two", 1)]


@altering.breaks_at_least("goes on with 1800000002000-2 after sequence -1")
def the_log_lost_its_beginning(records: Records) -> None:
    del records.logs["two"][:2]
    records.writes = [each for each in records.writes if each.marker != marker("two", 1)]
    connection = connection_of(records, "old")
    connection.replay = "0"
    connection.frames[:1] = [(32.2, snapshot("two", 2, "trimmed"))]


@altering.breaks("goes back in time at 1800000000999-4")
def the_log_goes_back_in_time(records: Records) -> None:
    name = "1800000000999-4"
    set_row(records, "two", 4, name, event("two", 4).replace(event_id(4), name))
    for connection in records.connections:
        connection.frames = [
            (at, told.replace(event_id(4), name)) if "heartbeat" in told else (at, told)
            for at, told in connection.frames
        ]
    records.documents["two"] = (name, document("two", 4))
    records.readings[1] = replace(records.readings[1], event_id=name)


@altering.breaks_at_least("which is no event_id")
def the_log_holds_something_that_is_no_event_id(records: Records) -> None:
    records.logs["two"].insert(0, ("garbage", event("two", 0)))
    records.logs["two"].pop(1)


@altering.breaks_at_least("a message that says it is something else")
def the_log_holds_no_message(records: Records) -> None:
    records.logs["two"][2] = (event_id(2), "garbage")
    records.writes = [each for each in records.writes if each.marker != marker("two", 2)]


@altering.breaks_at_least("a message that says it is something else")
def the_logs_message_is_of_another_event(records: Records) -> None:
    set_row(records, "two", 2, event_id(2), event("two", 2).replace("two", "one"))


@altering.breaks_at_least("has at 1800000002000-2 a message of type initial_snapshot")
def the_log_holds_two_initial_snapshots(records: Records) -> None:
    told = snapshot("two", 2)
    records.logs["two"][2] = records.streams["two"][0] = (event_id(2), told)


@altering.breaks_at_least("goes on after the final snapshot at 1800000003000-3")
def the_log_goes_on_after_the_final_snapshot(records: Records) -> None:
    told = text("final_snapshot", "two", 3, execution=document("two", 2))
    records.logs["two"][3] = records.streams["two"][1] = (event_id(3), told)


@altering.breaks("lacks the first 2 events, and was not trimmed")
def a_stream_was_trimmed_by_nobody(records: Records) -> None:
    records.faults = records.faults[:1]


@altering.breaks("lacks the first 2 events, and was not trimmed")
def a_stream_lacks_its_beginning_after_valkey_was_emptied(records: Records) -> None:
    records.faults.append(Fault(18.0, 18.0, FaultKind.VALKEY_EMPTIED, "of all keys"))


@altering.keeps
def a_stream_was_trimmed_after_valkey_was_emptied(records: Records) -> None:
    records.faults.append(Fault(11.0, 11.0, FaultKind.VALKEY_EMPTIED, "of all keys"))


@altering.breaks("ends at 1800000003000-3, or lacks something between")
def the_stream_lacks_the_last_event(records: Records) -> None:
    records.streams["two"].pop()


@altering.breaks("or lacks something between")
def the_stream_lacks_an_event_between(records: Records) -> None:
    del records.streams["one"][2]


@altering.breaks("holds 1800000003000-3 more than once")
def the_stream_holds_an_event_twice(records: Records) -> None:
    records.streams["two"].insert(2, records.streams["two"][1])


@altering.breaks("holds 1800000003000-3 as the log does not")
def the_stream_holds_other_bytes(records: Records) -> None:
    name, told = records.streams["two"][1]
    records.streams["two"][1] = (name, told.replace("05.000Z", "06.000Z"))


@altering.breaks("lacks the first 6 events, and was not trimmed")
def a_stream_is_lost(records: Records) -> None:
    del records.streams["one"]
    records.faults = records.faults[:1]
    records.streams["two"] = log("two")


@altering.keeps
def a_stream_was_trimmed_to_nothing(records: Records) -> None:
    records.streams["two"] = []


@altering.breaks("the database holds no document of two")
def the_database_holds_no_document(records: Records) -> None:
    del records.documents["two"]


@altering.breaks("the head of two is 1800000003000-3, but its log ends at 1800000004000-4")
def the_head_is_not_the_logs(records: Records) -> None:
    records.documents["two"] = (event_id(3), document("two", 4))
    records.readings = [each for each in records.readings if each.event_id != event_id(4)]


@altering.breaks("REST said at the end that two is at 1800000003000-3")
def rest_is_behind_the_database_at_the_end(records: Records) -> None:
    records.readings[1] = replace(
        records.readings[1], event_id=event_id(3), document=document("two", 3)
    )


@altering.breaks("is at 1800000002000-2, but event 3 was committed before it was asked")
def rest_shows_an_old_state(records: Records) -> None:
    records.readings[0] = replace(records.readings[0], at=14.0, asked_at=13.9)


@altering.keeps
def rest_was_asked_before_the_commit(records: Records) -> None:
    records.readings[0] = replace(records.readings[0], at=14.0, asked_at=12.9)


@altering.breaks("REST's document of two at the end is not the database's", "P2")
def rest_and_the_database_differ_at_the_end(records: Records) -> None:
    records.readings[1] = replace(records.readings[1], document=document("two", 3))


@altering.keeps
def a_write_of_unknown_outcome_was_committed(records: Records) -> None:
    records.writes = [
        replace(each, outcome=Outcome.UNKNOWN, told_at=None)
        if each.marker == marker("two", 1)
        else each
        for each in records.writes
    ]


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
