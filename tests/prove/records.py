"""What one proving run has seen: what was done, what each client received, what is held at the end.

Validators (`tests.prove.validators`) judge these records and nothing else. All moments (`at`,
`until`) are seconds of one monotonic clock of the machine (`time.monotonic()`), comparable
between the run's processes.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

JsonObject = dict[str, Any]

FOREVER: Final = float("inf")


class Outcome(StrEnum):
    """What became of a write."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"
    """Its process was killed, or the database failed, before it could tell."""


class FaultKind(StrEnum):
    """What was done to the product."""

    WRITER_KILLED = "writer killed"
    WEB_KILLED = "web process killed"
    WEB_ENDED = "web process asked to end"
    VALKEY_KILLED = "Valkey killed, restarted empty"
    VALKEY_EMPTIED = "Valkey emptied"
    VALKEY_STOPPED = "Valkey stopped and continued"
    VALKEY_CUT = "connections to Valkey cut"
    VALKEY_DELAYED = "replies of Valkey delayed"
    VALKEY_HALVED = "a reply of Valkey cut in the middle"
    STREAM_TRIMMED = "stream trimmed under its readers"
    DATABASE_LOCKED = "database locked or away"
    PRIMARY_KILLED = "a primary killed, its replica promoted"
    REPLICA_KILLED = "a replica killed, restarted"
    NODE_STOPPED = "a node of Valkey stopped and continued"
    NODE_EMPTIED = "a primary emptied, with its replica"
    MAJORITY_LOST = "cluster without a majority"
    SLOTS_MOVED = "slots moved to another primary"


class Habit(StrEnum):
    """How a client behaves."""

    STAYS = "stays"
    VANISHES = "vanishes, and returns with its cursor"
    STALLS = "stops reading for a while"
    NEVER_READS = "never reads"
    HERD = "returns with many others at once"
    OLD_CURSOR = "comes with an old cursor"
    FOREIGN_CURSOR = "comes with a cursor that is not this execution's"


@dataclass(frozen=True)
class Write:
    """One try to commit one event; its marker is a unique text inside the event's message."""

    at: float
    writer: str
    execution_id: str
    marker: str
    outcome: Outcome
    told_at: float | None
    """When the writer knew the outcome; None where it is unknown."""


@dataclass(frozen=True)
class Fault:
    """One fault, from its beginning until its cause was gone."""

    at: float
    until: float
    kind: FaultKind
    what: str


@dataclass(frozen=True)
class Access:
    """From `at` on, the caller may (or may not) view the executions; None stands for all."""

    at: float
    caller: str
    may_view: bool
    execution_ids: frozenset[str] | None = None


@dataclass
class Connection:
    """One connection of a client, from its request to its end.

    `web` is the process that was asked; behind a proxy the one that answered, empty until then.
    """

    client: str
    caller: str
    habit: Habit
    web: str
    execution_id: str
    replay: str | None
    asked_at: float
    opened_at: float | None = None
    """When the handshake was done; None where it failed."""
    frames: list[tuple[float, str]] = field(default_factory=list)
    """Each text frame as it was read, with the moment of the reading."""
    not_reading: list[tuple[float, float]] = field(default_factory=list)
    """Spans in which the client did not read."""
    ended_at: float | None = None
    close_code: int | None = None
    """The server's close code; None where the connection was lost, or left by the client."""
    close_reason: str = ""
    left_by_client: bool = False


@dataclass(frozen=True)
class Reading:
    """One answer of the REST detail with `include=activities`."""

    at: float
    caller: str
    execution_id: str
    status: int
    event_id: str | None
    document: JsonObject | None
    asked_at: float | None = None
    text: str = ""
    """The answer's body where it is no document."""


@dataclass(frozen=True)
class Sample:
    """A process' resident memory."""

    at: float
    process: str
    resident_bytes: int


@dataclass
class Records:
    """Everything of one run. A client's connections come in the order of its asking."""

    seed: int
    heartbeat_seconds: float
    began_at: float
    settled_at: float
    """No write and no fault came after this; every client that stays was given time to catch up."""
    ended_at: float = FOREVER
    writes: list[Write] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    access: list[Access] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    """By execution_id: a text that is in the execution's document from its beginning."""
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By execution_id: the event log at the end, as (event_id, message)."""
    documents: dict[str, tuple[str, JsonObject]] = field(default_factory=dict)
    """By execution_id: the head and the document that the database holds at the end."""
    streams: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By execution_id: what the stream holds at the end, as (entry id, message)."""
