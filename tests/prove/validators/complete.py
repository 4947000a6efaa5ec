"""P1: a client that stays, or comes back with its cursor, applies every event once, in order."""

from collections.abc import Iterator
from typing import Final

from tests.prove.records import Connection, Habit
from tests.prove.validators.histories import (
    BEFORE_THE_FIRST,
    MOVES_CURSOR,
    Histories,
    Id,
    Log,
    Reaction,
    Step,
)
from tests.prove.validators.verdicts import PromiseVerdict, Violation

CLOSING_SECONDS: Final = 10.0
"""How long after the final snapshot the server may take to close."""

CATCHING_UP_SECONDS: Final = 5.0
"""A client whose last connection was shorter is judged by how far it had come before."""

STOPPING_CODES: Final = (4400, 4401, 4404)

_WRONG: Final = {
    Reaction.GAP: "an event came before one that is missing: the cursor was {cursor}",
    Reaction.REPEATED: "an event came again: the cursor was {cursor} already",
    Reaction.UNANNOUNCED_SNAPSHOT: (
        "a snapshot came in place of events, without resync: the cursor was {cursor}"
    ),
}


def judge(histories: Histories) -> PromiseVerdict:
    """Judge what every client applied, and how far it came."""
    verdict = PromiseVerdict(
        "P1", "complete", needed=("clients", "connections", "events", "returns with a cursor")
    )
    for (_, execution_id), connections in histories.clients.items():
        log = histories.logs.get(execution_id)
        if log is None:
            continue
        verdict.count("clients")
        held: Id | None = None
        furthest = -1
        for connection in connections:
            verdict.count("connections")
            verdict.violations += _wrongs(histories, verdict, connection, log)
            begins_at = histories.begins_at(connection)
            verdict.count("returns with a cursor", held is not None and begins_at == held)
            if begins_at is not None and log.holds(begins_at):
                held = begins_at
            for step in histories.walk(connection):
                held = step.after if step.reaction in MOVES_CURSOR else held
            furthest = max(furthest, -1 if held is None else held.sequence)
        last = connections[-1]
        if not _stays(histories, last):
            continue
        verdict.count("clients at the head")
        began_late = histories.ended_at(last) - last.asked_at < CATCHING_UP_SECONDS
        reached = furthest if began_late or held is None else held.sequence
        if reached < log.head.sequence:
            verdict.violations.append(
                histories.violation(
                    f"the client stayed, but is at {held}, while the head is {log.head}",
                    last,
                    sequence=log.head.sequence,
                )
            )
    return verdict


def _wrongs(
    histories: Histories, verdict: PromiseVerdict, connection: Connection, log: Log
) -> Iterator[Violation]:
    """The first wrong frame of the connection, and a wrong end."""
    began = False
    final: Step | None = None
    for step in histories.walk(connection):
        if step.reaction is Reaction.UNREADABLE:
            continue
        wrong = ""
        if final is not None:
            wrong = "something came after the final snapshot"
        elif step.reaction in _WRONG:
            wrong = _WRONG[step.reaction].format(cursor=step.before)
        elif step.reaction in MOVES_CURSOR and not began:
            began = True
            wrong = _wrong_beginning(histories, connection, log, step)
        if wrong:
            yield histories.violation(wrong, connection, step.place, step.sequence)
            return
        if step.reaction is Reaction.RESYNC:
            verdict.count("resyncs")
        elif step.reaction is Reaction.APPLIED:
            verdict.count("events")
            if step.message is not None and step.message.type == "final_snapshot":
                final = step
    if final is not None:
        verdict.count("finals")
        lingered = histories.ended_at(connection) - final.at > CLOSING_SECONDS
        if connection.close_code not in (1000, None) or (
            connection.close_code is None and lingered
        ):
            yield histories.violation(
                "the final snapshot was not followed by close 1000", connection
            )


def _wrong_beginning(histories: Histories, connection: Connection, log: Log, first: Step) -> str:
    """Why what the connection was sent first does not fit its `replay`; empty where it does."""
    begins_at = histories.begins_at(connection)
    event_id = first.after
    assert event_id is not None
    if begins_at is None:
        if first.reaction is not Reaction.SNAPSHOT:
            return "without replay, a snapshot of now was to come first, and no resync"
        newest = histories.told[log.execution_id].newest_before(connection.asked_at)
        if log.is_closed:
            if event_id == log.head:
                return "the first snapshot is at the final event: nothing proves it any more"
            newest = min(newest, log.head.sequence - 1)
        if event_id.sequence < newest:
            return (
                f"the snapshot of now is at {event_id}, but event {newest} was committed "
                "before the client asked"
            )
        return ""
    is_kept = begins_at == BEFORE_THE_FIRST or log.holds(begins_at)
    if is_kept and begins_at.sequence + 1 >= log.first_sequence:
        if first.reaction is Reaction.RESYNC and not connection.not_reading:
            return f"a resync came first, though all that follows {connection.replay} is kept"
        return ""
    if first.reaction is not Reaction.RESYNC:
        return f"replay {connection.replay} is none of this execution's, but no resync came first"
    return ""


def _stays(histories: Histories, last: Connection) -> bool:
    """Whether the client was there at the end, reading, and allowed to."""
    ended = histories.ended_at(last)
    left_before = last.left_by_client and ended < histories.records.settled_at
    reads = all(until < ended for _, until in last.not_reading)
    return (
        last.habit is not Habit.NEVER_READS
        and not left_before
        and reads
        and last.close_code not in STOPPING_CODES
        and histories.rights.may_view(last.caller, last.execution_id, ended)
    )
