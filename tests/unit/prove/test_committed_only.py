"""P3 is seen broken when a frame is not the log's text, or tells of what was rolled back."""

from dataclasses import replace

import pytest

from tests.prove.records import Outcome, Reading, Records
from tests.unit.prove.good_history import (
    connection_of,
    document,
    event,
    event_id,
    marker,
    snapshot,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged, judged

ROLLED_BACK = marker("two", 41)

altering = Altering("P3")


def alter_frame(records: Records, client: str, place: int, old: str, new: str) -> None:
    frames = connection_of(records, client).frames
    at, told = frames[place]
    assert old in told
    frames[place] = (at, told.replace(old, new, 1))


@altering.breaks("the frame is not the log's text: at character")
def one_byte_of_a_patch_is_another(records: Records) -> None:
    alter_frame(records, "stays", 2, "05.000Z", "06.000Z")


@altering.breaks("the frame is not the log's text")
def a_patch_was_encoded_again(records: Records) -> None:
    alter_frame(records, "stays", 2, '": "', '":"')


@altering.breaks("the frame is not the log's text")
def the_last_frame_of_a_connection_that_broke_is_cut(records: Records) -> None:
    alter_frame(records, "killed", 1, '"}}]}', '"}}]} ')


@altering.breaks("the frame is not the log's text")
def the_first_event_is_not_that_of_the_log(records: Records) -> None:
    alter_frame(records, "open", 0, "05.000Z", "06.000Z")


@altering.breaks("the frame is not the log's text")
def a_client_whose_document_is_unknown_is_sent_another_value(records: Records) -> None:
    alter_frame(records, "old", 1, "step-3", "step-X")


@altering.breaks("it was never committed", "P2")
def an_event_comes_that_is_not_in_the_log(records: Records) -> None:
    told = event("two", 4).replace(event_id(4), event_id(5)).replace("/3", "/4")
    connection_of(records, "open").frames.append((39.95, told))


@altering.breaks("the frame is of the execution one")
def a_frame_is_of_another_execution(records: Records) -> None:
    alter_frame(records, "open", 3, '"execution_id": "two"', '"execution_id": "one"')


@pytest.mark.parametrize(
    "told",
    [
        "not JSON",
        "[]",
        '{"type": "activity_patch", "execution_id": "two"}',
        '{"type": "greeting", "execution_id": "two", "event_id": "1-1"}',
        '{"type": "initial_snapshot", "execution_id": "two", "execution": {}}',
    ],
)
def test_frame_that_is_no_message_is_told(told: str) -> None:
    def frame_that_is_no_message(records: Records) -> None:
        connection_of(records, "open").frames.append((39.95, told))

    assert_judged(frame_that_is_no_message, "P3", {"P3"}, "no message of the protocol")


@altering.breaks("the frame holds mark-two-41, which was rolled back", "P2")
def a_snapshot_shows_what_was_rolled_back(records: Records) -> None:
    told = snapshot("two", 3, "slow").replace(marker("two", 3), ROLLED_BACK)
    connection_of(records, "stalls").frames[2] = (20.1, told)


@altering.breaks("REST's answer of two at 12.500 s holds mark-two-41", "P2")
def rest_shows_what_was_rolled_back(records: Records) -> None:
    shown = document("two", 2)
    shown["activities"][0]["run_id"] = ROLLED_BACK
    records.readings[0] = replace(records.readings[0], document=shown)


@altering.breaks("the document of two holds mark-two-41", "P2", "P4")
def the_database_holds_what_was_rolled_back(records: Records) -> None:
    shown = document("two", 4)
    shown["activities"][0]["run_id"] = ROLLED_BACK
    records.documents["two"] = (event_id(4), shown)


@altering.breaks("the log of two at 1800000004000-4 holds mark-two-41")
def an_event_was_logged_that_was_rolled_back(records: Records) -> None:
    records.writes = [
        replace(each, outcome=Outcome.ROLLED_BACK, marker=each.marker) if each.at == 23.9 else each
        for each in records.writes
        if each.marker != ROLLED_BACK
    ]
    # what is called mark-two-41 below is the marker of event 4
    records.writes = [
        replace(each, marker=ROLLED_BACK) if each.at == 23.9 else each for each in records.writes
    ]
    for held in (records.logs, records.streams):
        held["two"] = [(name, _marked(told)) for name, told in held["two"]]
    for connection in records.connections:
        connection.frames = [(at, _marked(told)) for at, told in connection.frames]
    records.documents["two"] = (event_id(4), _marked_document())
    records.readings[1] = Reading(39.0, "olga", "two", 200, event_id(4), _marked_document())


def _marked(told: str) -> str:
    return told.replace(marker("two", 4), ROLLED_BACK)


def _marked_document() -> dict[str, object]:
    shown = document("two", 4)
    shown["activities"][3]["run_id"] = ROLLED_BACK
    return shown


@altering.breaks("the stream of two at 1800000004000-4 holds mark-two-41", "P4")
def the_stream_holds_what_was_rolled_back(records: Records) -> None:
    name, told = records.streams["two"][-1]
    records.streams["two"][-1] = (name, _marked(told))


@altering.keeps
def a_marker_is_part_of_a_longer_word(records: Records) -> None:
    records.writes.append(replace(records.writes[-2], marker="step-"))


def test_run_in_which_nothing_is_rolled_back_proves_nothing() -> None:
    def nothing_is_rolled_back(records: Records) -> None:
        records.writes = [each for each in records.writes if each.outcome != "rolled_back"]

    verdict = judged(nothing_is_rolled_back)["P3"]
    assert not verdict.violations
    assert not verdict.passed
    assert verdict.uncovered == ["rolled-back writes"]


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
