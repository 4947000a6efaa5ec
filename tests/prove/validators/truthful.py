"""P2: a client's document is what the database holds at the same event_id, field for field."""

import json
from collections.abc import Iterator
from typing import Final

from tests.prove.records import Connection, JsonObject
from tests.prove.validators.folds import Fold, UnfoldableError, canonical, difference, digest
from tests.prove.validators.histories import (
    MOVES_CURSOR,
    Histories,
    Id,
    Log,
    Reaction,
    Step,
    read_id,
)
from tests.prove.validators.verdicts import PromiseVerdict, Violation

_CARRIES_A_DOCUMENT: Final = ("initial_snapshot", "final_snapshot")


def judge(histories: Histories) -> PromiseVerdict:
    """Judge every snapshot, every REST reading, and every client's fold.

    A client whose events are, byte for byte, the log's, and whose snapshots are the log's
    fold, holds the log's fold itself. Only a client that was sent other bytes is folded by
    what it was sent.
    """
    verdict = PromiseVerdict(
        "P2", "true", needed=("snapshots", "readings", "documents", "clients' folds")
    )
    _want(histories)
    _judge_logs(histories, verdict)
    judged: dict[tuple[str, str], str] = {}
    for (_, execution_id), connections in histories.clients.items():
        log = histories.logs.get(execution_id)
        if log is not None:
            for connection in connections:
                verdict.violations += _false_snapshots(histories, verdict, connection, log, judged)
            verdict.violations += _false_fold(histories, verdict, connections, log)
    _judge_readings(histories, verdict)
    return verdict


def _want(histories: Histories) -> None:
    for connection in histories.records.connections:
        for step in histories.walk(connection):
            if step.message and step.message.type == "initial_snapshot" and step.message.id:
                histories.folds.want(connection.execution_id, step.message.id.sequence)
    for reading in histories.records.readings:
        event_id = read_id(reading.event_id)
        if event_id is not None:
            # Once the final snapshot is there, REST's document is the one before it too.
            histories.folds.want(reading.execution_id, event_id.sequence)


def _judge_logs(histories: Histories, verdict: PromiseVerdict) -> None:
    for execution_id, log in histories.logs.items():
        verdict.count("logs folded")
        fold = histories.folds.of(execution_id)
        assert fold is not None
        if fold.broken:
            verdict.violations.append(
                Violation(
                    f"the log of {execution_id} does not fold: {fold.broken}",
                    log=log.lines(_sequence_in(fold.broken)),
                )
            )
        held = histories.records.documents.get(execution_id)
        if held is not None and not fold.broken:
            verdict.count("documents")
            if fold.document is None or canonical(fold.document) != canonical(held[1]):
                verdict.violations.append(
                    Violation(
                        f"the document held of {execution_id} is not the fold of its log; it "
                        f"differs by {difference(fold.document or {}, held[1])}",
                        log=log.lines(log.head.sequence),
                    )
                )


def _sequence_in(text: str) -> int:
    event_id = read_id(text.split(" ", 1)[0])
    return -1 if event_id is None else event_id.sequence


def _false_snapshots(
    histories: Histories,
    verdict: PromiseVerdict,
    connection: Connection,
    log: Log,
    judged: dict[tuple[str, str], str],
) -> Iterator[Violation]:
    for step in histories.walk(connection):
        if step.message is None or step.message.type != "initial_snapshot" or not step.message.id:
            continue
        verdict.count("snapshots")
        key = (log.execution_id, step.text)
        if key not in judged:
            judged[key] = _wrong_snapshot(histories, log, step)
        if judged[key]:
            yield histories.violation(judged[key], connection, step.place, step.sequence)


def _wrong_snapshot(histories: Histories, log: Log, step: Step) -> str:
    """Why the snapshot is not the fold of the log; empty where it is."""
    assert step.message is not None
    event_id = step.message.id
    assert event_id is not None
    if not log.holds(event_id):
        return f"a snapshot is at {event_id}, which is not in the log"
    document = json.loads(step.text).get("execution")
    return _wrong_document(histories, log, event_id.sequence, document)


def _wrong_document(histories: Histories, log: Log, sequence: int, document: object) -> str:
    fold = histories.folds.of(log.execution_id)
    assert fold is not None
    if sequence not in fold.digests:
        return f"the log does not fold up to event {sequence}: nothing proves this document"
    if fold.digests[sequence] == digest(document):
        return ""
    held = fold.document_at(sequence) or {}
    told: JsonObject = document if isinstance(document, dict) else {}
    return (
        f"the document at event {sequence} is not the fold of the log; the log's differs by "
        f"{difference(told, held)}"
    )


def _false_fold(
    histories: Histories, verdict: PromiseVerdict, connections: list[Connection], log: Log
) -> Iterator[Violation]:
    """The client's own fold against the log's, at its cursor and at the final snapshot."""
    verdict.count("clients' folds")
    steps = [
        (connection, step)
        for connection in connections
        for step in histories.walk(connection)
        if step.reaction in MOVES_CURSOR
    ]
    if all(_is_logged(log, step) for _, step in steps if step.reaction is Reaction.APPLIED):
        return
    fold = Fold()
    cursor: Id | None = None
    for connection, step in steps:
        assert step.after is not None
        try:
            if step.reaction is not Reaction.APPLIED or step.after.sequence == 0:
                fold.document = json.loads(step.text).get("execution")
            elif step.before != cursor:
                # It came with another cursor than its own: the document there is not recorded.
                fold.document = None
            elif fold.document is not None:
                fold.take(step.text)
        except UnfoldableError as error:
            yield histories.violation(
                f"the client cannot fold what it was sent: {error}",
                connection,
                step.place,
                step.after.sequence,
            )
            return
        cursor = step.after
    connection, last = steps[-1]
    assert last.after is not None
    log_fold = histories.folds.of(log.execution_id)
    assert log_fold is not None
    held = log_fold.document_at(last.after.sequence)
    # Where the log itself does not fold, that has been told.
    if held is not None and fold.document is not None and digest(held) != digest(fold.document):
        yield histories.violation(
            f"the client's fold at {last.after} is not the log's, which differs by "
            f"{difference(fold.document, held)}",
            connection,
            last.place,
            last.after.sequence,
        )


def _is_logged(log: Log, step: Step) -> bool:
    assert step.after is not None
    row = log.at(step.after.sequence)
    return row is not None and row.message == step.text


def _judge_readings(histories: Histories, verdict: PromiseVerdict) -> None:
    for reading in histories.records.readings:
        log = histories.logs.get(reading.execution_id)
        if reading.status != 200 or log is None:
            continue
        verdict.count("readings")
        event_id = read_id(reading.event_id)
        if event_id is None or not log.holds(event_id):
            wrong = f"it is at {reading.event_id}, which is not in the log"
        else:
            wrong = _wrong_document(histories, log, event_id.sequence, reading.document)
        if wrong:
            verdict.violations.append(
                Violation(
                    f"REST told {reading.caller} of {reading.execution_id} at "
                    f"{histories.seconds(reading.at)}: {wrong}",
                    log=() if event_id is None else log.lines(event_id.sequence),
                )
            )
