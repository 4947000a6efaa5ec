"""P4: no committed event is lost, and none is repeated, whatever is killed or emptied."""

from collections import Counter
from collections.abc import Iterator

from tests.prove.records import FOREVER, Fault, FaultKind, Outcome, Reading, Write
from tests.prove.validators.folds import canonical, difference
from tests.prove.validators.histories import BEFORE_THE_FIRST, Histories, Log, Message, read_id
from tests.prove.validators.verdicts import PromiseVerdict, Violation


def judge(histories: Histories) -> PromiseVerdict:
    """Judge the event logs by what writers were told, and what else is held by the logs."""
    verdict = PromiseVerdict(
        "P4", "durable", needed=("committed writes", "events", "stream entries", "documents")
    )
    verdict.violations += _lost_or_repeated(histories, verdict)
    verdict.violations += _out_of_order(histories)
    for log in histories.logs.values():
        verdict.count("events", len(log.rows))
        verdict.violations += _broken_log(histories, log)
        verdict.violations += _wrong_stream(histories, verdict, log)
        verdict.violations += _wrong_document(histories, verdict, log)
    verdict.violations += _wrong_readings(histories, verdict)
    return verdict


def _lost_or_repeated(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    for write in histories.records.writes:
        verdict.count(f"{write.outcome.replace('_', '-')} writes")
        if write.outcome is Outcome.ROLLED_BACK:
            continue
        places = histories.marked.get(write.marker, [])
        there = [place for place in places if place.execution_id == write.execution_id]
        rows = tuple(
            line
            for place in places[:3]
            for line in histories.logs[place.execution_id].lines(place.sequence)
        )
        if len(there) != len(places):
            yield Violation(f"{_named(histories, write)} is in another execution's log", log=rows)
        elif len(there) > 1:
            yield Violation(
                f"{_named(histories, write)} is in the log {len(there)} times", log=rows
            )
        elif not there and write.outcome is Outcome.COMMITTED:
            log = histories.logs.get(write.execution_id)
            yield Violation(
                f"{_named(histories, write)} was acknowledged, and is not in the log",
                log=() if log is None else log.lines(log.head.sequence),
            )


def _named(histories: Histories, write: Write) -> str:
    return (
        f"the write {write.marker} of {write.writer} to {write.execution_id} "
        f"({write.outcome}, begun at {histories.seconds(write.at)})"
    )


def _out_of_order(histories: Histories) -> Iterator[Violation]:
    """Who was told of a commit before another write began comes before it in the log."""
    for write, place in histories.committed_events():
        earlier = histories.told[place.execution_id].newest_before(write.at)
        if earlier > place.sequence:
            yield Violation(
                f"{_named(histories, write)} is event {place.sequence}, but event {earlier} "
                "was committed before it began",
                log=histories.logs[place.execution_id].lines(place.sequence),
            )


def _broken_log(histories: Histories, log: Log) -> Iterator[Violation]:
    """The first place at which the log is not dense, in order and whole."""
    previous = BEFORE_THE_FIRST
    for number, row in enumerate(log.rows):
        message = histories.message(row.message)
        wrong = ""
        if row.event_id is None:
            wrong = f"holds {row.name!r}, which is no event_id"
        elif row.event_id.sequence != previous.sequence + 1:
            wrong = f"goes on with {row.name} after sequence {previous.sequence}"
        elif row.event_id.milliseconds < previous.milliseconds:
            wrong = f"goes back in time at {row.name}"
        else:
            wrong = _wrong_row(log, number, message)
            previous = row.event_id
        if wrong:
            sequence = number if row.event_id is None else row.event_id.sequence
            yield Violation(f"the log of {log.execution_id} {wrong}", log=log.lines(sequence))
            return


def _wrong_row(log: Log, number: int, message: Message | None) -> str:
    row = log.rows[number]
    if message is None or (message.event_id, message.execution_id) != (row.name, log.execution_id):
        return f"holds at {row.name} a message that says it is something else"
    if (message.type == "initial_snapshot") != (number == 0):
        return f"has at {row.name} a message of type {message.type}"
    if message.type == "final_snapshot" and number != len(log.rows) - 1:
        return f"goes on after the final snapshot at {row.name}"
    return ""


def _wrong_stream(histories: Histories, verdict: PromiseVerdict, log: Log) -> Iterator[Violation]:
    """The first place at which the stream is not the log, or its end where it was trimmed."""
    entries = histories.records.streams.get(log.execution_id, [])
    verdict.count("stream entries", len(entries))
    logged = [(row.name, row.message) for row in log.rows]
    expected = logged[len(logged) - len(entries) :] if entries else []
    repeated = [entry_id for entry_id, number in Counter(entries).items() if number > 1]
    wrong = ""
    if repeated:
        wrong = f"holds {repeated[0][0]} more than once"
    elif entries != expected:
        known = set(logged)
        unlogged = next((entry for entry in entries if entry not in known), None)
        wrong = (
            f"ends at {entries[-1][0]}, or lacks something between"
            if unlogged is None
            else f"holds {unlogged[0]} as the log does not: {unlogged[1][:200]}"
        )
    elif len(entries) < len(logged) and not _was_trimmed(histories):
        wrong = f"lacks the first {len(logged) - len(entries)} events, and was not trimmed"
    if wrong:
        yield Violation(
            f"the stream of {log.execution_id}, whose head is {log.head}, {wrong}",
            log=log.lines(log.head.sequence),
        )


def _was_trimmed(histories: Histories) -> bool:
    """Whether streams were trimmed after they were last rebuilt from nothing."""
    last = {fault.kind: fault.until for fault in sorted(histories.records.faults, key=_at)}
    emptied = max(
        last.get(kind, -FOREVER) for kind in (FaultKind.VALKEY_KILLED, FaultKind.VALKEY_EMPTIED)
    )
    return last.get(FaultKind.STREAM_TRIMMED, -FOREVER) > emptied


def _at(fault: Fault) -> float:
    return fault.at


def _wrong_document(histories: Histories, verdict: PromiseVerdict, log: Log) -> Iterator[Violation]:
    held = histories.records.documents.get(log.execution_id)
    if held is None:
        yield Violation(f"the database holds no document of {log.execution_id}, but its log")
        return
    verdict.count("documents")
    head, _ = held
    if head != str(log.head):
        yield Violation(
            f"the head of {log.execution_id} is {head}, but its log ends at {log.head}",
            log=log.lines(log.head.sequence),
        )


def _wrong_readings(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    """What REST said against what was committed by then, and against what is held at the end."""
    for reading in histories.records.readings:
        held = histories.records.documents.get(reading.execution_id)
        if reading.status == 200 and reading.asked_at is not None:
            verdict.count("readings")
            yield from _late_reading(histories, reading, reading.asked_at)
        if reading.at < histories.records.settled_at or reading.status != 200 or held is None:
            continue
        verdict.count("readings at the end")
        if reading.event_id != held[0]:
            yield Violation(
                f"REST said at the end that {reading.execution_id} is at {reading.event_id}, "
                f"the database that it is at {held[0]}"
            )
        elif canonical(reading.document) != canonical(held[1]):
            yield Violation(
                f"REST's document of {reading.execution_id} at the end is not the database's, "
                f"which differs by {difference(reading.document or {}, held[1])}"
            )


def _late_reading(histories: Histories, reading: Reading, asked_at: float) -> Iterator[Violation]:
    told = histories.told.get(reading.execution_id)
    event_id = read_id(reading.event_id)
    newest = -1 if told is None else told.newest_before(asked_at)
    if event_id is None or event_id.sequence < newest:
        yield Violation(
            f"REST said at {histories.seconds(reading.at)} that {reading.execution_id} is at "
            f"{reading.event_id}, but event {newest} was committed before it was asked"
        )
