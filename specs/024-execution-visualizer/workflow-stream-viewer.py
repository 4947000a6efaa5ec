#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["jsonpatch>=1.33", "textual>=8", "websockets>=15"]
# ///
# ruff: noqa: T201 (a command prints)
"""Watches one execution, and proves that what it shows is what the server holds.

    workflow-stream-viewer.py ws://127.0.0.1:8000/api/v1/ws/executions/ID
    workflow-stream-viewer.py http://127.0.0.1:8000/api/v1/executions/ID --check

It folds the stream's patches over the first snapshot, comes back with its cursor when a connection
is lost, and compares its fold with the final snapshot. Servers that ask who you are get the token
in the environment variable NEXUS_TOKEN, or the Cookie header in NEXUS_VIEWER_COOKIE.

With --check there is no screen: a line for each message, then the verdict. Exit status:
  0  a final snapshot came, and the fold equals it
  1  it differs, there was nothing to compare it with, or the server broke the protocol
  2  usage; or the server refused: 4400, 4401, 4404, or an HTTP error that stays
  3  --timeout passed, or --max-attempts connections in a row brought nothing

The rooms of this file, in order: text, identifiers and documents, the fold (pure), the connection,
where things stand (pure), --check, the picture (pure), the screen (Textual, loaded only when
needed), the command.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import heapq
import ipaddress
import json
import os
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from jsonpatch import JsonPatch, JsonPatchException
from jsonpointer import JsonPointer, JsonPointerException
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

if TYPE_CHECKING:
    from textual.app import App

Json = dict[str, Any]

EVENT_TYPES = ("initial_snapshot", "activity_patch", "final_snapshot")
KNOWN_TYPES = (*EVENT_TYPES, "heartbeat")
TYPES_COUNTED = 20
PROBLEMS_KEPT = 50
LARGEST_MESSAGE_BYTES = 256 * 2**20
SILENCE_SECONDS = 90.0  # three heartbeats missed: the connection is dead, whatever TCP says
CLOSING_SECONDS = 5.0  # for what should follow at once: the close after the final snapshot
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0


# Text. Whatever comes from a server is shown through `inert`.


def inert(value: object, limit: int = 200) -> str:
    """`value` as one line that cannot move a cursor, change colours or reorder its neighbours."""
    text = value if isinstance(value, str) else compact(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(
        character if character.isprintable() else _shown(character) for character in text
    )


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return " " if unicodedata.category(character) == "Zs" else "�"


def compact(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    except (TypeError, ValueError, RecursionError):
        return f"({type(value).__name__})"


def moment(value: object) -> datetime | None:
    """The instant an RFC 3339 text names, or None for anything else."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        return instant.astimezone(UTC) if instant and instant.tzinfo else None
    except (ValueError, OverflowError):
        return None


def clock(value: object) -> str:
    instant = moment(value)
    return f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03}" if instant else "--:--:--.---"


def day_and_clock(value: object) -> str:
    instant = moment(value)
    return f"{instant:%Y-%m-%d} {clock(value)}Z" if instant else inert(value, 40)


def span(seconds: float) -> str:
    """A duration for people: 12 ms, 1.2 s, 3 m 05 s, 2 h 10 m, 4 d 03 h."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


def plural(number: int, noun: str) -> str:
    several = (
        noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-2:] == "ch" else "s")
    )
    return f"{number:,} {noun if number == 1 else several}"


# Identifiers and documents.


@dataclass(frozen=True, order=True)
class EventId:
    """`<milliseconds>-<sequence>`. The sequence alone orders the events of an execution."""

    milliseconds: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"

    @classmethod
    def find(cls, text: object) -> EventId | None:
        """The event_id that `text` is, or None."""
        if not isinstance(text, str):
            return None
        match = re.fullmatch(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", text)
        return cls(int(match[1]), int(match[2])) if match else None


class PatchError(Exception):
    """The operations do not apply to the document, which is unchanged."""


def patched(document: Json, ops: object) -> Json:
    """The document after `ops` (RFC 6902), all of them or none.

    The result shares what did not change with `document`, which is not touched: a patch costs what
    it changes, however large the document.
    """
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise PatchError("ops is not an array of objects")
    result: Any = document
    try:
        for op in ops:
            for pointer in (op.get("path"), op.get("from")):
                if isinstance(pointer, str):
                    result = _unshared(result, JsonPointer(pointer).parts[:-1])
            result = JsonPatch([op]).apply(result, in_place=True)
    except (JsonPatchException, JsonPointerException) as error:
        raise PatchError(inert(str(error))) from error
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as e:
        raise PatchError(f"operation {inert(compact(op))} cannot be carried out") from e
    if not isinstance(result, dict):
        raise PatchError("the patch replaces the document by something that is no object")
    return result


def _unshared(document: Any, containers: Sequence[str]) -> Any:
    """`document` with its own copies of the containers on a path, as far as the path exists."""
    root = node = copy.copy(document)
    for part in containers:
        key: Any = int(part) if isinstance(node, list) and part.isdecimal() else part
        try:
            child = copy.copy(node[key])
        except (LookupError, TypeError):
            break
        if not isinstance(child, (dict, list)):
            break
        node[key] = child
        node = child
    return root


class Absent:
    """What stands on one side of a difference when only the other side has the member."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()


@dataclass(frozen=True)
class Difference:
    """One place where two documents differ."""

    path: str
    folded: Any
    final: Any


def differences(folded: Any, final: Any) -> tuple[Difference, ...]:
    """Every place where the documents differ as JSON, by JSON pointer, in document order."""
    found: list[Difference] = []
    pending: list[tuple[str, Any, Any]] = [("", folded, final)]
    while pending:
        path, ours, theirs = pending.pop()
        if isinstance(ours, dict) and isinstance(theirs, dict):
            keys = [*ours, *(key for key in theirs if key not in ours)]
            pairs = [(key, ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in keys]
        elif isinstance(ours, list) and isinstance(theirs, list):
            length = max(len(ours), len(theirs))
            ours, theirs = ([*side, *[ABSENT] * (length - len(side))] for side in (ours, theirs))
            pairs = [(str(index), ours[index], theirs[index]) for index in range(length)]
        else:
            # JSON's true is not 1, although Python's is.
            if isinstance(ours, bool) is not isinstance(theirs, bool) or ours != theirs:
                found.append(Difference(path, ours, theirs))
            continue
        for key, mine, other in reversed(pairs):
            escaped = key.replace("~", "~0").replace("/", "~1")
            pending.append((f"{path}/{escaped}", mine, other))
    return tuple(found)


# The fold: what a client knows after a message, given what it knew before. No clock, no network.


class ProblemKind(StrEnum):
    """What a server may not do."""

    DUPLICATE = "duplicate"  # an event already applied: harmless, and ignored
    GAP = "gap"  # events are missing: come back with the cursor
    MALFORMED = "malformed"
    FOREIGN = "foreign"  # another execution's event
    UNEXPECTED = "unexpected"
    UNAPPLICABLE = "unapplicable"  # the picture is lost: begin again with a fresh snapshot


@dataclass(frozen=True)
class Problem:
    kind: ProblemKind
    text: str


class ProtocolError(Exception):
    def __init__(self, kind: ProblemKind, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(kind, text)


class Verdict(StrEnum):
    OPEN = "open"  # no final snapshot yet
    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNVERIFIABLE = "unverifiable"  # it came, but this client had no document to compare it with


@dataclass(frozen=True)
class Tally:
    """How many messages of one type came, and the newest one's timestamp."""

    count: int = 0
    timestamp: object = None


@dataclass(frozen=True)
class StreamState:
    """All that a client knows from the messages of one execution's stream."""

    execution_id: str
    from_beginning: bool = False  # this connection asked for replay=0
    document: Json | None = None
    cursor: EventId | None = None
    base: EventId | None = None  # the snapshot that the fold stands on
    folded: int = 0  # patches applied since that snapshot
    final: Json | None = None
    verdict: Verdict = Verdict.OPEN
    differences: tuple[Difference, ...] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    resyncs: int = 0
    resync_reason: object = None
    duplicates: int = 0
    problem: Problem | None = None  # with the newest message
    problems: tuple[Problem, ...] = ()  # the newest of all
    lost: bool = False  # the picture is lost: only a snapshot of now helps

    @property
    def messages(self) -> int:
        return sum(tally.count for tally in self.tallies.values())

    @property
    def activities(self) -> list[Json]:
        """The document's activities; anything that is no object is shown as an empty one."""
        found = (self.document or {}).get("activities")
        each = found if isinstance(found, list) else []
        return [activity if isinstance(activity, dict) else {} for activity in each]


def received(state: StreamState, frame: str | bytes) -> StreamState:
    """`state` after one WebSocket message."""
    try:
        if isinstance(frame, bytes):
            raise ValueError("a binary message")
        message = json.loads(frame, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return _with_problem(
            state, Problem(ProblemKind.MALFORMED, f"not JSON text: {inert(error)}")
        )
    return folded(state, message)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def folded(state: StreamState, message: object) -> StreamState:
    """`state` after one decoded message. A problem leaves document and cursor as they were."""
    state = replace(state, problem=None)
    try:
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ProtocolError(ProblemKind.MALFORMED, "the message is no object with a type")
        state = _counted(state, message)
        if message["type"] in EVENT_TYPES:
            return _with_event(state, message)
        if message["type"] == "heartbeat":
            _check_heartbeat(state, message)
    except ProtocolError as error:
        return _with_problem(state, error.problem)
    return state


def _counted(state: StreamState, message: Json) -> StreamState:
    kind = message["type"]
    if kind not in KNOWN_TYPES and kind not in state.tallies and len(state.tallies) > TYPES_COUNTED:
        kind = "(others)"
    count = state.tallies.get(kind, Tally()).count + 1
    return replace(state, tallies={**state.tallies, kind: Tally(count, message.get("timestamp"))})


def _with_problem(state: StreamState, problem: Problem) -> StreamState:
    lost = problem.kind in (ProblemKind.UNAPPLICABLE, ProblemKind.UNEXPECTED)
    return replace(
        state,
        problem=problem,
        problems=(*state.problems, problem)[-PROBLEMS_KEPT:],
        duplicates=state.duplicates + (problem.kind is ProblemKind.DUPLICATE),
        lost=state.lost or lost,
        cursor=None if lost else state.cursor,
    )


def _check_heartbeat(state: StreamState, message: Json) -> None:
    if "event_id" not in message:
        return
    caught_up = EventId.find(message["event_id"])
    if caught_up is None:
        text = f"the heartbeat's event_id is {inert(message['event_id'])}"
        raise ProtocolError(ProblemKind.MALFORMED, text)
    if state.cursor and caught_up.sequence > state.cursor.sequence:
        text = f"the heartbeat says {caught_up} was sent, but {state.cursor} was the last to arrive"
        raise ProtocolError(ProblemKind.GAP, text)


def _with_event(state: StreamState, message: Json) -> StreamState:
    kind = message["type"]
    event_id = EventId.find(message.get("event_id"))
    if event_id is None:
        text = f"{kind} has the event_id {inert(message.get('event_id'))}"
        raise ProtocolError(ProblemKind.MALFORMED, text)
    if message.get("execution_id") != state.execution_id:
        text = f"{kind} {event_id} belongs to {inert(message.get('execution_id'))}"
        raise ProtocolError(ProblemKind.FOREIGN, text)
    if kind != "activity_patch" and not isinstance(message.get("execution"), dict):
        raise ProtocolError(ProblemKind.MALFORMED, f"{kind} {event_id} has no execution object")

    resync = message.get("resync") if kind == "initial_snapshot" else None
    if kind == "initial_snapshot" and (resync is not None or state.cursor is None):
        return _with_snapshot(state, event_id, message["execution"], resync)
    if state.cursor is None:
        text = f"{kind} {event_id} came before any snapshot"
        raise ProtocolError(ProblemKind.UNEXPECTED, text)
    _check_order(kind, state.cursor, event_id)
    if kind == "initial_snapshot" or state.final is not None:
        place = "in the middle of the stream" if state.final is None else "after the final snapshot"
        raise ProtocolError(ProblemKind.UNEXPECTED, f"{kind} {event_id} came {place}")
    if kind == "final_snapshot":
        return _with_final(state, event_id, message["execution"])
    return _with_patch(state, event_id, message.get("ops"))


def _check_order(kind: str, cursor: EventId, event_id: EventId) -> None:
    if event_id.sequence <= cursor.sequence:
        text = f"{kind} {event_id} was already applied (the cursor is {cursor})"
        raise ProtocolError(ProblemKind.DUPLICATE, text)
    if event_id.sequence > cursor.sequence + 1:
        missing = plural(event_id.sequence - cursor.sequence - 1, "event")
        text = f"{missing} missing between {cursor} and {kind} {event_id}"
        raise ProtocolError(ProblemKind.GAP, text)
    if event_id.milliseconds < cursor.milliseconds:
        text = f"milliseconds go back from {cursor} to {kind} {event_id}"
        raise ProtocolError(ProblemKind.UNEXPECTED, text)


def _with_snapshot(
    state: StreamState, event_id: EventId, execution: Json, resync: object
) -> StreamState:
    if state.from_beginning and resync is None and event_id.sequence != 0:
        text = f"replay=0 was asked for, but the stream begins with {event_id}"
        raise ProtocolError(ProblemKind.UNEXPECTED, text)
    if resync is not None:
        reason = resync.get("reason") if isinstance(resync, dict) else resync
        state = replace(state, resyncs=state.resyncs + 1, resync_reason=reason)
    return replace(
        state,
        document=execution,
        cursor=event_id,
        base=event_id,
        folded=0,
        final=None,
        verdict=Verdict.OPEN,
        differences=(),
        lost=False,
    )


def _with_patch(state: StreamState, event_id: EventId, ops: object) -> StreamState:
    if state.document is None:
        return replace(state, cursor=event_id)
    try:
        document = patched(state.document, ops)
    except PatchError as refused:
        text = f"activity_patch {event_id} does not apply: {refused}"
        raise ProtocolError(ProblemKind.UNAPPLICABLE, text) from refused
    return replace(state, document=document, cursor=event_id, folded=state.folded + 1)


def _with_final(state: StreamState, event_id: EventId, execution: Json) -> StreamState:
    found = differences(state.document, execution) if state.document is not None else ()
    if state.document is None:
        verdict = Verdict.UNVERIFIABLE
    else:
        verdict = Verdict.MISMATCH if found else Verdict.VERIFIED
    return replace(
        state,
        document=execution,
        cursor=event_id,
        final=execution,
        verdict=verdict,
        differences=found,
    )


def forgotten(state: StreamState, cursor: EventId) -> StreamState:
    """`state` as if only its cursor had been kept."""
    return replace(
        state,
        document=None,
        cursor=cursor,
        base=None,
        folded=0,
        final=None,
        verdict=Verdict.OPEN,
        differences=(),
    )


def proof(state: StreamState) -> str:
    """The verdict as a sentence."""
    patches = plural(state.folded, "patch")
    match state.verdict:
        case Verdict.VERIFIED:
            return (
                f"the snapshot {state.base} and {patches} fold to the final snapshot"
                f" {state.cursor}, field for field"
            )
        case Verdict.MISMATCH:
            found = plural(len(state.differences), "difference")
            return f"{found} between the fold of {state.base} and {patches}, and {state.cursor}"
        case Verdict.UNVERIFIABLE:
            return (
                f"the final snapshot {state.cursor} came, but there was nothing to compare it with"
            )
        case Verdict.OPEN:
            if state.base is None:
                return "no snapshot yet"
            return f"no final snapshot yet; {patches} folded since {state.base}"


def difference_lines(found: Sequence[Difference], limit: int = 200) -> list[str]:
    lines = []
    for each in found[:limit]:
        ours, theirs = (
            repr(side) if side is ABSENT else inert(compact(side))
            for side in (each.folded, each.final)
        )
        lines += [
            inert(each.path) or "(the whole document)",
            f"  folded {ours}",
            f"  final  {theirs}",
        ]
    if len(found) > limit:
        lines.append(f"and {len(found) - limit:,} more")
    return lines


# The connection: what opens, follows, and comes back.


class AddressError(ValueError):
    """The address given is none that this viewer can watch."""


@dataclass(frozen=True)
class Address:
    """Where an execution is streamed."""

    url: str
    execution_id: str
    host: str

    @classmethod
    def of(cls, text: str) -> Address:
        """From a stream's ws(s):// address, or from the execution's http(s):// REST address."""
        accepted = (
            "expected ws://HOST/api/v1/ws/executions/ID or http://HOST/api/v1/executions/ID"
            " (or wss, https)"
        )
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise AddressError(f"{inert(text)}: {error}; {accepted}") from error
        found = re.fullmatch(r"(.*/api/v1)(?:/ws)?/executions/([^/]+)/?", parts.path)
        streams = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
        if found is None or not host or parts.scheme not in streams:
            raise AddressError(f"{inert(text)}: {accepted}")
        if parts.username is not None:
            raise AddressError("an address holds no credentials: use NEXUS_TOKEN")
        query = [pair for pair in parse_qsl(parts.query) if pair[0] != "include"]
        if any(name == "replay" for name, _ in query):
            raise AddressError("give the place to begin with --replay, not in the address")
        path = f"{found[1]}/ws/executions/{found[2]}"
        url = urlunsplit((streams[parts.scheme], parts.netloc, path, urlencode(query), ""))
        return cls(url, unquote(found[2]), host)

    def replaying(self, replay: str | None) -> str:
        if replay is None:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}replay={quote(replay, safe='')}"

    @property
    def is_local(self) -> bool:
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Advice(StrEnum):
    """What a close code asks of the client."""

    DONE = "done"
    RECONNECT = "reconnect with the cursor"
    STOP = "stop"


CLOSE_CODES: Mapping[int, tuple[str, Advice]] = {
    1000: ("the stream is complete", Advice.DONE),
    1001: ("the server is going away", Advice.RECONNECT),
    1006: ("the connection was lost", Advice.RECONNECT),
    1011: ("the server failed", Advice.RECONNECT),
    4400: ("bad request", Advice.STOP),
    4401: ("not authenticated", Advice.STOP),
    4404: ("no such execution for you", Advice.STOP),
    4408: ("too slow", Advice.RECONNECT),
    4429: ("too many connections", Advice.RECONNECT),
}
PASSING_HTTP_STATUSES = (408, 425, 429)
HOW_TO_LOG_IN = "POST /api/v1/tokens gives a token: put it into NEXUS_TOKEN"


def advice(code: int) -> Advice:
    """A code that nobody defined is treated like a lost connection."""
    return CLOSE_CODES.get(code, ("", Advice.RECONNECT))[1]


def backoff_seconds(failures: int, chance: Callable[[], float] = random.random) -> float:
    """How long to wait after `failures` connections in a row that brought no event.

    All of the wait is chance (0 to 1), so that clients cut off together do not return together.
    """
    longest = FIRST_BACKOFF_SECONDS * float(2 ** min(max(failures - 1, 0), 10))
    return min(longest, LONGEST_BACKOFF_SECONDS) * chance()


class Ending(StrEnum):
    """Why nothing more will come."""

    DONE = "done"
    STOPPED = "stopped"
    GAVE_UP = "gave up"
    VIOLATION = "violation"


@dataclass(frozen=True)
class Link:
    """What is known of the connection itself."""

    phase: str = "connecting"
    opened_at: float = 0.0
    connections: int = 0
    failures: int = 0
    closes: tuple[str, ...] = ()
    waiting_until: float = 0.0

    @property
    def reconnects(self) -> int:
        return max(self.connections - 1, 0)


@dataclass(frozen=True)
class Options:
    """How to follow a stream.

    replay: what the first connection asks for: None, "0", or an event_id. Given an event_id, the
    history up to it is folded first; then the viewer leaves and comes back with it as its cursor,
    as after a lost connection.
    max_attempts: connections in a row that may bring nothing; 0 means without limit.
    strict: a broken protocol ends it; otherwise the viewer reconnects.
    headers: what says who is asking.
    """

    replay: str | None = "0"
    max_attempts: int = 0
    strict: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Follower:
    """Follows one execution through any number of connections."""

    def __init__(
        self,
        address: Address,
        options: Options,
        on_message: Callable[[StreamState, StreamState, str | bytes], None] = lambda *_: None,
        on_link: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_message` gets the states before and after, and the message; `on_link` gets news."""
        self.address = address
        self.options = options
        self.on_message = on_message
        self.on_link = on_link
        self.state = StreamState(address.execution_id)
        self.link = Link()
        self.received_at = 0.0
        self._rehearsal = EventId.find(options.replay)
        self._again = asyncio.Event()
        self._socket: ClientConnection | None = None

    def reconnect(self) -> None:
        """Leaves the connection there is, or the wait for the next one, and connects again now."""
        self._again.set()
        if self._socket is not None:
            self._closing = asyncio.ensure_future(self._socket.close())

    async def run(self) -> Ending:
        """Follows until the stream is complete, or nothing more can come."""
        while True:
            ending = await self._connection()
            if ending is not None:
                self.link = replace(self.link, phase="ended")
                return ending
            limit = self.options.max_attempts
            if limit and self.link.failures >= limit:
                self._news(f"no event in {plural(limit, 'attempt')}: gave up", phase="ended")
                return Ending.GAVE_UP
            if self.link.failures and not self._again.is_set():
                await self._wait(backoff_seconds(self.link.failures))
            self._again.clear()

    async def _wait(self, seconds: float) -> None:
        self.link = replace(self.link, waiting_until=time.time() + seconds)
        self._news(f"next attempt in {span(seconds)}", phase="waiting")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._again.wait(), seconds)

    def _replay(self) -> str | None:
        if self.state.lost:
            return None
        if self._rehearsal is not None:
            return "0"
        if self.state.cursor is not None:
            return str(self.state.cursor)
        return self.options.replay

    def _news(self, text: str, **changes: Any) -> None:
        self.link = replace(self.link, **changes)
        self.on_link(text)

    async def _connection(self) -> Ending | None:
        """One connection's whole life. None means: connect again."""
        replay = self._replay()
        asking = "without replay" if replay is None else f"with replay={inert(replay)}"
        self._news(f"connecting {asking}", phase="connecting")
        self.state = replace(self.state, from_beginning=replay == "0")
        try:
            async with connect(
                self.address.replaying(replay),
                additional_headers=self.options.headers,
                proxy=None if self.address.is_local else True,
                max_size=LARGEST_MESSAGE_BYTES,
                close_timeout=CLOSING_SECONDS,
            ) as socket:
                self._socket = socket
                self._again.clear()
                connections = self.link.connections + 1
                self._news(
                    "connected", phase="live", connections=connections, opened_at=time.time()
                )
                ending = await self._receive(socket)
                await self._leave(socket)
                return ending
        except ConnectionClosed as closed:
            return self._closed(closed)
        except InvalidStatus as refused:
            status = refused.response.status_code
            stays = 300 <= status < 500 and status not in PASSING_HTTP_STATUSES
            self._failed(f"refused: HTTP {status}")
            return Ending.STOPPED if stays else None
        except (OSError, WebSocketException, EOFError, UnicodeError) as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._failed(f"cannot connect: {inert(text)}")
            return None
        finally:
            self._socket = None

    async def _leave(self, socket: ClientConnection) -> None:
        """Closes, reading on: the server's answer stands behind what it has already sent."""
        closing = asyncio.create_task(socket.close())
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
        await closing

    async def _receive(self, socket: ClientConnection) -> Ending | None:
        while True:
            rehearsing = self._rehearsal is not None and self.state.document is not None
            eager = self.state.final is not None or rehearsing
            patience = CLOSING_SECONDS if eager else SILENCE_SECONDS
            try:
                async with asyncio.timeout(patience):
                    frame = await socket.recv()
            except TimeoutError:
                return self._silence(patience)
            before = self.state
            self.state = received(before, frame)
            self.received_at = time.time()
            problem = self.state.problem
            if problem is None:
                self.link = replace(self.link, failures=0)
            self.on_message(before, self.state, frame)
            if problem is not None and problem.kind is not ProblemKind.DUPLICATE:
                if self.options.strict:
                    return Ending.VIOLATION
                self._failed(f"leaving: {problem.text}")
                return None
            if self._rehearsed():
                return None

    def _rehearsed(self) -> bool:
        """Whether the history up to the event_id asked for is folded, so that it can be left."""
        target, cursor = self._rehearsal, self.state.cursor
        if target is None or cursor is None or cursor.sequence < target.sequence:
            return False
        self._end_rehearsal(target)
        return True

    def _end_rehearsal(self, target: EventId) -> None:
        self._rehearsal = None
        self._news(f"leaving, to come back with {target}")
        if self.state.cursor != target:
            self.state = forgotten(self.state, target)

    def _silence(self, patience: float) -> Ending | None:
        if self.state.final is not None and self._rehearsal is None:
            self._news("the server did not close after the final snapshot", phase="ended")
            return Ending.DONE
        if self._rehearsal is not None:
            self._end_rehearsal(self._rehearsal)
            return None
        self._failed(f"silent for {span(patience)}")
        return None

    def _closed(self, closed: ConnectionClosed) -> Ending | None:
        if self._again.is_set():
            self._news("left on request")
            return None
        frame = closed.rcvd or closed.sent
        code = frame.code if frame else 1006
        reason = frame.reason if frame else ""
        told = f"closed {code}: {inert(reason) or CLOSE_CODES.get(code, ('',))[0]}".rstrip(": ")
        self._failed(f"{told} ({HOW_TO_LOG_IN})" if code == 4401 else told)
        if self._rehearsal is not None and advice(code) is Advice.DONE:
            self._end_rehearsal(self._rehearsal)
            self.link = replace(self.link, failures=0)
            return None
        if self._rehearsal is None and self.state.final is not None:
            return Ending.DONE
        return {Advice.DONE: Ending.DONE, Advice.STOP: Ending.STOPPED}.get(advice(code))

    def _failed(self, text: str) -> None:
        closes = (*self.link.closes, text)[-PROBLEMS_KEPT:]
        self._news(text, closes=closes, failures=self.link.failures + 1)


# Where things stand, in an operator's words: for --check and for the picture. Pure.

OPEN_STATUSES = ("pending", "running", "retrying")
ASKED: Mapping[str, str] = {
    "cancel_requested": "cancelling",
    "pause_requested": "pausing",
    "paused": "paused",
}
KINDS: Mapping[str, str] = {
    "activity": "activity",
    "local_activity": "local activity",
    "child_workflow": "child workflow",
    "timer": "timer",
    "nexus_operation": "Nexus operation",
}


def standing(item: Json) -> str:
    """Where an activity stands: what was asked of it, else what it waits for, else its status.

    An execution's is its status, and so is that of an activity whose document lacks the
    fields that tell more.
    """
    status, asked = item.get("status"), item.get("pending_state")
    if status in OPEN_STATUSES and isinstance(asked, str) and asked in ASKED:
        return ASKED[asked]
    if status == "pending" and "scheduled_at" in item:
        return "planned" if item["scheduled_at"] is None else "queued"
    if status == "retrying" and "next_attempt_at" in item:
        return "retry queued" if item["next_attempt_at"] is None else "backing off"
    return inert(status, 40)


def attempt_of(item: Json) -> int:
    retries = item.get("retry_count")
    return retries + 1 if isinstance(retries, int) and retries > 0 else 1


def timing(item: Json, now: float) -> str:
    """How long it waits, runs or took; where it backs off, when it is tried again."""
    status = item.get("status")
    if status == "retrying" and "next_attempt_at" in item:
        due = moment(item["next_attempt_at"])
        if due is None:
            return ""
        remaining = due.timestamp() - now
        return f"in {span(remaining)}" if remaining > 0 else "due"
    began = moment(item.get("scheduled_at" if status == "pending" else "started_at"))
    ended = moment(item.get("completed_at"))
    return span((ended.timestamp() if ended else now) - began.timestamp()) if began else ""


def standing_in_words(item: Json, now: float) -> str:
    """Where it stands, since when, and at which attempt."""
    status, words, number = item.get("status"), standing(item), attempt_of(item)
    time_told = timing(item, now)
    if status == "retrying" and "next_attempt_at" in item:
        return f"{words}: attempt {number + 1} {time_told or 'waits'}"
    if words in ASKED.values():
        words += f", {status}"
    if time_told:
        words += f" {'for' if status in OPEN_STATUSES else 'after'} {time_told}"
    return f"{words}, attempt {number}" if number > 1 else words


def kind_of(item: Json) -> str:
    """What kind of activity it is, where it is no ordinary one."""
    kind = item.get("activity_type")
    if kind in (None, "activity", item.get("activity_name")):
        return ""
    return KINDS.get(kind, inert(kind, 30)) if isinstance(kind, str) else inert(kind, 30)


def failure_of(item: Json) -> str:
    """The last failure in a line: its type and message."""
    details = item.get("error_details")
    parts = [details.get("type"), details.get("message")] if isinstance(details, dict) else []
    return ": ".join(inert(part, 80) for part in parts if part not in (None, ""))


def point_in_words(point: object) -> str:
    """A point of the run: "signal approve", for example."""
    if not isinstance(point, dict):
        return ""
    kind, name = point.get("kind"), point.get("name")
    words = inert(kind, 40).replace("_", " ")
    return words if name in (None, "") else f"{words} {inert(name, 60)}"


def links_of(document: Json) -> list[tuple[str, str]]:
    """The executions that this one belongs to, goes on from, or goes on as: their part and id."""
    names = ("parent", "previous", "next")
    found = [(f"{name} run", document.get(f"{name}_execution_id")) for name in names]
    return [(part, inert(execution_id, 64)) for part, execution_id in found if execution_id]


def counted_to(document: Json, now: float) -> float:
    """The instant that durations are told at: the end of an execution that has ended, else now."""
    ended = moment(document.get("completed_at"))
    return min(now, ended.timestamp()) if ended else now


# --check: no screen, a line for each message, then the verdict.


def value_at(document: Any, pointer: str) -> Any:
    """What `pointer` points to, or None."""
    try:
        return JsonPointer(pointer).resolve(document, None)
    except (JsonPointerException, TypeError):
        return None


def known_change(field: str, old: Any, value: Any) -> str:
    """The words for a change whose field and value alone say little; "" for any other."""
    match field, value:
        case "error_details", dict():
            return failure_of({field: value})
        case "latest_point", dict():
            return point_in_words(value)
        case "next_attempt_at", str() if moment(value):
            return f"next attempt {clock(value)[:8]}"
        case "next_attempt_at", None:
            return "retry queued"
        case "scheduled_at", str():
            return "queued"
        case "retry_count", int():
            return f"attempt {value + 1}"
        case "progress", int() | float() if 0 <= value <= 1:
            return f"progress {value:.0%}"
        case "pending_state", str():
            return inert(value, 40).replace("_", " ")
        case "pending_state", None if isinstance(old, str):
            return f"no longer {ASKED.get(old, inert(old, 40))}"
        case _, str() if field.endswith("_execution_id"):
            return f"{field.removesuffix('_execution_id')} run {inert(value, 64)}"
    return ""


def change_in_words(document: Json | None, op: Json) -> tuple[str, str, bool]:
    """What an operation changes, how, and whether that is a detail beside other changes.

    For example: ("fetch_data", "status pending → running", False).
    """
    path, value = op["path"], op.get("value")
    parts = path.split("/")[1:]
    if len(parts) == 2 and parts[0] == "activities" and op.get("op") == "add":
        added = value if isinstance(value, dict) else {}
        kind = KINDS.get(str(added.get("activity_type")), "activity")
        return f"new {kind} {inert(added.get('activity_name'), 40)}", standing(added), False
    subject, place = "execution", parts
    if len(parts) > 2 and parts[0] == "activities":
        name = value_at(document, f"/activities/{parts[1]}/activity_name")
        subject, place = inert(name or f"activities/{parts[1]}", 40), parts[2:]
    field = inert("/".join(place), 40)
    old = value_at(document, path)
    if op.get("op") == "remove":
        return subject, f"{field} removed", False
    was = "" if old is None or len(inert(old)) > 20 else f"{inert(old)} → "
    told = known_change(field, old, value) or f"{field} {was}{inert(value, 60)}"
    detail = value is None or (field.endswith("_at") and field != "next_attempt_at")
    return subject, told, detail


def patch_in_words(document: Json | None, ops: object, limit: int = 3) -> str:
    """A patch in a line. Details are left out where something else says what happened."""
    changes: dict[str, list[tuple[str, bool]]] = {}
    for op in ops if isinstance(ops, list) else []:
        if isinstance(op, dict) and isinstance(op.get("path"), str):
            subject, change, detail = change_in_words(document, op)
            changes.setdefault(subject, []).append((change, detail))
    texts = []
    for subject, each in changes.items():
        telling = [change for change, detail in each if not detail]
        texts.append(f"{subject}: {', '.join(telling or [change for change, _ in each])}")
    rest = [f"and {len(texts) - limit} more"] if len(texts) > limit else []
    return "; ".join(texts[:limit] + rest)


def summary(before: StreamState, after: StreamState, message: Json) -> str:
    if after.problem is not None:
        return f"PROTOCOL {after.problem.kind.upper()}: {after.problem.text}"
    match message.get("type"):
        case "activity_patch":
            return patch_in_words(before.document, message.get("ops"))
        case "initial_snapshot" | "final_snapshot":
            status = inert((after.document or {}).get("status"), 40)
            text = f"{status}, {plural(len(after.activities), 'activity')}"
            if message.get("resync") is not None and message["type"] == "initial_snapshot":
                text = f"RESYNC ({inert(after.resync_reason, 40)}): {text}"
            return text
        case "heartbeat":
            return "caught up" if "event_id" in message else "alive"
    return "ignored: unknown type"


def message_line(before: StreamState, after: StreamState, frame: str | bytes) -> str:
    try:
        decoded = json.loads(frame)
    except (ValueError, RecursionError):
        decoded = None
    message: Json = decoded if isinstance(decoded, dict) else {}
    kind = inert(message.get("type", "?"), 20)
    event_id = inert(message.get("event_id", "-"), 40)
    time_of_day = clock(message.get("timestamp"))
    return f"{time_of_day}  {kind:<16}  {event_id:<18}  {summary(before, after, message)}".rstrip()


def check(address: Address, options: Options, timeout: float | None) -> int:
    """Follows to the end, printing; returns the exit status."""

    def say(text: str) -> None:
        print(text, flush=True)

    async def follow() -> tuple[Ending | None, StreamState]:
        follower = Follower(
            address,
            options,
            on_message=lambda before, after, frame: say(message_line(before, after, frame)),
            on_link=lambda text: say(f"-- {text}"),
        )
        try:
            return await asyncio.wait_for(follower.run(), timeout), follower.state
        except TimeoutError:
            return None, follower.state

    say(f"-- {address.url}")
    ending, state = asyncio.run(follow())
    if ending is Ending.STOPPED:
        say("REFUSED: the server's answer will not change by itself")
        return 2
    if ending is Ending.GAVE_UP:
        say(f"NO CONNECTION: {proof(state)}")
        return 3
    if ending is None:
        say(f"TIMEOUT after {span(timeout or 0)}: {proof(state)}")
        return 3
    if state.problems:
        say(f"PROTOCOL BROKEN: {state.problems[0].text}; {proof(state)}")
        return 1
    say(f"{state.verdict.upper() if state.final else 'UNVERIFIED'}: {proof(state)}")
    for line in difference_lines(state.differences):
        say(f"  {line}")
    return 0 if state.verdict is Verdict.VERIFIED else 1


# The picture: which lines show a state. Pure; text with the names of styles, no widgets.

Span = tuple[str, str]
Line = list[Span]


@dataclass(frozen=True)
class Look:
    symbol: str
    style: str


LOOKS: Mapping[str, Look] = {
    "pending": Look("○", "bright_black"),
    "planned": Look("○", "bright_black"),
    "queued": Look("◎", "cyan"),
    "running": Look("◉", "bold cyan"),
    "retrying": Look("↻", "bold yellow"),
    "backing off": Look("↻", "bold yellow"),
    "retry queued": Look("◎", "bold yellow"),
    "cancelling": Look("⊘", "bold magenta"),
    "pausing": Look("‖", "bold blue"),
    "paused": Look("‖", "bold blue"),
    "completed": Look("✓", "green"),
    "failed": Look("✗", "bold red"),
    "cancelled": Look("⊘", "magenta"),
    "skipped": Look("↷", "bright_black"),
    "terminated": Look("■", "bold red"),
    "timed_out": Look("◷", "bold red"),
    "continued_as_new": Look("↪", "blue"),
}
UNKNOWN_LOOK = Look("◇", "white")
SPINNER = "◐◓◑◒"
QUIET, PLAIN, LABEL = "bright_black", "", "bright_black"
NOTHING = "-"
DEEPEST_INDENT = 24
EXECUTION = -1


def look(status: object) -> Look:
    return LOOKS.get(status, UNKNOWN_LOOK) if isinstance(status, str) else UNKNOWN_LOOK


@dataclass(frozen=True)
class Row:
    """One line of the graph: connecting lines, then a node (None: the lines alone)."""

    lines: str
    node: int | None


Shape = tuple[tuple[str, tuple[str, ...]], ...]


def shape_of(activities: Sequence[Json]) -> Shape:
    """What the graph's layout depends on: each activity's id and dependencies."""
    return tuple((str(each.get("activity_id")), tuple(dependencies(each))) for each in activities)


def dependencies(activity: Json) -> list[str]:
    found = activity.get("depends_on")
    return [str(each) for each in found] if isinstance(found, list) else []


def layout(shape: Shape) -> list[Row]:
    """The rows of the graph, the execution first, everything below what it waits for.

    A tree in which each node hangs below the last node that every way to it passes (its immediate
    dominator), so branches are indented below their fork, and the join stands below the branches in
    the fork's own column. Where nobody depends on anything, the order is the chain. Ids that nobody
    has, and dependencies that go round in a circle, are left out.
    """
    parents = _parents(shape)
    order = _topological(parents)
    depth = {EXECUTION: 0}
    above: dict[int, int] = {}
    below: dict[int, list[int]] = {node: [] for node in (EXECUTION, *order)}
    for node in order:
        meeting, *others = [parent for parent in parents[node] if parent in depth] or [EXECUTION]
        for other in others:
            while meeting != other:
                if depth[meeting] >= depth[other]:
                    meeting = above[meeting]
                else:
                    other = above[other]
        above[node] = meeting
        depth[node] = depth[meeting] + 1
        below[meeting].append(node)

    rows: list[Row] = []
    pending: list[tuple[int, str, str, bool]] = [(EXECUTION, "", "", False)]
    while pending:
        node, lines, column, connected = pending.pop()
        if connected:
            rows.append(Row(f"{column}│", None))
        rows.append(Row(lines, node))
        children = below[node]
        joins = [child for child in children if len(parents[child]) > 1]
        trunk = children if len(children) == 1 else joins if len(joins) == 1 else []
        branches = [child for child in children if child not in trunk]
        indented = len(column) < DEEPEST_INDENT
        entries = []
        for branch in branches:
            last = branch == branches[-1] and not trunk
            inner = column + ("  " if last else "│ ") if indented else column
            entries.append((branch, column + ("╰─" if last else "├─"), inner, False))
        entries += [(child, column, column, True) for child in trunk]
        pending += reversed(entries)
    return rows


def _parents(shape: Shape) -> list[list[int]]:
    if not any(depends_on for _, depends_on in shape):
        return [[position - 1] if position else [] for position in range(len(shape))]
    positions = {activity_id: position for position, (activity_id, _) in enumerate(shape)}
    return [
        sorted({positions[each] for each in depends_on if each in positions} - {position})
        for position, (_, depends_on) in enumerate(shape)
    ]


def _topological(parents: Sequence[Sequence[int]]) -> list[int]:
    """Every node after its parents, else by position; nodes in a circle last."""
    waiting = {node: len(each) for node, each in enumerate(parents)}
    children: dict[int, list[int]] = {}
    for node, each in enumerate(parents):
        for parent in each:
            children.setdefault(parent, []).append(node)
    ready = [node for node, count in waiting.items() if not count]
    order: list[int] = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for child in children.get(node, ()):
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, child)
    return order + sorted(set(waiting) - set(order))


def progress_bar(value: object, width: int = 5) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return ""
    full = round(value * width)
    return "▰" * full + "▱" * (width - full) + f"{value:>5.0%}"


def node_lines(item: Json, waits_for: Sequence[str], now: float, wide: bool) -> tuple[Line, Line]:
    """A node's left part (symbol, name, what it is, what it joins) and right part (its facts)."""
    status, stands = item.get("status"), standing(item)
    appearance = look(stands)
    turning = status == "running"
    symbol = SPINNER[int(now * 4) % len(SPINNER)] if turning else appearance.symbol
    name = item.get("activity_name") or item.get("workflow_type") or item.get("workflow_id") or "?"
    left: Line = [
        (symbol, appearance.style),
        (f" {inert(name, 120)}", "bold" if turning else PLAIN),
    ]
    for text, style in (
        (kind_of(item), QUIET),
        (f"✗ {failure_of(item)}" if status != "completed" and failure_of(item) else "", "red"),
        (inert(item.get("child_execution_id") or "", 64), QUIET),
    ):
        if text:
            left.append((f"  {text}", style))
    if len(waits_for) > 1:
        names = [inert(each, 30) for each in waits_for[:3]] + ["…"] * (len(waits_for) > 3)
        left.append((f"  ⇠ {len(waits_for):,}: {', '.join(names)}", QUIET))
    right: Line = []
    bar = progress_bar(item.get("progress")) if wide and status != "completed" else ""
    if bar:
        right.append((f" {bar} ", appearance.style))
    number = attempt_of(item)
    if bar or number > 1:
        right.append((f"{f'#{number}' if number > 1 else '':>4}", "yellow"))
    right.append((f" {inert(stands, 16):<12} ", appearance.style))
    right.append((f"{timing(item, now):>{11 if wide else 9}}", QUIET))
    return left, right


def status_counts(activities: Sequence[Json]) -> Line:
    counts = Counter(standing(activity) for activity in activities)
    line: Line = []
    for stands, count in counts.most_common():
        appearance = look(stands)
        line.append((f"{appearance.symbol} {count:,} {inert(stands, 20)}   ", appearance.style))
    return line


def run_line(document: Json) -> Line:
    """The latest point of the run, and the executions it is linked to."""
    point = document.get("latest_point")
    line: Line = []
    if isinstance(point, dict):
        line.append((f"◆ {point_in_words(point)} ", "bold"))
        line.append((f"{clock(point.get('at'))[:8]}   ", QUIET))
    for part, execution_id in links_of(document):
        line += [(f"{part} ", LABEL), (f"{execution_id}   ", PLAIN)]
    return line


def fields_of(item: Json, now: float) -> list[Line]:
    """Where it stands, then every member of an execution or activity, unknown ones too."""
    if not item:
        return []
    appearance = look(standing(item))
    lines: list[Line] = [
        [(f"{appearance.symbol} {standing_in_words(item, now)}", appearance.style)]
    ]
    # Objects (a failure, the latest point of the run) are what one looks for first.
    for name, value in sorted(item.items(), key=lambda each: not isinstance(each[1], dict)):
        if name == "activities":
            continue
        label = (f"{inert(name.replace('_execution_id', ' run'), 15):<16}", LABEL)
        instant = moment(value) if name.endswith("_at") else None
        if name == "error_details" and isinstance(value, dict):
            lines.append([label, (inert(value.get("type"), 60), "red")])
            texts = str(value.get("message", "")).splitlines()[:50]
            lines += [[("", LABEL), (inert(text, 500), "red")] for text in texts]
        elif name == "latest_point" and isinstance(value, dict):
            lines.append([label, (point_in_words(value), PLAIN)])
            lines.append([(" " * 16, LABEL), (day_and_clock(value.get("at")), PLAIN)])
        elif value is None:
            lines.append([label, (NOTHING, QUIET)])
        elif instant is not None:
            lines.append([label, (day_and_clock(value), PLAIN)])
        else:
            lines.append([label, (inert(value, 500), PLAIN)])
    return lines


def stream_facts(state: StreamState, link: Link, received_at: float, now: float) -> list[Line]:
    newest = max(
        (at for at in (moment(each.timestamp) for each in state.tallies.values()) if at),
        default=None,
    )
    if newest is None:
        lag = NOTHING
    elif newest.timestamp() < link.opened_at:
        lag = f"history, {span(now - newest.timestamp())} old"
    else:
        lag = span(received_at - newest.timestamp())
    reason = f" ({inert(state.resync_reason, 20)})" if state.resyncs else ""
    lines: list[Line] = [
        [("event_id   ", LABEL), (str(state.cursor or NOTHING), "bold")],
        [("lag        ", LABEL), (lag, PLAIN)],
        [("messages   ", LABEL), (f"{state.messages:,}", PLAIN)],
        [
            ("reconnects ", LABEL),
            (f"{link.reconnects}", PLAIN),
            ("  resyncs ", LABEL),
            (f"{state.resyncs}{reason}", "yellow" if state.resyncs else PLAIN),
        ],
        [("last end   ", LABEL), (link.closes[-1] if link.closes else NOTHING, PLAIN)],
    ]
    if state.duplicates:
        lines.append([("duplicates ", LABEL), (f"{state.duplicates} ignored", "red")])
    return lines


def message_facts(state: StreamState, lit: Mapping[str, bool]) -> list[Line]:
    """One indicator a message type: lit when it has just come, its count, its newest timestamp."""
    lines: list[Line] = []
    for kind in (*KNOWN_TYPES, *(each for each in state.tallies if each not in KNOWN_TYPES)):
        tally = state.tallies.get(kind, Tally())
        symbol = "♥" if kind == "heartbeat" else "●" if tally.count else "○"
        style = "bold bright_white" if lit.get(kind) else "green" if tally.count else QUIET
        last = clock(tally.timestamp)[:8] if tally.count else ""
        name_style = PLAIN if kind in KNOWN_TYPES else "italic"
        lines.append(
            [
                (f"{symbol} ", style),
                (f"{inert(kind, 16):<16}", name_style if tally.count else QUIET),
                (f"{tally.count:>7,}", "bold" if tally.count else QUIET),
                (f" {last}", QUIET),
            ]
        )
    return lines


def verdict_lines(state: StreamState) -> list[Line]:
    symbol, style = {
        Verdict.OPEN: ("…", QUIET),
        Verdict.VERIFIED: ("✓ verified", "bold green"),
        Verdict.MISMATCH: ("✗ mismatch", "bold red"),
        Verdict.UNVERIFIABLE: ("? not verifiable", "bold yellow"),
    }[state.verdict]
    lines: list[Line] = [[(f"{symbol}  ", style), (proof(state), PLAIN)]]
    if state.differences:
        lines.append([("press v to see them", QUIET)])
    if state.problems:
        count = f"{len(state.problems)} " + ("or more " * (len(state.problems) == PROBLEMS_KEPT))
        lines.append([(f"✗ protocol broken {count}times: ", "bold red")])
        lines.append([(state.problems[-1].text, "red")])
    return lines


def link_line(link: Link, now: float, paused: bool) -> Line:
    if paused:
        return [("‖ paused (the stream is still followed)", "bold yellow")]
    if link.phase == "live":
        return [("⇄ live", "bold green")]
    if link.phase == "waiting":
        remaining = max(link.waiting_until - now, 0)
        text = f"↺ reconnecting in {remaining:.1f} s (attempt {link.failures + 1})"
        return [(text, "bold yellow")]
    if link.phase == "ended":
        return [(f"■ {link.closes[-1] if link.closes else 'ended'}", "bold")]
    return [("↺ connecting", "bold yellow")]


# The screen.


def viewer_app(address: Address, options: Options) -> App[int]:
    """The Textual application; it returns the exit status.

    All that needs Textual is in here, so that --check starts without loading it.
    """
    from rich.segment import Segment
    from rich.style import Style
    from rich.text import Text
    from textual import events, on
    from textual.app import App, ComposeResult
    from textual.binding import Binding
    from textual.containers import Horizontal, Vertical, VerticalScroll
    from textual.geometry import Region, Size
    from textual.message import Message
    from textual.screen import ModalScreen
    from textual.scroll_view import ScrollView
    from textual.strip import Strip
    from textual.widgets import Footer, Static

    def text_of(lines: Sequence[Line]) -> Text:
        return Text("\n").join(Text.assemble(*line) for line in lines)

    class Graph(ScrollView, can_focus=True):
        """The execution's graph. Only the rows in sight are made, however many there are."""

        BINDINGS = [  # noqa: RUF012 (Textual's convention)
            Binding("up,k", "move(-1)", "up", key_display="↑"),
            Binding("down,j", "move(1)", "down", key_display="↓"),
            Binding("pageup", "page(-1)", show=False),
            Binding("pagedown", "page(1)", show=False),
            Binding("home,g", "move(-1000000000)", show=False),
            Binding("end,G", "move(1000000000)", show=False),
        ]

        class Selected(Message):
            pass

        def __init__(self) -> None:
            super().__init__(id="graph")
            self.shape: Shape | None = None
            self.rows: list[Row] = []
            self.nodes: list[int] = []
            self.places: dict[int, int] = {}
            self.names: dict[str, str] = {}
            self.activities: list[Json] = []
            self.document: Json = {}
            self.node = EXECUTION

        def show(self, state: StreamState) -> None:
            self.document = state.document or {}
            self.activities = state.activities
            shape = shape_of(self.activities)
            if shape != self.shape:
                self.shape = shape
                self.rows = layout(shape)
                self.nodes = [row.node for row in self.rows if row.node is not None]
                self.places = {node: index for index, node in enumerate(self.nodes)}
                self.names = {
                    str(each.get("activity_id")): str(each.get("activity_name"))
                    for each in self.activities
                }
                self.virtual_size = Size(1, len(self.rows))
                if self.node not in self.places:
                    self.node = EXECUTION
            self.refresh()

        def selected(self) -> Json:
            return self.document if self.node == EXECUTION else self.activities[self.node]

        def select(self, node: int) -> None:
            self.node = node
            row = next(index for index, row in enumerate(self.rows) if row.node == node)
            self.scroll_to_region(Region(0, row, 1, 1), animate=False)
            self.refresh()
            self.post_message(self.Selected())

        def action_move(self, by: int) -> None:
            if self.nodes:
                place = self.places[self.node] + by
                self.select(self.nodes[min(max(place, 0), len(self.nodes) - 1)])

        def action_page(self, direction: int) -> None:
            self.action_move(direction * max(self.size.height - 2, 1))

        def on_click(self, event: events.Click) -> None:
            offset = event.get_content_offset(self)
            row = offset.y + self.scroll_offset.y if offset is not None else -1
            if 0 <= row < len(self.rows) and (node := self.rows[row].node) is not None:
                self.select(node)

        def render_line(self, y: int) -> Strip:
            index = self.scroll_offset.y + y
            width = self.size.width
            if not self.document or index >= len(self.rows):
                return Strip.blank(width)
            row = self.rows[index]
            ground = "on grey23" if row.node == self.node and row.node is not None else ""
            left: Line = [(f" {row.lines}", QUIET)]
            right: Line = []
            if row.node is not None:
                item = self.document if row.node == EXECUTION else self.activities[row.node]
                waits_for = [self.names.get(each, each) for each in dependencies(item)]
                now = counted_to(self.document, time.time())
                node_left, right = node_lines(item, waits_for, now, width >= 60)
                left += node_left
            right_strip = strip_of([*right, (" ", PLAIN)], ground)
            room = max(width - right_strip.cell_length, 0)
            blank = Style.parse(ground)
            left_strip = strip_of(left, ground)
            if left_strip.cell_length > room > 0:
                left_strip = Strip.join(
                    [left_strip.crop(0, room - 1), strip_of([("…", QUIET)], ground)]
                )
            left_strip = left_strip.adjust_cell_length(room, blank)
            return Strip.join([left_strip, right_strip]).adjust_cell_length(width, blank)

    def strip_of(line: Line, ground: str) -> Strip:
        return Strip([Segment(text, Style.parse(f"{style} {ground}")) for text, style in line])

    class Differences(ModalScreen[None]):
        """The verification in full."""

        CSS = """
        Differences { align: center middle; }
        #sheet { width: 90%; height: 80%; border: round $accent; padding: 0 1; }
        """
        BINDINGS = [Binding("escape,v,q", "dismiss", "back")]  # noqa: RUF012

        def __init__(self, state: StreamState) -> None:
            super().__init__()
            self.state = state

        def compose(self) -> ComposeResult:
            lines = [*verdict_lines(self.state), []]
            for each in difference_lines(self.state.differences):
                ours = each.startswith("  folded")
                style = "red" if ours else "green" if each.startswith("  final") else "bold"
                lines.append([(each, style)])
            for problem in self.state.problems:
                lines += [[(f"{problem.kind}: {problem.text}", "red")]]
            with VerticalScroll(id="sheet") as sheet:
                sheet.border_title = "verification"
                yield Static(text_of(lines), markup=False)
            yield Footer(show_command_palette=False)

    class Viewer(App[int]):
        CSS = """
        #head, #run { height: auto; padding: 0 1; background: $panel; }
        #run { text-wrap: nowrap; text-overflow: ellipsis; }
        #graph { width: 1fr; border: round $surface-lighten-3; }
        #graph:focus { border: round $accent; }
        #side { width: 46; }
        #side > * { border: round $surface-lighten-3; padding: 0 1; height: auto; }
        #side > #details { height: 1fr; min-height: 3; }
        .-narrow #side { width: 38; }
        .-short #messages, .-short #stream { border: none; padding: 0 2; }
        """
        HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
        VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
        ENABLE_COMMAND_PALETTE = False
        BINDINGS = [  # noqa: RUF012
            Binding("q", "quit_viewer", "quit"),
            Binding("r", "reconnect", "reconnect"),
            Binding("v", "verification", "verification"),
            Binding("p", "pause", "pause"),
        ]

        def __init__(self) -> None:
            super().__init__()
            self.follower = Follower(address, options, on_message=self.note)
            self.ending: Ending | None = None
            self.paused = False
            self.shown: StreamState | None = None
            self.lit: dict[str, float] = {}
            self.drawn: dict[str, Text] = {}
            self.ticks = 0

        def compose(self) -> ComposeResult:
            yield Static(id="head", markup=False)
            yield Static(id="run", markup=False)
            with Horizontal():
                yield Graph()
                with Vertical(id="side"):
                    with VerticalScroll(id="details", can_focus=False):
                        yield Static(id="fields", markup=False)
                    yield Static(id="messages", markup=False)
                    yield Static(id="stream", markup=False)
                    yield Static(id="verdict", markup=False)
            yield Footer(show_command_palette=False)

        def on_mount(self) -> None:
            for name in ("details", "messages", "stream"):
                self.query_one(f"#{name}").border_title = name
            self.query_one("#verdict").border_title = "verification"
            self.query_one(Graph).focus()
            self.follow()
            self.set_interval(0.1, self.tick)

        def follow(self) -> None:
            self.run_worker(self.run_follower(), exclusive=True)

        async def run_follower(self) -> None:
            self.ending = None
            self.ending = await self.follower.run()

        def note(self, before: StreamState, after: StreamState, _: str | bytes) -> None:
            for kind, tally in after.tallies.items():
                if tally is not before.tallies.get(kind):
                    self.lit[kind] = time.time()

        def tick(self) -> None:
            """Draws what changed: messages may come faster than a screen can follow."""
            if not self.query(Graph):
                return  # the screen is being taken down
            self.ticks += 1
            now = time.time()
            state = self.follower.state
            if self.paused and self.shown is not None:
                state = self.shown
            graph = self.query_one(Graph)
            if state is not self.shown:
                if self.shown is None or state.document is not self.shown.document:
                    graph.show(state)
                self.shown = state
            elif self.ticks % 3 == 0 and state.final is None:
                graph.refresh()
            lit = {kind: now - at < 0.4 for kind, at in self.lit.items()}
            link = self.follower.link
            self.draw("head", self.head_lines(state, now))
            run = run_line(state.document or {})
            self.draw("run", [run])
            self.query_one("#run").display = bool(run)
            self.draw("messages", message_facts(state, lit))
            self.draw("stream", stream_facts(state, link, self.follower.received_at, now))
            self.draw("verdict", verdict_lines(state))
            self.draw_fields(now)

        def head_lines(self, state: StreamState, now: float) -> list[Line]:
            document = state.document or {}
            appearance = look(document.get("status"))
            status = inert(document.get("status", "no snapshot yet"), 30)
            title: Line = [
                (f"{inert(document.get('workflow_type') or 'execution', 60)} ", "bold"),
                (f"{inert(state.execution_id, 64)}   ", QUIET),
                (f"{appearance.symbol} {status}   ", appearance.style),
                *link_line(self.follower.link, now, self.paused),
            ]
            return [title, status_counts(state.activities)]

        def draw(self, name: str, lines: Sequence[Line]) -> None:
            text = text_of(lines)
            if self.drawn.get(name) != text:
                self.drawn[name] = text
                self.query_one(f"#{name}", Static).update(text)

        def draw_fields(self, now: float) -> None:
            graph = self.query_one(Graph)
            self.draw("fields", fields_of(graph.selected(), counted_to(graph.document, now)))

        @on(Graph.Selected)
        def show_selected(self) -> None:
            self.draw_fields(time.time())
            self.query_one("#details").scroll_home(animate=False)

        def action_reconnect(self) -> None:
            if self.ending is None:
                self.follower.reconnect()
            else:
                self.follow()

        def action_verification(self) -> None:
            self.push_screen(Differences(self.follower.state))

        def action_pause(self) -> None:
            self.paused = not self.paused

        def action_quit_viewer(self) -> None:
            self.exit(2 if self.ending is Ending.STOPPED else 0)

    return Viewer()


# The command.


def above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def attempts(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="the execution's WebSocket or REST address")
    parser.add_argument("--check", action="store_true", help="no screen: print, verify, exit")
    parser.add_argument(
        "--replay",
        default="0",
        metavar="none|0|EVENT_ID",
        help="where to begin: now, at the beginning (the default), or fold up to EVENT_ID, leave,"
        " and come back with it as cursor",
    )
    parser.add_argument("--timeout", type=above_zero, metavar="SECONDS", help="for --check")
    parser.add_argument(
        "--max-attempts",
        type=attempts,
        metavar="N",
        help="connections in a row that may bring nothing; 0: no limit (5 with --check, else 0)",
    )
    options = parser.parse_args(arguments)
    try:
        options.address = Address.of(options.address)
    except AddressError as error:
        parser.error(str(error))
    return options


# From the environment: arguments are shown to everyone on the machine.
CREDENTIALS = (
    ("NEXUS_TOKEN", "Authorization", "Token {}"),
    ("NEXUS_VIEWER_COOKIE", "Cookie", "{}"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    command = parsed(arguments)
    headers = {}
    for variable, header, form in CREDENTIALS:
        value = os.environ.get(variable, "")
        if not value.isprintable() or not value.isascii():
            print(f"{variable} holds characters that no header may hold", file=sys.stderr)
            return 2
        if value:
            headers[header] = form.format(value)
    address: Address = command.address
    if headers and address.url.startswith("ws://") and not address.is_local:
        print("Warning: your login travels unencrypted; use wss:// or https://", file=sys.stderr)
    limit = command.max_attempts
    options = Options(
        replay=None if command.replay == "none" else command.replay,
        max_attempts=limit if limit is not None else 5 if command.check else 0,
        strict=command.check,
        headers=headers,
    )
    try:
        if command.check:
            return check(address, options, command.timeout)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print("There is no terminal to draw on: use --check", file=sys.stderr)
            return 2
        return viewer_app(address, options).run() or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
