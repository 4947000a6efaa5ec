"""P7 is seen broken when anything of an execution reaches someone who may not view it."""

from dataclasses import replace

import pytest

from tests.prove.records import Access, Connection, Fault, FaultKind, Reading, Records
from tests.unit.prove.good_history import (
    closed,
    connection_of,
    document,
    event,
    event_id,
    heartbeat,
    secret,
    snapshot,
    watching,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged

altering = Altering("P7")


def asked_by_paul(execution_id: str, **given: object) -> Connection:
    """Paul may view `one` alone."""
    return watching("asked", execution_id, None, caller="paul", **given)


@altering.breaks("the caller may not view the execution, and was sent a frame")
def a_forbidden_execution_is_shown(records: Records) -> None:
    connection_of(records, "forbidden").frames = [(9.15, snapshot("two", 0))]


@altering.keeps
def a_heartbeat_says_nothing_before_the_refusal(records: Records) -> None:
    connection_of(records, "forbidden").frames = [(9.15, heartbeat(None))]


@altering.breaks("the caller may not view the execution, and was sent a frame", "P5")
def a_heartbeat_tells_of_a_forbidden_execution(records: Records) -> None:
    connection_of(records, "forbidden").frames = [(9.15, heartbeat(0))]


@altering.breaks("the caller may not view the execution, and was sent a frame")
def a_caller_of_whom_nothing_is_known_is_sent_something(records: Records) -> None:
    connection = watching("unknown", "two", None, caller="nobody", asked_at=24.1, opened_at=24.1)
    connection.frames = [(24.2, snapshot("two", 4))]
    records.connections.append(closed(connection, 24.3, 4404))


@altering.breaks("the caller may not view the execution, and was sent a frame")
def a_frame_comes_late_after_the_revocation(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.frames += [(24.1, event("two", 4)), (30.1, heartbeat(4))]
    connection.ended_at = 30.2


@altering.breaks("is still open 7 s later")
def the_connection_stays_open_after_the_revocation(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.frames += [(27.0, event("two", 4))]
    connection.ended_at = 30.5


@altering.breaks("the caller may not view the execution, and was sent a frame")
def a_connection_opened_after_the_revocation_is_served(records: Records) -> None:
    connection = watching(
        "again", "two", event_id(3), caller="rita", asked_at=24.05, opened_at=24.06
    )
    connection.frames = [(24.1, event("two", 4))]
    records.connections.append(closed(connection, 24.2, 4404))


@altering.keeps
def a_frame_comes_at_once_after_the_revocation(records: Records) -> None:
    connection_of(records, "revoked").frames.append((23.9, heartbeat(3)))


@altering.keeps
def the_right_is_given_back_soon(records: Records) -> None:
    records.access.append(Access(25.0, "rita", may_view=True))
    connection = connection_of(records, "revoked")
    connection.ended_at, connection.close_code, connection.left_by_client = 39.0, None, True
    connection.frames += [(24.1, event("two", 4))]
    connection.frames += [(26.1 + 2 * n, heartbeat(4)) for n in range(7)]


@altering.keeps
def a_frame_was_sent_before_the_revocation_and_read_long_after(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.not_reading = [(5.0, 6.0), (21.5, 35.0)]
    connection.frames.append((35.1, heartbeat(3)))
    connection.ended_at = 35.2


@altering.keeps
def a_client_that_does_not_read_cannot_tell_when_it_was_closed(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.not_reading = [(21.0, 35.0)]
    connection.ended_at = 35.0


@altering.breaks("the connection was closed with 1011, not with 4401 or 4404", "P5")
def the_connection_is_closed_with_another_code(records: Records) -> None:
    connection_of(records, "revoked").close_code = 1011


@altering.keeps
def the_server_fails_on_the_connection_before_it_sees_the_revocation(records: Records) -> None:
    connection = connection_of(records, "revoked")
    connection.close_code = 1011
    assert connection.ended_at is not None
    at = connection.ended_at - 0.5
    records.faults.append(Fault(at, at + 0.1, FaultKind.DATABASE_LOCKED, "for a moment"))


@altering.breaks("the frame holds the secret of two, which the caller may not view", "P2")
def a_snapshot_holds_the_secret_of_another_execution(records: Records) -> None:
    connection = asked_by_paul("one", asked_at=30.0, opened_at=30.1)
    told = snapshot("one", 4).replace(secret("one"), secret("two"))
    connection.frames = [(30.2, told), (30.2, event("one", 5))]
    records.connections.append(closed(connection, 30.3, 1000))


@altering.breaks("the close reason holds the secret of two")
def a_close_reason_tells_of_the_execution(records: Records) -> None:
    for client in ("forbidden", "missing"):
        connection_of(records, client).close_reason = f"no {secret('two')} for you"


@altering.breaks("holds the secret of two, which the caller may not view")
def rest_shows_a_secret_with_a_refusal(records: Records) -> None:
    records.readings[3] = replace(records.readings[3], document={"detail": secret("two")})


@altering.breaks("holds the secret of two, which the caller may not view")
def rest_tells_a_secret_in_its_refusal(records: Records) -> None:
    records.readings[3] = replace(records.readings[3], text=f"no {secret('two')} for you")


@altering.breaks("holds the secret of two, which the caller may not view")
def rest_shows_an_execution_asked_for_after_the_revocation(records: Records) -> None:
    shown = Reading(24.5, "rita", "two", 200, event_id(4), document("two", 4), asked_at=24.2)
    records.readings.append(shown)


@altering.keeps
def rest_shows_an_execution_asked_for_before_the_revocation(records: Records) -> None:
    shown = Reading(22.5, "rita", "two", 200, event_id(3), document("two", 3), asked_at=21.9)
    records.readings.append(shown)


@altering.breaks("socket answers everybody differently")
def refusals_differ_between_callers(records: Records) -> None:
    other = watching("other", "two", None, caller="nobody", asked_at=24.1, opened_at=24.1)
    records.connections.append(closed(other, 24.3, 4404, "no such execution"))


@altering.breaks("tells of an execution that the caller may not view")
def rest_names_an_event_of_a_forbidden_execution(records: Records) -> None:
    records.readings[3] = replace(records.readings[3], event_id=event_id(4))


@altering.breaks("holds the secret of two, which the caller may not view")
def rest_shows_a_forbidden_execution(records: Records) -> None:
    records.readings[3:] = [Reading(39.0, "paul", "two", 200, event_id(4), document("two", 4))]


@altering.breaks("tells of an execution that the caller may not view")
def rest_answers_200_without_a_word(records: Records) -> None:
    records.readings[3:] = [Reading(19.0, "paul", "three", 200, None, {})]


@altering.breaks("socket answers paul differently of executions that are not there")
def refusals_differ_by_their_reason(records: Records) -> None:
    connection_of(records, "forbidden").close_reason = "not allowed"


@altering.breaks("socket answers paul differently of executions that are not there")
def refusals_differ_by_their_code(records: Records) -> None:
    connection_of(records, "missing").close_code = 4401


@altering.breaks("REST answers paul differently of executions that are not there")
def answers_of_rest_differ(records: Records) -> None:
    records.readings[3] = replace(records.readings[3], status=403)


@altering.keeps
def refusals_differ_before_and_after_the_callers_rights_changed(records: Records) -> None:
    records.access.append(Access(20.0, "paul", may_view=False))
    records.connections.append(
        closed(asked_by_paul("two", asked_at=30.0, opened_at=30.1), 30.2, 4401)
    )


@altering.keeps
def an_allowed_execution_is_refused_for_another_reason(records: Records) -> None:
    late = watching("late", "one", None, caller="nina", asked_at=24.1, opened_at=24.2)
    records.access.append(Access(24.3, "nina", may_view=True))
    records.connections.append(closed(late, 24.4, 4404))


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
