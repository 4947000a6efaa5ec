"""P3: nothing is ever seen that was not committed, or not as it was committed."""

import json
from collections.abc import Iterator

from tests.prove.records import Connection, Outcome
from tests.prove.validators.histories import Histories, Log, Message, Reaction, Step
from tests.prove.validators.texts import TextFinder
from tests.prove.validators.verdicts import PromiseVerdict, Violation


def judge(histories: Histories) -> PromiseVerdict:
    """Judge every frame, and look for the markers of rolled-back writes everywhere."""
    verdict = PromiseVerdict(
        "P3", "committed only", needed=("event frames", "rolled-back writes", "texts searched")
    )
    rolled_back = [
        write.marker for write in histories.records.writes if write.outcome is Outcome.ROLLED_BACK
    ]
    verdict.count("rolled-back writes", len(rolled_back))
    search = _Search(TextFinder(rolled_back))
    for connection in histories.records.connections:
        verdict.violations += _wrongs(histories, verdict, connection, search)
    for what, text in _held(histories):
        if marker := search.marker_in(text):
            verdict.violations.append(
                Violation(f"{what} holds {marker}, which was rolled back: {text}")
            )
    verdict.count("texts searched", search.searched)
    return verdict


class _Search:
    """Looks for markers, in each text once."""

    def __init__(self, finder: TextFinder) -> None:
        self._finder = finder
        self._found: dict[str, str] = {}

    @property
    def searched(self) -> int:
        return len(self._found)

    def marker_in(self, text: str) -> str:
        """A marker in the text; empty where there is none."""
        if text not in self._found:
            self._found[text] = next(self._finder.find(text), "")
        return self._found[text]


def _wrongs(
    histories: Histories, verdict: PromiseVerdict, connection: Connection, search: _Search
) -> Iterator[Violation]:
    """The first frame of the connection that was not committed so."""
    log = histories.logs.get(connection.execution_id)
    if log is None:
        return
    for step in histories.walk(connection):
        wrong = _wrong_frame(log, step)
        if step.message is not None and _is_event(step.message, step):
            verdict.count("event frames")
        if not wrong and (marker := search.marker_in(step.text)):
            wrong = f"the frame holds {marker}, which was rolled back"
        if wrong:
            yield histories.violation(wrong, connection, step.place, step.sequence)
            return


def _is_event(message: Message, step: Step) -> bool:
    """Whether the frame is to be the log's own text: snapshots are made for a connection."""
    return message.type in ("activity_patch", "final_snapshot") or (
        message.type == "initial_snapshot" and step.reaction is Reaction.APPLIED
    )


def _wrong_frame(log: Log, step: Step) -> str:
    message = step.message
    if message is None or step.reaction is Reaction.UNREADABLE:
        return "the frame is no message of the protocol"
    if message.type != "heartbeat" and message.execution_id != log.execution_id:
        return f"the frame is of the execution {message.execution_id}"
    if not _is_event(message, step) or message.id is None:
        return ""
    row = log.at(message.id.sequence)
    if row is None:
        return f"the log has no event {message.id}: it was never committed"
    if row.message != step.text:
        return f"the frame is not the log's text: {_first_difference(step.text, row.message)}"
    return ""


def _first_difference(told: str, logged: str) -> str:
    place = next(
        (n for n, (ours, theirs) in enumerate(zip(told, logged, strict=False)) if ours != theirs),
        min(len(told), len(logged)),
    )
    around = slice(max(0, place - 20), place + 40)
    return f"at character {place} it has {told[around]!r}, the log {logged[around]!r}"


def _held(histories: Histories) -> Iterator[tuple[str, str]]:
    """Every text that is held at the end or was read over REST, and what it is."""
    records = histories.records
    for log in histories.logs.values():
        for row in log.rows:
            yield f"the log of {log.execution_id} at {row.name}", row.message
    for execution_id, entries in records.streams.items():
        for entry_id, message in entries:
            yield f"the stream of {execution_id} at {entry_id}", message
    for execution_id, (_, document) in records.documents.items():
        yield f"the document of {execution_id}", json.dumps(document, ensure_ascii=False)
    for reading in records.readings:
        what = f"REST's answer of {reading.execution_id} at {histories.seconds(reading.at)}"
        yield what, reading.text + json.dumps(reading.document, ensure_ascii=False)
