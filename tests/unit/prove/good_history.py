"""A run in which every promise was kept, made by hand: what tests alter, one thing at a time.

Two executions: `one` is finished by event 5, `two` is open at event 4. Moments are seconds
since the beginning.
"""

import json
from collections.abc import Iterable
from typing import Final

from tests.prove.records import (
    Access,
    Connection,
    Fault,
    FaultKind,
    Habit,
    JsonObject,
    Outcome,
    Reading,
    Records,
    Sample,
    Write,
)

MIB: Final = 1024 * 1024
FOREIGN: Final = "1700000000000-3"


def event_id(sequence: int) -> str:
    return f"{1_800_000_000_000 + 1_000 * sequence}-{sequence}"


def marker(execution_id: str, sequence: int) -> str:
    return f"mark-{execution_id}-{sequence}"


def secret(execution_id: str) -> str:
    return f"secret-of-{execution_id}"


def document(execution_id: str, sequence: int) -> JsonObject:
    """The document at this event."""
    return {
        "execution_id": execution_id,
        "workflow_id": secret(execution_id),
        "status": "completed" if execution_id == "one" and sequence >= 4 else "running",
        "activities": [
            {"activity_id": f"step-{n}", "run_id": marker(execution_id, n)}
            for n in range(1, min(sequence, 4) + 1)
        ],
    }


def text(kind: str, execution_id: str, sequence: int, **content: object) -> str:
    said = {"type": kind, "execution_id": execution_id, "event_id": event_id(sequence)}
    return json.dumps({**said, "timestamp": "2026-01-02T03:04:05.000Z", **content})


def snapshot(execution_id: str, sequence: int, reason: str | None = None) -> str:
    resync = {} if reason is None else {"resync": {"reason": reason}}
    shown = document(execution_id, sequence)
    return text("initial_snapshot", execution_id, sequence, execution=shown, **resync)


def patch(execution_id: str, sequence: int) -> str:
    before, after = document(execution_id, sequence - 1), document(execution_id, sequence)
    ops = [
        {"op": "add", "path": f"/activities/{sequence - 1}", "value": after["activities"][-1]},
    ]
    if before["status"] != after["status"]:
        ops.append({"op": "replace", "path": "/status", "value": after["status"]})
    return text("activity_patch", execution_id, sequence, ops=ops)


def event(execution_id: str, sequence: int) -> str:
    """The text of this event, as the log holds it."""
    if sequence == 0:
        return snapshot(execution_id, 0)
    if sequence == 5:
        return text("final_snapshot", execution_id, 5, execution=document(execution_id, 5))
    return patch(execution_id, sequence)


def heartbeat(sequence: int | None) -> str:
    claim = {} if sequence is None else {"event_id": event_id(sequence)}
    return json.dumps({"type": "heartbeat", "timestamp": "2026-01-02T03:04:05.000Z", **claim})


def log(execution_id: str) -> list[tuple[str, str]]:
    length = 6 if execution_id == "one" else 5
    return [(event_id(n), event(execution_id, n)) for n in range(length)]


def committed_at(execution_id: str, sequence: int) -> float:
    """When the writer knew of the commit; the last event of `two` comes apart from all faults."""
    return 24.0 if (execution_id, sequence) == ("two", 4) else 10.0 + sequence


def live(execution_id: str, sequences: Iterable[int]) -> list[tuple[float, str]]:
    """Events as they are read when they are committed."""
    return [(committed_at(execution_id, n) + 0.1, event(execution_id, n)) for n in sequences]


def last_of_two(since: float) -> list[tuple[float, str]]:
    """What is read of `two` from a moment between its last two events on: to the run's end."""
    last = live("two", (4,))
    return [*heartbeats(since, 23.9, 3), *last, *heartbeats(24.1, 40.0, 4)]


def heartbeats(since: float, until: float, sequence: int) -> list[tuple[float, str]]:
    """One every two seconds."""
    number = int((until - since) / 2)
    return [(since + 2 * n, heartbeat(sequence)) for n in range(1, number + 1)]


def watching(client: str, execution_id: str, replay: str | None, **given: object) -> Connection:
    """A connection from 9 on, of a caller who may view both, until the run's end."""
    facts: dict[str, object] = {
        "caller": "olga",
        "habit": Habit.STAYS,
        "web": "web-0",
        "asked_at": 9.0,
        "opened_at": 9.1,
        **given,
    }
    return Connection(client=client, execution_id=execution_id, replay=replay, **facts)  # type: ignore[arg-type]


def closed(connection: Connection, at: float, code: int | None, reason: str = "") -> Connection:
    """Closed by the server; refusals have one reason for all."""
    if not reason and code in (4401, 4404):
        reason = "none for you"
    connection.ended_at, connection.close_code, connection.close_reason = at, code, reason
    return connection


def left(connection: Connection, at: float) -> Connection:
    connection.ended_at, connection.left_by_client = at, True
    return connection


def good_connections() -> list[Connection]:
    """One of each kind."""
    stays = watching("stays", "one", None, asked_at=11.0, opened_at=11.0)
    stays.frames = [(11.1, snapshot("one", 0)), *live("one", range(1, 6))]
    vanishes = watching("vanishes", "one", "0", asked_at=11.0, opened_at=11.0)
    vanishes.frames = [(11.1, event("one", 0)), *live("one", (1, 2))]
    returns = watching("vanishes", "one", event_id(2), asked_at=12.5, opened_at=12.6)
    returns.frames = live("one", (3, 4, 5))
    late = watching("late", "one", None, asked_at=30.0, opened_at=30.1)
    late.frames = [(30.2, snapshot("one", 4)), (30.2, event("one", 5))]
    done = watching("done", "one", event_id(5), asked_at=31.0, opened_at=31.1)
    open_ = watching("open", "two", "0")
    open_.frames = [*live("two", range(4)), *last_of_two(13.1), (39.9, heartbeat(None))]
    old = watching("old", "two", event_id(1), habit=Habit.OLD_CURSOR, asked_at=32.0, opened_at=32.1)
    old.frames = [(32.2, event("two", n)) for n in (2, 3, 4)] + heartbeats(32.2, 40.0, 4)
    foreign = watching("foreign", "two", FOREIGN, habit=Habit.FOREIGN_CURSOR)
    foreign.frames = [(10.2, snapshot("two", 0, "unknown")), *live("two", (1, 2, 3))]
    foreign.frames += last_of_two(13.1)
    stalls = watching("stalls", "two", "0", habit=Habit.STALLS, not_reading=[(11.5, 20.0)])
    stalls.frames = [*live("two", (0, 1)), (20.1, snapshot("two", 3, "slow")), *last_of_two(20.1)]
    never = watching("never", "two", None, habit=Habit.NEVER_READS, not_reading=[(9.1, 40.0)])
    revoked = watching("revoked", "two", "0", caller="rita")
    revoked.frames = [*live("two", range(4)), *heartbeats(13.1, 22.0, 3)]
    forbidden = watching("forbidden", "two", None, caller="paul")
    missing = watching("missing", "three", None, caller="paul")
    # killed with its web process, and met one that was not there yet
    killed = watching("killed", "two", "0", web="web-1")
    killed.frames = live("two", (0, 1))
    refused = watching("killed", "two", event_id(1), web="web-1", asked_at=12.0, opened_at=None)
    returned = watching("killed", "two", event_id(1), asked_at=14.0, opened_at=14.1)
    returned.frames = [(14.2, event("two", n)) for n in (2, 3)] + last_of_two(14.2)
    return [
        closed(stays, 15.2, 1000),
        left(vanishes, 12.3),
        closed(returns, 15.2, 1000),
        closed(late, 30.3, 1000),
        closed(done, 31.2, 1000),
        left(open_, 40.0),
        left(old, 40.0),
        left(foreign, 40.0),
        left(stalls, 40.0),
        left(never, 40.0),
        closed(revoked, 24.0, 4404),
        closed(forbidden, 9.2, 4404),
        closed(missing, 9.2, 4404),
        closed(killed, 11.5, None),
        closed(refused, 12.1, None),
        left(returned, 40.0),
    ]


def good_writes() -> list[Write]:
    events = [("one", n) for n in range(1, 5)] + [("two", n) for n in range(1, 5)]
    committed = [
        Write(told - 0.1, "writer-0", name, marker(name, n), Outcome.COMMITTED, told)
        for name, n in events
        for told in (committed_at(name, n),)
    ]
    return [
        *committed,
        Write(14.5, "writer-0", "two", marker("two", 41), Outcome.ROLLED_BACK, 14.6),
        Write(14.7, "writer-1", "two", marker("two", 42), Outcome.UNKNOWN, None),
    ]


def good_records() -> Records:
    """The whole run: it settled at 25 and ended at 40."""
    return Records(
        seed=1,
        heartbeat_seconds=2.0,
        began_at=0.0,
        settled_at=25.0,
        ended_at=40.0,
        writes=good_writes(),
        faults=[
            Fault(11.4, 11.9, FaultKind.WEB_KILLED, "web-1"),
            Fault(12.0, 12.1, FaultKind.STREAM_TRIMMED, "two"),
        ],
        access=[
            Access(-30.0, "olga", may_view=True),
            Access(-30.0, "rita", may_view=True),
            Access(-30.0, "paul", may_view=True, execution_ids=frozenset({"one"})),
            Access(22.0, "rita", may_view=False),
        ],
        connections=good_connections(),
        readings=[
            Reading(12.5, "olga", "two", 200, event_id(2), document("two", 2)),
            Reading(39.0, "olga", "two", 200, event_id(4), document("two", 4)),
            Reading(39.0, "olga", "one", 200, event_id(5), document("one", 5)),
            Reading(39.0, "paul", "two", 404, None, None),
            Reading(39.0, "paul", "three", 404, None, None),
        ],
        samples=[
            Sample(float(at), web, 100 * MIB + at * 1024)
            for web in ("web-0", "web-1")
            for at in range(0, 40, 2)
        ],
        secrets={name: secret(name) for name in ("one", "two")},
        logs={name: log(name) for name in ("one", "two")},
        documents={
            "one": (event_id(5), document("one", 5)),
            "two": (event_id(4), document("two", 4)),
        },
        streams={"one": log("one"), "two": log("two")[2:]},
    )


def connection_of(records: Records, client: str, number: int = 0) -> Connection:
    """A client's connection, by the number of its coming."""
    return [each for each in records.connections if each.client == client][number]
