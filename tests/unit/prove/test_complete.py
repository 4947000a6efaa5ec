"""P1 is seen broken when events are skipped, repeated, swapped, or do not come at all."""

import pytest

from tests.prove.records import Records
from tests.unit.prove.good_history import (
    connection_of,
    event,
    event_id,
    snapshot,
    watching,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged

altering = Altering("P1")


@altering.breaks("an event came before one that is missing")
def an_event_is_skipped(records: Records) -> None:
    del connection_of(records, "stays").frames[2]


@altering.breaks("an event came before one that is missing")
def an_event_is_skipped_across_a_reconnect(records: Records) -> None:
    del connection_of(records, "vanishes", 1).frames[0]


@altering.breaks("an event came before one that is missing")
def events_come_before_any_snapshot(records: Records) -> None:
    del connection_of(records, "stays").frames[0]


@altering.breaks("an event came again")
def an_event_is_repeated(records: Records) -> None:
    frames = connection_of(records, "stays").frames
    frames.insert(2, frames[2])


@altering.breaks("an event came again")
def an_event_is_repeated_across_a_reconnect(records: Records) -> None:
    connection_of(records, "vanishes", 1).frames.insert(0, (12.7, event("one", 2)))


@altering.breaks("an event came before one that is missing")
def two_events_are_swapped(records: Records) -> None:
    frames = connection_of(records, "open").frames
    (first_at, first), (second_at, second) = frames[1:3]
    frames[1:3] = [(first_at, second), (second_at, first)]


@altering.breaks("a snapshot came in place of events, without resync")
def a_snapshot_comes_in_the_middle(records: Records) -> None:
    frames = connection_of(records, "open").frames
    frames[3] = (frames[3][0], snapshot("two", 3))


@altering.breaks("a snapshot came in place of events, without resync")
def the_beginning_is_answered_with_the_state_of_now(records: Records) -> None:
    connection = connection_of(records, "late")
    connection.replay = "0"


@altering.breaks("no resync came first")
def a_foreign_cursor_is_taken_for_one_of_this_execution(records: Records) -> None:
    connection_of(records, "old").replay = "1700000000000-1"


@altering.breaks("a resync came first, though all", "P5")
def a_cursor_that_is_kept_gets_a_resync(records: Records) -> None:
    frames = connection_of(records, "old").frames
    frames[0] = (32.2, snapshot("two", 2, "trimmed"))


@altering.breaks("without replay, a snapshot of now was to come first", "P5")
def the_state_of_now_is_told_as_a_resync(records: Records) -> None:
    connection = connection_of(records, "stays")
    connection.frames[0] = (11.1, snapshot("one", 0, "trimmed"))


@altering.breaks("the first snapshot is at the final event", "P5")
def a_finished_execution_is_shown_without_its_final_snapshot(records: Records) -> None:
    connection = connection_of(records, "late")
    connection.frames = [(30.2, snapshot("one", 5))]


@altering.breaks("event 4 was committed before the client asked")
def the_state_of_now_is_old(records: Records) -> None:
    connection = connection_of(records, "late")
    connection.frames[:1] = [(30.2, snapshot("one", 3)), (30.2, event("one", 4))]


@altering.breaks("something came after the final snapshot")
def a_frame_follows_the_final_snapshot(records: Records) -> None:
    connection = connection_of(records, "stays")
    connection.frames.append((15.2, '{"type": "heartbeat"}'))


@altering.breaks("not followed by close 1000")
def the_final_snapshot_is_followed_by_another_close(records: Records) -> None:
    connection = connection_of(records, "late")
    connection.close_code = 1001


@altering.breaks("not followed by close 1000", "P5")
def the_connection_stays_open_after_the_final_snapshot(records: Records) -> None:
    connection = connection_of(records, "stays")
    connection.ended_at, connection.close_code = None, None


@altering.breaks("the client stayed, but is at")
def the_last_event_never_comes(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [frame for frame in connection.frames if event_id(4) not in frame[1]]
    connection.not_reading.append((22.0, 39.0))


@altering.breaks("the client stayed, but is at None")
def a_client_never_gets_anything(records: Records) -> None:
    connection = watching("new", "two", None, asked_at=24.0, opened_at=None)
    connection.ended_at = 39.0
    records.connections.append(connection)


@altering.keeps
def a_client_looks_once_more_before_the_end(records: Records) -> None:
    again = watching("late", "one", None, asked_at=39.9, opened_at=39.9)
    again.frames = [(39.95, snapshot("one", 4))]
    again.ended_at, again.left_by_client = 40.0, True
    records.connections.append(again)


@altering.breaks("the client stayed, but is at 1800000004000-4")
def a_client_looks_once_more_and_does_not_come_to_the_head(records: Records) -> None:
    again = watching("late", "one", None, asked_at=34.0, opened_at=34.0)
    again.frames = [(34.1, snapshot("one", 4))]
    again.ended_at, again.left_by_client = 40.0, True
    records.connections.append(again)


@altering.keeps
def a_client_that_left_has_not_reached_the_head(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [frame for frame in connection.frames if frame[0] < 20]
    connection.ended_at = 20.0


@altering.keeps
def a_client_whose_right_ended_has_not_reached_the_head(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.close_code, connection.left_by_client = None, True


@altering.keeps
def a_client_that_stalls_to_the_end_has_not_reached_the_head(records: Records) -> None:
    connection = connection_of(records, "stalls")
    del connection.frames[2:]
    connection.not_reading = [(11.5, 40.0)]


@altering.keeps
def the_connection_is_lost_with_the_final_snapshot(records: Records) -> None:
    connection = connection_of(records, "late")
    connection.close_code = None


@altering.keeps
def a_stalled_reader_is_resynced_first(records: Records) -> None:
    connection = connection_of(records, "stalls")
    connection.replay = event_id(1)
    del connection.frames[:2]
    connection.not_reading = [(9.1, 20.0)]


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
