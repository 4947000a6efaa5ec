"""What a proving run will do, from its seed: executions, writes, clients, faults. Pure.

The same seed and length give the same plan; how its parts interleave is the machine's.
All moments are seconds after the traffic's beginning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from random import Random
from typing import Final

from tests.prove.records import FaultKind, Habit

CLIENT_PROCESSES: Final = 2
ANONYMOUS: Final = "anonymous"
STRANGER: Final = "stranger"
REVOCABLE: Final = ("revocable-0", "revocable-1")

_CLOCK_SHIFTS_SECONDS: Final = (0.0, 0.0, -3.0, 4.0)
_WRITERS: Final = 3
_MOST_CLIENTS: Final = 240
_CLIENTS_PER_VIEWER: Final = 15
_CALM_SECONDS: Final = 6.0
_ARRIVING_SECONDS: Final = 2.5
_LONGEST_FAULT_SECONDS: Final = 3.5
_ABSENCE_SECONDS: Final = 9.5
"""Longer than the product may take to notice."""

_HABITS: Final = {
    Habit.STAYS: 40,
    Habit.VANISHES: 18,
    Habit.HERD: 16,
    Habit.STALLS: 11,
    Habit.OLD_CURSOR: 7,
    Habit.FOREIGN_CURSOR: 5,
    Habit.NEVER_READS: 3,
}
_LANES: Final = {
    FaultKind.WRITER_KILLED: "writers",
    FaultKind.WEB_KILLED: "webs",
    FaultKind.WEB_ENDED: "webs",
    FaultKind.VALKEY_KILLED: "valkey",
    FaultKind.VALKEY_EMPTIED: "valkey",
    FaultKind.VALKEY_STOPPED: "valkey",
    FaultKind.STREAM_TRIMMED: "valkey",
    FaultKind.VALKEY_CUT: "proxy",
    FaultKind.VALKEY_DELAYED: "proxy",
    FaultKind.VALKEY_HALVED: "proxy",
    FaultKind.DATABASE_LOCKED: "database",
    FaultKind.PRIMARY_KILLED: "valkey",
    FaultKind.REPLICA_KILLED: "valkey",
    FaultKind.NODE_STOPPED: "valkey",
    FaultKind.NODE_EMPTIED: "valkey",
    FaultKind.MAJORITY_LOST: "valkey",
    FaultKind.SLOTS_MOVED: "valkey",
}


class Topology(StrEnum):
    """Which Valkey the product stands on."""

    SINGLE = "single"
    CLUSTER = "cluster"
    """Primaries that share the slots, each with a replica."""
    FAILOVER = "failover"
    """A primary with a replica, and sentinels who promote it."""


_ANYWHERE: Final = (
    FaultKind.WRITER_KILLED,
    FaultKind.WEB_KILLED,
    FaultKind.WEB_ENDED,
)
_SINGLE: Final = (
    FaultKind.VALKEY_KILLED,
    FaultKind.VALKEY_EMPTIED,
    FaultKind.VALKEY_STOPPED,
    FaultKind.VALKEY_CUT,
    FaultKind.VALKEY_DELAYED,
    FaultKind.VALKEY_HALVED,
)
_REPLICATED: Final = (
    FaultKind.VALKEY_CUT,
    FaultKind.PRIMARY_KILLED,
    FaultKind.REPLICA_KILLED,
    FaultKind.NODE_STOPPED,
    FaultKind.NODE_EMPTIED,
)
_OF_DATA: Final = (FaultKind.STREAM_TRIMMED, FaultKind.DATABASE_LOCKED)

FAULTS: Final = {
    Topology.SINGLE: (*_ANYWHERE, *_SINGLE, *_OF_DATA),
    Topology.CLUSTER: (
        *_ANYWHERE,
        *_REPLICATED,
        FaultKind.MAJORITY_LOST,
        FaultKind.SLOTS_MOVED,
        *_OF_DATA,
    ),
    Topology.FAILOVER: (*_ANYWHERE, *_REPLICATED, *_OF_DATA),
}
"""What may go wrong with each; every kind comes once in every storm."""

_CYCLE_SECONDS: Final = {
    Topology.SINGLE: 40.0,
    Topology.CLUSTER: 60.0,
    # Sentinels take ten seconds to make a primary that returns a replica.
    Topology.FAILOVER: 60.0,
}
"""How far apart storms begin."""


@dataclass(frozen=True, slots=True)
class Life:
    """One execution; `secret` is in its document from its first event to its last."""

    execution_id: str
    secret: str
    begins_at: float
    ends_at: float | None
    """None: it is still open when the run ends."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Executions that follow one another; each begins when the one before it is to end."""

    lives: tuple[Life, ...]
    is_fat: bool
    """Whether its changes come large, and many at once."""

    def life_at(self, moment: float) -> Life:
        """The one that is to be open then."""
        return [life for life in self.lives if life.begins_at <= max(0.0, moment)][-1]

    def ended_at(self, moment: float) -> list[Life]:
        """The lives that are to have ended by then."""
        return [life for life in self.lives if life.ends_at is not None and life.ends_at <= moment]


@dataclass(frozen=True, slots=True)
class PlannedWriter:
    name: str
    clock_shift_seconds: float


@dataclass(frozen=True, slots=True)
class PlannedClient:
    """`process` is which of the client processes it lives in."""

    name: str
    caller: str
    habit: Habit
    slot: int
    process: int
    arrives_at: float


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """`choice` picks the victim, and the way, among those that there are."""

    at: float
    seconds: float
    kind: FaultKind
    choice: int

    @property
    def lane(self) -> str:
        """Faults of one lane never overlap."""
        return _LANES[self.kind]


@dataclass(frozen=True, slots=True)
class PlannedAbsence:
    """From `at`, the caller may view nothing, for so many seconds."""

    at: float
    seconds: float
    caller: str
    by_deactivating: bool
    """By deactivating the user, or by taking the permission away."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    topology: Topology
    seconds: float
    """Of traffic and faults; what follows is quiet."""
    changes_per_second: float
    slots: tuple[Slot, ...]
    writers: tuple[PlannedWriter, ...]
    clients: tuple[PlannedClient, ...]
    faults: tuple[PlannedFault, ...]
    herds_at: tuple[float, ...]
    """When those whose habit it is leave at once, to return at once."""
    absences: tuple[PlannedAbsence, ...]

    @property
    def lives(self) -> list[Life]:
        return [life for slot in self.slots for life in slot.lives]

    @property
    def callers(self) -> list[str]:
        return sorted({client.caller for client in self.clients})


class Deed(Enum):
    """What a write changes."""

    POINT = auto()
    ACTIVITY = auto()
    ADDED_ACTIVITY = auto()
    MANY_ACTIVITIES = auto()
    TWO_EXECUTIONS = auto()


class Undoing(Enum):
    """How a write is taken back after its change was made."""

    NONE = auto()
    RAISED_INSIDE = auto()
    RAISED_AFTER = auto()
    """The enclosing transaction is rolled back, with the event in it."""
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Act:
    """One write, after a pause; `slots` are two where two executions are changed at once."""

    pause_seconds: float
    slots: tuple[int, ...]
    deed: Deed
    undoing: Undoing


def plan_for(seed: int, seconds: float, topology: Topology = Topology.SINGLE) -> Plan:
    """The plan of a run with `seconds` of traffic; short runs have fewer clients and writes.

    Only the faults are others on another topology.
    """
    clients = min(_MOST_CLIENTS, int(50 + 1.5 * seconds))
    slots = _slots(seed, seconds, count=max(4, clients // 24))
    return Plan(
        seed=seed,
        topology=topology,
        seconds=seconds,
        changes_per_second=min(90.0, 40.0 + seconds / 2),
        slots=slots,
        writers=_writers(seed),
        clients=_clients(seed, clients, seconds, slots),
        faults=_faults(seed, seconds, topology),
        herds_at=_herds(seed, seconds),
        absences=_absences(seed, seconds),
    )


def acts(plan: Plan, writer: str, incarnation: int) -> Iterator[Act]:
    """What a writer does, without end; `incarnation` counts its starts."""
    random = Random(f"{plan.seed}:acts:{writer}:{incarnation}")
    mean_pause = len(plan.writers) / plan.changes_per_second
    fat = [number for number, slot in enumerate(plan.slots) if slot.is_fat]
    while True:
        if random.random() < 0.0025:
            # Together more than may wait for one connection, if nothing takes it meanwhile.
            slot = random.choice(fat)
            for _ in range(random.randint(8, 14)):
                yield Act(0.0, (slot,), Deed.MANY_ACTIVITIES, Undoing.NONE)
        elif random.random() < 0.01:
            slot = random.randrange(len(plan.slots))
            for _ in range(random.randint(10, 30)):
                yield Act(0.0, (slot,), Deed.ACTIVITY, _undoing(random))
        else:
            yield _single_act(random, plan, random.expovariate(1 / mean_pause))


def _single_act(random: Random, plan: Plan, pause_seconds: float) -> Act:
    deeds = (Deed.POINT, Deed.ACTIVITY, Deed.ADDED_ACTIVITY, Deed.TWO_EXECUTIONS)
    deed = random.choices(deeds, (4, 12, 1, 1))[0]
    count = 2 if deed is Deed.TWO_EXECUTIONS else 1
    slots = tuple(random.sample(range(len(plan.slots)), count))
    return Act(pause_seconds, slots, deed, _undoing(random))


def _undoing(random: Random) -> Undoing:
    kinds = (Undoing.NONE, Undoing.RAISED_INSIDE, Undoing.RAISED_AFTER, Undoing.REFUSED)
    return random.choices(kinds, (24, 1, 1, 1))[0]


def _slots(seed: int, seconds: float, count: int) -> tuple[Slot, ...]:
    random = Random(f"{seed}:slots")
    slots = []
    for number in range(count):
        begins: list[float] = [0.0]
        while True:
            length = random.uniform(0.2, 0.6) * min(100.0, seconds)
            if begins[-1] + length > seconds - 5:
                break
            begins.append(begins[-1] + length)
        # Half of the last ones end with the traffic, the others outlive it.
        last_end = seconds - 2 if number % 2 else None
        ends = [*begins[1:], last_end]
        lives = tuple(
            Life(f"prove-{seed}-{number}-{index}", f"secret-{random.getrandbits(64):016x}", *span)
            for index, span in enumerate(zip(begins, ends, strict=True))
        )
        slots.append(Slot(lives, is_fat=number == 0))
    return tuple(slots)


def _writers(seed: int) -> tuple[PlannedWriter, ...]:
    random = Random(f"{seed}:writers")
    shifts = [0.0, *random.sample(_CLOCK_SHIFTS_SECONDS[1:], _WRITERS - 1)]
    return tuple(PlannedWriter(f"writer-{number}", shift) for number, shift in enumerate(shifts))


def _clients(
    seed: int, count: int, seconds: float, slots: tuple[Slot, ...]
) -> tuple[PlannedClient, ...]:
    random = Random(f"{seed}:clients")
    habits = random.choices(list(_HABITS), list(_HABITS.values()), k=count - len(Habit))
    viewers = -(-count // _CLIENTS_PER_VIEWER)
    return tuple(
        PlannedClient(
            name=f"client-{number}",
            caller=_caller(random, number, viewers),
            habit=habit,
            slot=_slot_of(random, habit, slots),
            process=number % CLIENT_PROCESSES,
            arrives_at=random.uniform(0, _ARRIVING_SECONDS),
        )
        for number, habit in enumerate([*Habit, *habits])
    )


def _caller(random: Random, number: int, viewers: int) -> str:
    if number < len(Habit):
        return f"viewer-{number % viewers}"  # so that each habit has one who may view
    return {
        0: STRANGER,
        1: ANONYMOUS,
        2: REVOCABLE[0],
        3: REVOCABLE[1],
    }.get(number % 20, f"viewer-{random.randrange(viewers)}")


def _slot_of(random: Random, habit: Habit, slots: tuple[Slot, ...]) -> int:
    # Where changes are large, those who do not read are missed soonest.
    if habit in (Habit.STALLS, Habit.NEVER_READS) and random.random() < 0.6:
        return random.choice([number for number, slot in enumerate(slots) if slot.is_fat])
    return random.randrange(len(slots))


def _faults(seed: int, seconds: float, topology: Topology) -> tuple[PlannedFault, ...]:
    """Storms, each of one fault of every kind, with a calm before, between and after."""
    kinds = FAULTS[topology]
    random = Random(f"{seed}:faults")
    storms = max(1, int((seconds - _CALM_SECONDS) / _CYCLE_SECONDS[topology]))
    cycle = (seconds - _CALM_SECONDS) / storms
    gap = (cycle - _CALM_SECONDS) / len(kinds)
    return tuple(
        PlannedFault(
            at=_CALM_SECONDS + storm * cycle + gap * (place + random.random() * 0.9),
            seconds=random.uniform(0.3, min(_LONGEST_FAULT_SECONDS, 1.5 * gap)),
            kind=kind,
            choice=random.randrange(1000),
        )
        for storm in range(storms)
        for place, kind in enumerate(random.sample(kinds, len(kinds)))
    )


def _herds(seed: int, seconds: float) -> tuple[float, ...]:
    random = Random(f"{seed}:herds")
    count = max(1, int(seconds / 20))
    length = seconds / (count + 1)
    return tuple(length * (index + random.uniform(-0.4, 0.4)) for index in range(1, count + 1))


def _absences(seed: int, seconds: float) -> tuple[PlannedAbsence, ...]:
    random = Random(f"{seed}:absences")
    rounds = max(1, int((seconds - 8) / 25))
    length = (seconds - 8) / rounds
    return tuple(
        PlannedAbsence(
            at=4 + length * (index + random.uniform(0, 0.2)),
            seconds=_ABSENCE_SECONDS,
            caller=caller,
            by_deactivating=bool((index + number) % 2),
        )
        for number, caller in enumerate(REVOCABLE)
        for index in range(rounds)
    )
