"""P5 is seen broken by silence, false heartbeats, unfit reasons and unfit close codes."""

from dataclasses import replace

import pytest

from tests.prove.records import Access, Connection, Fault, FaultKind, Records
from tests.unit.prove.good_history import (
    closed,
    connection_of,
    event_id,
    heartbeat,
    live,
    snapshot,
    watching,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged

altering = Altering("P5")


def closing(code: int | None, at: float = 20.0) -> Connection:
    """One more client of `two`, which is closed while nothing is wrong."""
    connection = watching("closed", "two", "0")
    connection.frames = [
        *live("two", range(4)),
        *((14.1 + n, heartbeat(3)) for n in range(0, int(at - 14), 2)),
    ]
    return closed(connection, at, code)


def add_closed(records: Records, connection: Connection) -> None:
    """The client comes back, as it should."""
    back = watching("closed", "two", event_id(3), asked_at=30.0, opened_at=30.1)
    back.frames = [(30.2, live("two", (4,))[0][1])]
    back.ended_at, back.left_by_client = 36.0, True
    records.connections += [connection, back]


@altering.breaks("11.0 s without a frame, at most 7.0 s are allowed")
def the_server_is_silent_between_two_frames(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [frame for frame in connection.frames if not 28 < frame[0] < 37]
    connection.frames += [(37.1, heartbeat(4))]
    connection.frames.sort()


@altering.breaks("s without a frame")
def the_server_is_silent_before_the_first_frame(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.asked_at = connection.opened_at = 1.0


@altering.breaks("s without a frame")
def the_server_is_silent_to_the_end(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [frame for frame in connection.frames if frame[0] < 30]


@altering.keeps
def the_client_does_not_read_meanwhile(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [frame for frame in connection.frames if not 28 < frame[0] < 37]
    connection.not_reading = [(29.0, 37.0)]


@altering.keeps
def what_waited_for_the_client_is_sent_again_as_late_as_it_paused(records: Records) -> None:
    the_server_is_silent_between_two_frames(records)
    connection_of(records, "open").not_reading = [(21.5, 26.0)]


@altering.breaks("10.1 s without a frame, at most 7.0 s are allowed")
def the_server_is_silent_for_longer_than_the_client_has_paused(records: Records) -> None:
    the_server_is_silent_between_two_frames(records)
    connection_of(records, "open").not_reading = [(25.0, 26.0)]


@altering.breaks("the heartbeat says 1800000002000-2, but the connection was sent events up to")
def a_heartbeat_names_an_earlier_event(records: Records) -> None:
    frames = connection_of(records, "open").frames
    frames[5] = (frames[5][0], heartbeat(2))


@altering.breaks("the heartbeat says 1800000004000-4, but the connection was sent events up to")
def a_heartbeat_names_an_event_that_was_not_sent(records: Records) -> None:
    frames = connection_of(records, "open").frames
    frames[5] = (frames[5][0], heartbeat(4))


@altering.breaks("the heartbeat says garbage")
def a_heartbeat_names_no_event_id(records: Records) -> None:
    frames = connection_of(records, "open").frames
    frames[5] = (frames[5][0], heartbeat(3).replace(event_id(3), "garbage"))


@altering.breaks("but event 4 was committed more than 10 s before", "P6")
def a_heartbeat_says_that_nothing_is_new_when_something_is(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [
        *live("two", range(4)),
        *((13.1 + 2 * n, heartbeat(3)) for n in range(1, 13)),
        (38.0, live("two", (4,))[0][1]),
    ]


@altering.keeps
def a_heartbeat_was_read_late(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames = [
        *live("two", range(4)),
        *((13.1 + 2 * n, heartbeat(3)) for n in range(1, 6)),
        (38.0, heartbeat(3)),
        (38.0, live("two", (4,))[0][1]),
    ]
    connection.not_reading = [(23.9, 37.9)]


@altering.breaks("the resync says trimmed, but all after")
def a_resync_says_trimmed_of_what_is_kept(records: Records) -> None:
    connection_of(records, "stalls").frames[2] = (20.1, snapshot("two", 3, "trimmed"))


@altering.breaks("the resync says unknown, but")
def a_resync_says_unknown_in_the_middle(records: Records) -> None:
    connection_of(records, "stalls").frames[2] = (20.1, snapshot("two", 3, "unknown"))


@altering.breaks("the resync says slow, but the client read all the time")
def a_resync_says_slow_of_a_client_that_reads(records: Records) -> None:
    connection = connection_of(records, "open")
    connection.frames[3] = (connection.frames[3][0], snapshot("two", 3, "slow"))


@altering.breaks("the resync's reason is 'tired', and is to be one of trimmed, unknown, slow")
def a_resync_has_a_reason_of_its_own(records: Records) -> None:
    connection_of(records, "stalls").frames[2] = (20.1, snapshot("two", 3, "tired"))


@altering.breaks("the resync says slow, but")
def a_foreign_cursor_is_called_slow(records: Records) -> None:
    connection_of(records, "foreign").frames[0] = (10.2, snapshot("two", 0, "slow"))


@altering.breaks("the handshake failed, though nothing was wrong")
def a_handshake_fails_by_itself(records: Records) -> None:
    failed = watching("vanishes", "two", "0", asked_at=23.0, opened_at=None)
    add_closed(records, closing(1001, at=11.8))
    failed.client = "closed"
    records.connections.insert(-1, closed(failed, 23.5, None))


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (1000, "closed with 1000: the final snapshot is lacking"),
        (1001, "closed with 1001: no web process was ended at that time"),
        (1011, "closed with 1011: nothing was wrong at that time"),
        (1006, "closed with 1006: the code is none of the protocol's"),
        (4400, "closed with 4400: nothing was wrong with the request"),
        (4401, "closed with 4401: the caller may view this execution"),
        (4404, "closed with 4404: the caller may view this execution"),
        (4408, "closed with 4408: the client read all the time"),
        (4429, "closed with 4429: the caller had 5 connections"),
        (None, "closed with None: no web process was ended at that time"),
    ],
)
def test_close_code_without_its_occasion_is_told(code: int | None, what: str) -> None:
    def closed_without_occasion(records: Records) -> None:
        records.faults = [replace(each, until=min(each.until, 9.0)) for each in records.faults]
        records.faults = [replace(each, at=min(each.at, 8.0)) for each in records.faults]
        records.connections = [each for each in records.connections if each.client != "killed"]
        add_closed(records, closing(code, at=23.5))

    assert_judged(closed_without_occasion, "P5", {"P5"}, what)


@pytest.mark.parametrize("code", [1001, 1011, None])
def test_close_code_of_a_fault_is_right_near_one(code: int | None) -> None:
    def closed_near_a_fault(records: Records) -> None:
        add_closed(records, closing(code, at=18.0))

    assert_judged(closed_near_a_fault, "P5", set(), "")


@pytest.mark.parametrize("code", [4408, None])
def test_client_that_does_not_read_may_be_closed(code: int | None) -> None:
    def closed_while_it_does_not_read(records: Records) -> None:
        connection = closing(code, at=23.5)
        connection.not_reading = [(22.0, 23.0)]
        add_closed(records, connection)

    assert_judged(closed_while_it_does_not_read, "P5", set(), "")


@pytest.mark.parametrize(("since", "what"), [(12.0, ""), (20.0, "no web process was ended")])
def test_close_is_read_when_a_client_that_did_not_read_goes_on(since: float, what: str) -> None:
    def closed_while_it_did_not_read(records: Records) -> None:
        records.faults = [replace(each, until=min(each.until, 9.0)) for each in records.faults]
        records.faults = [replace(each, at=min(each.at, 8.0)) for each in records.faults]
        records.connections = [each for each in records.connections if each.client != "killed"]
        connection = closing(1001, at=23.5)
        connection.not_reading = [(since, 23.0)]
        add_closed(records, connection)

    assert_judged(closed_while_it_did_not_read, "P5", {"P5"} if what else set(), what)


@altering.keeps
def a_malformed_replay_is_refused(records: Records) -> None:
    wrong = watching("malformed", "two", "yesterday")
    records.connections.append(closed(wrong, 9.2, 4400, "replay must be 0 or one event_id"))


@altering.keeps
def a_caller_has_a_crowd_of_connections(records: Records) -> None:
    for number in range(20):
        each = watching(f"crowd-{number}", "two", "0", asked_at=23.0, opened_at=23.1)
        each.frames = [(23.2, text) for _, text in live("two", range(4))]
        each.ended_at, each.left_by_client = 23.9, True
        records.connections.append(each)
    add_closed(records, closing(4429, at=23.5))


@altering.keeps
def a_caller_was_granted_the_right_only_then(records: Records) -> None:
    records.access.append(Access(23.0, "nina", may_view=True))
    early = watching("early", "two", None, caller="nina", asked_at=22.9, opened_at=22.95)
    records.connections.append(closed(early, 23.1, 4404))


@altering.keeps
def an_execution_was_not_there_yet(records: Records) -> None:
    early = watching("early", "two", None, asked_at=9.5, opened_at=9.6)
    records.connections.append(closed(early, 9.7, 4404))


@altering.keeps
def a_finished_execution_was_asked_of_that_is_not_recorded(records: Records) -> None:
    gone = watching("gone", "three", None)
    gone.frames = []
    records.connections.append(closed(gone, 9.4, 4404))


@altering.breaks("closed with 1000: the final snapshot is lacking")
def a_missing_execution_is_called_complete(records: Records) -> None:
    records.connections.append(closed(watching("gone", "three", None), 9.4, 1000))


@altering.keeps
def the_database_fails_and_a_write_with_it(records: Records) -> None:
    records.faults.append(Fault(22.0, 23.0, FaultKind.DATABASE_LOCKED, "locked"))
    add_closed(records, closing(1011, at=23.5))


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
