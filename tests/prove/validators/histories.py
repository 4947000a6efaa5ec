"""The records of a run in the form in which validators judge them.

Knows the protocol's words and the client's rules (specs/024-execution-visualizer/protocol.md,
sections 4 to 8), and nothing of the product's code: it is what the product is measured by.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from tests.prove.records import FOREVER, Connection, Outcome, Records, Write
from tests.prove.validators.access import Rights
from tests.prove.validators.folds import LogFolds
from tests.prove.validators.texts import TextFinder
from tests.prove.validators.verdicts import Violation

LINES_AROUND: Final = 4

_EVENT_ID: Final = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", re.ASCII)


class Id(NamedTuple):
    """An event_id."""

    milliseconds: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


BEFORE_THE_FIRST: Final = Id(0, -1)


def read_id(text: str | None) -> Id | None:
    """The event_id in the text; None where there is none."""
    match = None if text is None else _EVENT_ID.fullmatch(text)
    return None if match is None else Id(int(match[1]), int(match[2]))


class Row(NamedTuple):
    """One event of a log."""

    name: str
    message: str
    event_id: Id | None
    type: str


class Log:
    """An execution's event log as it was at the end."""

    def __init__(self, execution_id: str, rows: Iterable[tuple[str, str]]) -> None:
        self.execution_id = execution_id
        self.rows = [
            Row(
                name,
                text,
                read_id(name),
                "" if (message := _message(text)) is None else message.type,
            )
            for name, text in rows
        ]
        self._by_sequence = {row.event_id.sequence: row for row in self.rows if row.event_id}

    def at(self, sequence: int) -> Row | None:
        """The event of this sequence."""
        return self._by_sequence.get(sequence)

    def holds(self, event_id: Id) -> bool:
        """Whether this very event_id is in the log."""
        row = self.at(event_id.sequence)
        return row is not None and row.event_id == event_id

    @property
    def first_sequence(self) -> int:
        """The lowest sequence kept; 0 for an empty log."""
        return min(self._by_sequence, default=0)

    @property
    def head(self) -> Id:
        """The newest event_id."""
        row = self.at(max(self._by_sequence, default=-1))
        return BEFORE_THE_FIRST if row is None or row.event_id is None else row.event_id

    @property
    def is_closed(self) -> bool:
        """Whether the final snapshot is there."""
        return bool(self.rows) and self.rows[-1].type == "final_snapshot"

    def lines(self, sequence: int) -> tuple[str, ...]:
        """The rows around a sequence, for people."""
        around = range(sequence - 1, sequence + 2)
        return tuple(f"{row.name}  {row.message}" for n in around if (row := self.at(n)))


class Envelope(msgspec.Struct):
    """What is decoded of a message; the rest is left."""

    type: str
    execution_id: str | None = None
    event_id: str | None = None
    resync: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What a message says of itself."""

    type: str
    execution_id: str | None
    event_id: str | None
    id: Id | None
    """The event_id, where it is one."""
    is_resync: bool
    reason: str
    """Why a resync was sent, as it says."""


_decoder: Final = msgspec.json.Decoder(Envelope)


def _message(text: str) -> Message | None:
    try:
        said = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return Message(
        said.type,
        said.execution_id,
        said.event_id,
        read_id(said.event_id),
        is_resync=said.resync is not None,
        reason=str((said.resync or {}).get("reason")),
    )


class Reaction(Enum):
    """What a client that keeps the protocol's section 8 makes of a frame."""

    APPLIED = auto()
    SNAPSHOT = auto()
    RESYNC = auto()
    HEARTBEAT = auto()
    REPEATED = auto()
    GAP = auto()
    UNANNOUNCED_SNAPSHOT = auto()
    """A snapshot that is neither the first thing nor a resync."""
    UNREADABLE = auto()
    """No message of the protocol."""


MOVES_CURSOR: Final = (Reaction.APPLIED, Reaction.SNAPSHOT, Reaction.RESYNC)


class Step(NamedTuple):
    """One frame, and what it does to the client's cursor."""

    place: int
    """Which frame of its connection."""
    at: float
    text: str
    message: Message | None
    reaction: Reaction
    before: Id | None
    """The cursor before the frame; None before anything is held."""
    after: Id | None
    told: Id | None
    """The newest event that the connection was sent before the frame, or begun after."""

    @property
    def sequence(self) -> int | None:
        """The sequence that the frame names."""
        event_id = None if self.message is None else self.message.id
        return None if event_id is None else event_id.sequence


@dataclass(frozen=True)
class Location:
    """Where in a log a write's marker is."""

    execution_id: str
    sequence: int


class Histories:
    """The records, with what several validators need of them."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.rights = Rights(records.access)
        self.logs = {name: Log(name, rows) for name, rows in records.logs.items()}
        self.folds = LogFolds(self.logs)
        self._messages: dict[str, Message | None] = {}

    @cached_property
    def clients(self) -> dict[tuple[str, str], list[Connection]]:
        """The connections by (client, execution_id), in the order of their asking."""
        clients: dict[tuple[str, str], list[Connection]] = {}
        for each in self.records.connections:
            clients.setdefault((each.client, each.execution_id), []).append(each)
        return clients

    @cached_property
    def marked(self) -> dict[str, list[Location]]:
        """By marker: the events that carry it, final snapshots left out (they repeat others)."""
        finder = TextFinder(write.marker for write in self.records.writes)
        marked: dict[str, list[Location]] = {}
        for log in self.logs.values():
            for place, row in enumerate(log.rows):
                if row.type != "final_snapshot":
                    sequence = place if row.event_id is None else row.event_id.sequence
                    for marker in set(finder.find(row.message)):
                        marked.setdefault(marker, []).append(Location(log.execution_id, sequence))
        return marked

    @cached_property
    def told(self) -> "dict[str, ToldEvents]":
        """By execution: which events were known to be committed, and when."""
        by_execution: dict[str, list[tuple[float, int]]] = {name: [] for name in self.logs}
        for write, place in self.committed_events():
            assert write.told_at is not None
            by_execution[place.execution_id].append((write.told_at, place.sequence))
        return {name: ToldEvents(told) for name, told in by_execution.items()}

    def committed_events(self) -> Iterator[tuple[Write, Location]]:
        """Each acknowledged write with its event, where the log has it."""
        for write in self.records.writes:
            if write.outcome is Outcome.COMMITTED and write.told_at is not None:
                for place in self.marked.get(write.marker, ()):
                    yield write, place

    def message(self, text: str) -> Message | None:
        """The message in a frame; None where it is none. Hundreds of clients get the same."""
        if text not in self._messages:
            self._messages[text] = _message(text)
        return self._messages[text]

    def begins_at(self, connection: Connection) -> Id | None:
        """The cursor that a connection's `replay` gives it; None where it is to get a snapshot."""
        return BEFORE_THE_FIRST if connection.replay == "0" else read_id(connection.replay)

    def walk(self, connection: Connection) -> Iterator[Step]:
        """What a client that keeps the rules makes of each frame of the connection."""
        cursor = told = self.begins_at(connection)
        for index, (at, text) in enumerate(connection.frames):
            message = self.message(text)
            reaction = _reaction(message, cursor)
            after = message.id if message and reaction in MOVES_CURSOR else cursor
            yield Step(index, at, text, message, reaction, cursor, after, told)
            cursor = after
            if message is not None and message.type != "heartbeat" and message.id is not None:
                told = message.id

    def ended_at(self, connection: Connection) -> float:
        """When the connection ended, or the records of it."""
        ended = FOREVER if connection.ended_at is None else connection.ended_at
        return min(ended, self.records.ended_at)

    def seconds_not_reading(self, connection: Connection, since: float, until: float) -> float:
        """For how much of the span the client did not read."""
        return sum(
            max(0.0, min(ends, until) - max(begins, since))
            for begins, ends in connection.not_reading
        )

    def seconds_out_of_reach(self, connection: Connection, since: float, until: float) -> float:
        """For how much of the span nothing could reach the client, because it does not read.

        What its full buffer did not take is sent again after twice the time each time (RFC
        6298, 5.5): when it reads on, that may be as far away as it has paused. Measured without
        Nexus: 400 plain connections with such a buffer that paused 15 to 20 s heard nothing
        for 2.9 s more in the median, and for more than 7 s at worst.
        """
        return sum(
            max(0.0, min(2 * ends - begins, until) - max(begins, since))
            for begins, ends in connection.not_reading
        )

    def was_disturbed(self, since: float, until: float, recovery_seconds: float) -> bool:
        """Whether a fault was at work in the span, or gone for less than `recovery_seconds`."""
        return any(
            fault.at <= until and since <= fault.until + recovery_seconds
            for fault in self.records.faults
        )

    def seconds(self, at: float) -> str:
        """A moment for people: since the run's beginning."""
        return f"{at - self.records.began_at:.3f} s"

    def described(self, connection: Connection) -> str:
        """The connection for people, in one line."""
        number = self.clients[connection.client, connection.execution_id].index(connection) + 1
        opened = "never" if connection.opened_at is None else self.seconds(connection.opened_at)
        ended = "still open" if connection.ended_at is None else self.seconds(connection.ended_at)
        return (
            f"{number} of {connection.caller} to {connection.web}: {connection.execution_id}, "
            f"replay {connection.replay}, habit: {connection.habit}; "
            f"asked {self.seconds(connection.asked_at)}, opened {opened}, "
            f"ended {ended}, code {connection.close_code} {connection.close_reason!r}"
            f"{', left by the client' if connection.left_by_client else ''}"
        )

    def violation(
        self,
        what: str,
        connection: Connection,
        index: int | None = None,
        sequence: int | None = None,
    ) -> Violation:
        """A violation on a connection: at the frame of this index, else at its end."""
        place = len(connection.frames) if index is None else index
        first = max(0, place - LINES_AROUND)
        around = connection.frames[first : place + LINES_AROUND]
        log = self.logs.get(connection.execution_id)
        return Violation(
            what,
            client=connection.client,
            connection=self.described(connection),
            frames=tuple(
                f"{'>' if first + offset == index else ' '} {self.seconds(at)}  {text}"
                for offset, (at, text) in enumerate(around)
            ),
            log=() if log is None or sequence is None else log.lines(sequence),
        )


class ToldEvents:
    """When the events of one execution were known to be committed."""

    def __init__(self, told: Iterable[tuple[float, int]]) -> None:
        self._moments: list[float] = []
        self._newest: list[int] = []
        newest = -1
        for at, sequence in sorted(told):
            newest = max(newest, sequence)
            self._moments.append(at)
            self._newest.append(newest)

    def newest_before(self, at: float) -> int:
        """The highest sequence that was known to be committed before `at`; -1 for none."""
        place = bisect_left(self._moments, at)
        return self._newest[place - 1] if place else -1


def _reaction(message: Message | None, cursor: Id | None) -> Reaction:
    if message is None:
        return Reaction.UNREADABLE
    if message.type == "heartbeat":
        return Reaction.HEARTBEAT
    event_id = message.id
    if event_id is None:
        return Reaction.UNREADABLE
    if message.type == "initial_snapshot":
        if message.is_resync:
            return Reaction.RESYNC
        if cursor is None:
            return Reaction.SNAPSHOT
        if cursor != BEFORE_THE_FIRST or event_id.sequence != 0:
            return Reaction.UNANNOUNCED_SNAPSHOT
    elif message.type not in ("activity_patch", "final_snapshot"):
        return Reaction.UNREADABLE
    if cursor is None or event_id.sequence > cursor.sequence + 1:
        return Reaction.GAP
    if event_id.sequence <= cursor.sequence:
        return Reaction.REPEATED
    return Reaction.APPLIED
