"""Doing to the product what the plan says, and recording when.

A fault is a generator of steps; when it returns, its cause is gone. Faults of one lane follow
one another, those of different lanes overlap. What befalls Valkeys that replicate one another is
in `node_faults`.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

import redis

from tests.prove.lanes import BETWEEN_LOOKS_SECONDS, Lane, Steps
from tests.prove.node_faults import NODE_FAULTS
from tests.prove.plan import Life, Plan, PlannedAbsence, PlannedFault, Topology
from tests.prove.records import Access, Fault, FaultKind
from tests.prove.stage import Stage, StageError, Web
from tests.prove.valkeys import SingleValkey

if TYPE_CHECKING:
    import psycopg

LOCKING_SECONDS: Final = 5.0
DELAYS_SECONDS: Final = (0.02, 0.2, 1.2)
"""The longest is longer than a writer waits for a reply."""

HALVED_REPLIES: Final = 8
HALVING_SECONDS: Final = 3.0
HOLDS_SECONDS: Final = (0.0, 1.5)
TRIMMING_SECONDS: Final = 5.0
TRIMMED_OF: Final = 3
"""Of so many streams, one is trimmed."""

LEFT_ENTRIES: Final = (0, 1, 5)
"""Of a trimmed stream."""

ENDING_SECONDS: Final = 45.0
RIGHTS_SECONDS: Final = 60.0


class Lanes:
    """Runs the plan's faults and absences when they are due, each lane one after another."""

    def __init__(self, stage: Stage, plan: Plan, began_at: float) -> None:
        self._stage = stage
        self._began_at = began_at
        self._lanes: dict[str, Lane] = {}
        self.counts: dict[FaultKind, int] = dict.fromkeys(FaultKind, 0)
        self.latest = ""
        for fault in plan.faults:
            self._lane(fault.lane).waiting.append((fault.at, self._recorded(fault)))
        for absence in plan.absences:
            lane = self._lane(absence.caller)
            lane.waiting.append((absence.at, _absent(stage, absence)))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is at work, and nothing waits."""
        return all(lane.is_idle for lane in self._lanes.values())

    def go_on(self) -> None:
        """Do what is due."""
        for lane in self._lanes.values():
            lane.go_on(self._began_at)

    def _lane(self, name: str) -> Lane:
        return self._lanes.setdefault(name, Lane())

    def _recorded(self, fault: PlannedFault) -> Steps:
        began = time.monotonic()
        self.latest = fault.kind.value
        faults = _FAULTS if self._stage.plan.topology is Topology.SINGLE else _FAULTS | NODE_FAULTS
        what = yield from faults[fault.kind](self._stage, fault)
        if what:
            self.counts[fault.kind] += 1
            self._stage.recorder.add(Fault(began, time.monotonic(), fault.kind, what))
        return what


def _writer_killed(stage: Stage, fault: PlannedFault) -> Steps:
    writer = stage.writers[fault.choice % len(stage.writers)]
    writer.kill()
    yield fault.seconds
    stage.start_writer(writer)
    return writer.name


def _web_killed(stage: Stage, fault: PlannedFault) -> Steps:
    web = stage.webs[fault.choice % len(stage.webs)]
    web.kill()
    yield fault.seconds
    yield from _until_it_serves(web)
    return web.name


def _web_ended(stage: Stage, fault: PlannedFault) -> Steps:
    web = stage.webs[fault.choice % len(stage.webs)]
    began = time.monotonic()
    with web.ending():
        while not web.has_ended:
            if time.monotonic() > began + ENDING_SECONDS:
                raise StageError(f"{web.name} does not end within {ENDING_SECONDS:.0f} s")
            yield BETWEEN_LOOKS_SECONDS
    seconds = time.monotonic() - began
    yield from _until_it_serves(web)
    return f"{web.name}, which took {seconds:.1f} s"


def _until_it_serves(web: Web) -> Generator[float, None, None]:
    web.serve()
    while not web.listens and web.exit_status is None:
        yield BETWEEN_LOOKS_SECONDS


def _single(stage: Stage) -> SingleValkey:
    assert isinstance(stage.valkey, SingleValkey)
    return stage.valkey


def _valkey_killed(stage: Stage, fault: PlannedFault) -> Steps:
    server = _single(stage).server
    server.kill()
    yield fault.seconds
    server.start()
    return f"away for {fault.seconds:.1f} s"


def _valkey_emptied(stage: Stage, fault: PlannedFault) -> Steps:
    client = _single(stage).impatient_client
    keys = client.dbsize()
    client.flushall()
    yield 0.0
    return f"of {keys} keys"


def _valkey_stopped(stage: Stage, fault: PlannedFault) -> Steps:
    with _single(stage).server.stopped():
        yield fault.seconds
    return f"for {fault.seconds:.1f} s"


def _valkey_cut(stage: Stage, fault: PlannedFault) -> Steps:
    proxy = _single(stage).proxy
    connections = proxy.connections
    proxy.cut()
    yield fault.seconds
    if fault.choice % 2:
        proxy.cut()
    return f"{connections} connections"


def _valkey_delayed(stage: Stage, fault: PlannedFault) -> Steps:
    delay = DELAYS_SECONDS[fault.choice % len(DELAYS_SECONDS)]
    proxy = _single(stage).proxy
    proxy.delay(delay)
    yield fault.seconds
    proxy.delay(0.0)
    return f"by {delay} s for {fault.seconds:.1f} s"


def _valkey_halved(stage: Stage, fault: PlannedFault) -> Steps:
    hold = HOLDS_SECONDS[fault.choice % len(HOLDS_SECONDS)]
    proxy = _single(stage).proxy
    proxy.halve(HALVED_REPLIES, hold)
    deadline = time.monotonic() + max(fault.seconds, HALVING_SECONDS)
    while proxy.replies_to_halve and time.monotonic() < deadline:
        yield BETWEEN_LOOKS_SECONDS
    halved = HALVED_REPLIES - proxy.replies_to_halve
    proxy.halve(0, hold)
    yield hold
    return f"{halved} replies, the other halves held for {hold} s" if halved else ""


def _stream_trimmed(stage: Stage, fault: PlannedFault) -> Steps:
    left = LEFT_ENTRIES[fault.choice % len(LEFT_ENTRIES)]
    deadline = time.monotonic() + TRIMMING_SECONDS
    # After another fault there may be nothing to trim yet.
    lives = stage.plan.lives[fault.choice % TRIMMED_OF :: TRIMMED_OF]
    while not (trimmed := _trim(stage, lives, left)) and time.monotonic() < deadline:
        yield BETWEEN_LOOKS_SECONDS
    return f"{trimmed} entries, to {left} a stream" if trimmed else ""


def _trim(stage: Stage, lives: list[Life], left: int) -> int:
    """How many entries went."""
    from streaming.stream import stream_key

    trimmed = 0
    try:
        for life in lives:
            trimmed += stage.valkey.impatient_client.xtrim(
                stream_key(life.execution_id), maxlen=left, approximate=False
            )
    except redis.RedisError:
        pass  # what went before Valkey did counts
    return trimmed


def _database_locked(stage: Stage, fault: PlannedFault) -> Steps:
    from django.db import connection

    ways: list[Callable[[Stage, float], Steps]] = (
        [_sqlite_locked]
        if connection.vendor == "sqlite"
        else [_postgresql_locked, _postgresql_refusing]
    )
    return (yield from ways[fault.choice % len(ways)](stage, fault.seconds))


def _sqlite_locked(stage: Stage, seconds: float) -> Steps:
    from django.conf import settings

    path = settings.DATABASES["default"]["NAME"]
    database = sqlite3.connect(path, timeout=LOCKING_SECONDS, isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        yield seconds
        database.execute("ROLLBACK")
    finally:
        database.close()
    return f"an exclusive transaction of {seconds:.1f} s"


def _postgresql_locked(stage: Stage, seconds: float) -> Steps:
    with _postgresql(stage, "nexus") as database:
        database.execute("BEGIN")
        database.execute(f"SET LOCAL lock_timeout = '{LOCKING_SECONDS:.0f}s'")
        database.execute("LOCK TABLE executions_execution, executions_event")
        yield seconds
        database.execute("ROLLBACK")
    return f"two tables locked for {seconds:.1f} s"


def _postgresql_refusing(stage: Stage, seconds: float) -> Steps:
    with _postgresql(stage, "postgres") as database:
        database.execute("ALTER DATABASE nexus ALLOW_CONNECTIONS false")
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'nexus'"
        )
        yield seconds
        database.execute("ALTER DATABASE nexus ALLOW_CONNECTIONS true")
    return f"all connections ended, and refused for {seconds:.1f} s"


def _postgresql(stage: Stage, name: str) -> "psycopg.Connection[tuple[object, ...]]":
    import psycopg

    address = f"postgresql://nexus@/{name}?host={stage.directory / 'postgresql'}"
    return psycopg.connect(address, autocommit=True)


def _absent(stage: Stage, absence: PlannedAbsence) -> Steps:
    """Take the caller's right away, and give it back."""
    for may_view in (False, True):
        # Other faults may hold this up, and are to go on meanwhile.
        thread = threading.Thread(target=_set_right, args=(stage, absence, may_view), daemon=True)
        thread.start()
        while thread.is_alive():
            yield BETWEEN_LOOKS_SECONDS
        if not may_view:
            yield absence.seconds
    return absence.caller


def _set_right(stage: Stage, absence: PlannedAbsence, may_view: bool) -> None:
    """Try until the database takes it."""
    from django.db import Error as DatabaseError
    from django.db import connection

    deadline = time.monotonic() + RIGHTS_SECONDS
    while True:
        try:
            began = _try_to_set_right(absence, may_view=may_view)
        except DatabaseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BETWEEN_LOOKS_SECONDS)
        else:
            stage.recorder.add(Access(began, absence.caller, may_view))
            return
        finally:
            connection.close()


def _try_to_set_right(absence: PlannedAbsence, *, may_view: bool) -> float:
    """The moment just before it was done."""
    from django.contrib.auth.models import Permission, User
    from django.db import transaction

    view = Permission.objects.get(codename="view_execution")
    with transaction.atomic():
        user = User.objects.select_for_update().get(username=absence.caller)
        # Only here: a lock may have been waited for.
        began = time.monotonic()
        if absence.by_deactivating:
            user.is_active = may_view
            user.save(update_fields=["is_active"])
        elif may_view:
            user.user_permissions.add(view)
        else:
            user.user_permissions.remove(view)
    return began


_FAULTS: Final[dict[FaultKind, Callable[[Stage, PlannedFault], Steps]]] = {
    FaultKind.WRITER_KILLED: _writer_killed,
    FaultKind.WEB_KILLED: _web_killed,
    FaultKind.WEB_ENDED: _web_ended,
    FaultKind.VALKEY_KILLED: _valkey_killed,
    FaultKind.VALKEY_EMPTIED: _valkey_emptied,
    FaultKind.VALKEY_STOPPED: _valkey_stopped,
    FaultKind.VALKEY_CUT: _valkey_cut,
    FaultKind.VALKEY_DELAYED: _valkey_delayed,
    FaultKind.VALKEY_HALVED: _valkey_halved,
    FaultKind.STREAM_TRIMMED: _stream_trimmed,
    FaultKind.DATABASE_LOCKED: _database_locked,
}
