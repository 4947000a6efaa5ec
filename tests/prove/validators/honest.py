"""P5: whoever cannot be kept up to date is told so; silence means heartbeats, and they are true."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.prove.records import Connection, Habit
from tests.prove.validators.histories import Histories, Log, Reaction, Step, read_id
from tests.prove.validators.verdicts import PromiseVerdict, Violation

SILENCE_SLACK_SECONDS: Final = 5.0
"""What a heartbeat may be late by: reading a source may take its time limit (2 s for Valkey),
and two cores are shared by all processes of the run."""

NEWS_SECONDS: Final = 10.0
"""How old an event may be that a heartbeat's sender does not know of: heads are compared
every 2 s, what is missing twice is read, and reading may take its time limit first."""

RECOVERY_SECONDS: Final = 10.0
"""How long after a fault its effects may still be met."""

CROWD: Final = 20
"""Fewer connections of a caller are never too many."""

_REASONS: Final = ("trimmed", "unknown", "slow")


def judge(histories: Histories) -> PromiseVerdict:
    """Judge silences, heartbeats, reasons of resyncs and close codes."""
    verdict = PromiseVerdict("P5", "honest", needed=("connections", "heartbeats", "closes"))
    verdict.figures["longest silence, s"] = 0.0
    for connection in histories.records.connections:
        if connection.opened_at is None:
            verdict.violations += _wrong_failure(histories, verdict, connection)
            continue
        verdict.count("connections")
        verdict.violations += _silences(histories, verdict, connection, connection.opened_at)
        verdict.violations += _wrong_words(histories, verdict, connection)
        verdict.violations += _wrong_close(histories, verdict, connection)
    return verdict


def _silences(
    histories: Histories, verdict: PromiseVerdict, connection: Connection, opened_at: float
) -> Iterator[Violation]:
    """The first silence that was too long."""
    if connection.habit is Habit.NEVER_READS:
        return
    bound = histories.records.heartbeat_seconds + SILENCE_SLACK_SECONDS
    read = [at for at, _ in connection.frames]
    moments = [opened_at, *read, histories.ended_at(connection)]
    for index, (since, until) in enumerate(pairwise(moments)):
        silence = until - since - histories.seconds_out_of_reach(connection, since, until)
        longest = verdict.figures["longest silence, s"]
        verdict.figures["longest silence, s"] = max(longest, silence)
        if silence > bound:
            yield histories.violation(
                f"{silence:.1f} s without a frame, at most {bound:.1f} s are allowed",
                connection,
                index,
            )
            return


def _wrong_words(
    histories: Histories, verdict: PromiseVerdict, connection: Connection
) -> Iterator[Violation]:
    """The first heartbeat, and the first resync, that is not true."""
    log = histories.logs.get(connection.execution_id)
    if log is None:
        return
    judges = {Reaction.HEARTBEAT: _false_heartbeat, Reaction.RESYNC: _false_resync}
    for step in histories.walk(connection):
        judge = judges.get(step.reaction)
        if judge is None:
            continue
        verdict.count("heartbeats" if step.reaction is Reaction.HEARTBEAT else "resyncs")
        if wrong := judge(histories, connection, log, step):
            del judges[step.reaction]
            sequence = None if step.told is None else step.told.sequence
            yield histories.violation(wrong, connection, step.place, sequence)


def _false_heartbeat(histories: Histories, connection: Connection, log: Log, step: Step) -> str:
    assert step.message is not None
    if step.message.event_id is None:
        return ""
    event_id = step.message.id
    if event_id is None or event_id != step.told:
        return (
            f"the heartbeat says {step.message.event_id}, but the connection was sent "
            f"events up to {step.told}"
        )
    since = step.at - NEWS_SECONDS
    if histories.seconds_not_reading(connection, since, step.at) > 0:
        return ""
    newest = histories.told[log.execution_id].newest_before(since)
    if newest > event_id.sequence:
        return (
            f"the heartbeat says that {event_id} is all there is, but event {newest} was "
            f"committed more than {NEWS_SECONDS:.0f} s before"
        )
    return ""


def _false_resync(histories: Histories, connection: Connection, log: Log, step: Step) -> str:
    assert step.message is not None
    reason = step.message.reason
    if reason == "trimmed":
        kept = step.before is None or step.before.sequence >= log.first_sequence - 1
        return f"the resync says trimmed, but all after {step.before} is kept" if kept else ""
    if reason == "unknown":
        asked = read_id(connection.replay)
        fits = asked is not None and not log.holds(asked) and step.before == asked
        return "" if fits else f"the resync says unknown, but {step.before} is in the log"
    if reason == "slow":
        paused = any(since <= step.at for since, _ in connection.not_reading)
        return "" if paused else "the resync says slow, but the client read all the time"
    return f"the resync's reason is {reason!r}, and is to be one of {', '.join(_REASONS)}"


def _wrong_failure(
    histories: Histories, verdict: PromiseVerdict, connection: Connection
) -> Iterator[Violation]:
    verdict.count("failed handshakes")
    ended = histories.ended_at(connection)
    if not connection.left_by_client and not _is_near_fault(histories, connection.asked_at, ended):
        yield histories.violation("the handshake failed, though nothing was wrong", connection)


def _wrong_close(
    histories: Histories, verdict: PromiseVerdict, connection: Connection
) -> Iterator[Violation]:
    if connection.ended_at is None or connection.left_by_client:
        return
    verdict.count("closes")
    code = connection.close_code
    occasion = _occasion(histories, connection, connection.ended_at)
    if code not in _MEANT or occasion:
        wrong = occasion or "the code is none of the protocol's"
        yield histories.violation(f"closed with {code}: {wrong}", connection)


_MEANT: Final = (None, 1000, 1001, 1011, 4400, 4401, 4404, 4408, 4429)


def _occasion(histories: Histories, connection: Connection, ended_at: float) -> str:
    """Why the code does not fit what happened; empty where it does."""
    match connection.close_code:
        case 1000:
            return "" if _is_complete(histories, connection) else "the final snapshot is lacking"
        case 1011:
            near = histories.was_disturbed(ended_at, ended_at, RECOVERY_SECONDS)
            return "" if near else "nothing was wrong at that time"
        case 4400:
            asked = connection.replay
            fits = asked not in (None, "0") and read_id(asked) is None
            return "" if fits else "nothing was wrong with the request"
        case 4401 | 4404:
            return _wrong_refusal(histories, connection, ended_at)
        case 4408:
            return "" if connection.not_reading else "the client read all the time"
        case 4429:
            crowd = _open_connections(histories, connection.caller, ended_at)
            return "" if crowd >= CROWD else f"the caller had {crowd} connections"
        case None | 1001:
            slow = connection.close_code is None and bool(connection.not_reading)
            fits = slow or _is_near_fault(histories, _read_until(connection, ended_at), ended_at)
            return "" if fits else "no web process was ended at that time"
    return ""


def _is_complete(histories: Histories, connection: Connection) -> bool:
    """Whether the connection was sent the final snapshot, or its client had it."""
    log = histories.logs.get(connection.execution_id)
    if log is not None and log.is_closed and read_id(connection.replay) == log.head:
        return True
    return any(
        step.message is not None and step.message.type == "final_snapshot"
        for step in histories.walk(connection)
    )


def _wrong_refusal(histories: Histories, connection: Connection, ended_at: float) -> str:
    if connection.execution_id not in histories.logs:
        return ""
    # A grant, and the execution itself, may have come while the server looked.
    refused_since = connection.asked_at - RECOVERY_SECONDS
    rightly = histories.rights.may_not_view_within(
        connection.caller, connection.execution_id, refused_since, ended_at
    )
    told = histories.told[connection.execution_id]
    there = told.newest_before(connection.asked_at) >= 0 or any(
        message.type != "heartbeat"
        for _, text in connection.frames
        if (message := histories.message(text)) is not None
    )
    return "" if rightly or not there else "the caller may view this execution"


def _read_until(connection: Connection, ended_at: float) -> float:
    """Since when the close may have waited for the client to read on."""
    return min(
        (begin for begin, end in connection.not_reading if end >= ended_at - RECOVERY_SECONDS),
        default=ended_at,
    )


def _is_near_fault(histories: Histories, since: float, until: float) -> bool:
    """Whether a web process was ended about then, or the run itself."""
    return until >= histories.records.settled_at or any(
        fault.kind.name.startswith("WEB")
        and fault.at - RECOVERY_SECONDS <= until
        and since <= fault.until + RECOVERY_SECONDS
        for fault in histories.records.faults
    )


def _open_connections(histories: Histories, caller: str, at: float) -> int:
    return sum(
        each.caller == caller
        and each.opened_at is not None
        and each.opened_at <= at <= histories.ended_at(each)
        for each in histories.records.connections
    )
