"""What befalls Valkeys that replicate one another: a cluster's nodes, or a primary and its replica.

Each of these faults is over when all is whole again.
"""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Final

import redis

from tests.prove.lanes import BETWEEN_LOOKS_SECONDS, Steps
from tests.prove.plan import PlannedFault
from tests.prove.records import FaultKind
from tests.prove.stage import Stage, StageError
from tests.prove.valkeys import ReplicatedValkey
from tests.servers.valkey_cluster import slot_of

WHOLE_SECONDS: Final = 45.0
MAJORITY_LOST_SECONDS: Final = 4.0
"""Longer than a node waits for others before it says that the cluster is down."""

MOVED_OF: Final = 3
"""Of so many streams, one has its slot moved."""

_TYPES: Final = ("normal", "pubsub")
"""Of the connections that the product has; replicas' are left."""


def _nodes(stage: Stage) -> ReplicatedValkey:
    assert isinstance(stage.valkey, ReplicatedValkey)
    return stage.valkey


def _until(condition: Callable[[], bool], what: str) -> Generator[float, None, None]:
    deadline = time.monotonic() + WHOLE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise StageError(f"{what} not within {WHOLE_SECONDS:.0f} s")
        yield BETWEEN_LOOKS_SECONDS


def _until_whole(valkey: ReplicatedValkey) -> Generator[float, None, None]:
    yield from _until(lambda: valkey.is_whole, "all Valkey nodes are whole again")


def _primary_killed(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    yield from _until_whole(valkey)
    primaries = valkey.primaries()
    victim = primaries[fault.choice % len(primaries)]
    began = time.monotonic()
    victim.kill()
    yield from _until(lambda: valkey.has_all_primaries, "a replica has been promoted")
    promoted_after = time.monotonic() - began
    yield fault.seconds
    victim.start()
    yield from _until_whole(valkey)
    return (
        f"{victim.address}, replaced after {promoted_after:.1f} s, "
        f"its replica's replica after {time.monotonic() - began:.1f} s"
    )


def _replica_killed(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    yield from _until_whole(valkey)
    primaries, replicas = valkey.primaries(), valkey.replicas()
    victim = replicas[fault.choice % len(replicas)]
    victim.kill()
    yield fault.seconds
    victim.start()
    if valkey.cluster is None:
        # As it would know from its configuration: sentinels take ten seconds to tell it.
        valkey.ask(victim, "REPLICAOF", "127.0.0.1", primaries[0].port)
    yield from _until_whole(valkey)
    return f"{victim.address}, for {fault.seconds:.1f} s"


def _node_stopped(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    yield from _until_whole(valkey)
    primaries = valkey.primaries()
    victim = valkey.nodes[fault.choice % len(valkey.nodes)]
    with victim.stopped():
        yield fault.seconds
    yield from _until_whole(valkey)
    what = "a primary" if victim in primaries else "a replica"
    replaced = ", replaced" if victim in primaries and victim not in valkey.primaries() else ""
    return f"{what} for {fault.seconds:.1f} s{replaced}"


def _node_emptied(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    yield from _until_whole(valkey)
    primaries = valkey.primaries()
    victim = primaries[fault.choice % len(primaries)]
    keys = valkey.ask(victim, "DBSIZE")
    valkey.ask(victim, "FLUSHALL")
    return f"of {keys} keys"


def _majority_lost(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    yield from _until_whole(valkey)
    primaries = valkey.primaries()
    left = fault.choice % len(primaries)
    seconds = MAJORITY_LOST_SECONDS + fault.seconds
    with ExitStack() as stopped:
        for number, primary in enumerate(primaries):
            if number != left:
                stopped.enter_context(primary.stopped())
        yield seconds
    yield from _until_whole(valkey)
    return f"{len(primaries) - 1} of {len(primaries)} primaries stopped for {seconds:.1f} s"


def _slots_moved(stage: Stage, fault: PlannedFault) -> Steps:
    from streaming.stream import stream_key

    valkey = _nodes(stage)
    cluster = valkey.cluster
    assert cluster is not None
    yield from _until_whole(valkey)
    lives = stage.plan.lives[fault.choice % MOVED_OF :: MOVED_OF]
    for life in lives:
        key = stream_key(life.execution_id)
        owner = cluster.owner(key)
        target = next(node for node in valkey.primaries() if node is not owner)
        cluster.begin_to_move(slot_of(key), target)
        yield fault.seconds / len(lives) / 2
        cluster.move_keys(slot_of(key), target)
        yield fault.seconds / len(lives) / 2
        cluster.finish_move(slot_of(key), target)
    return f"of {len(lives)} streams"


def _connections_cut(stage: Stage, fault: PlannedFault) -> Steps:
    valkey = _nodes(stage)
    connections = 0
    for node in valkey.nodes:
        for kind in _TYPES:
            try:
                connections += valkey.ask(node, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            except redis.RedisError:
                break  # another fault has it
    yield 0.0
    return f"{connections} connections"


NODE_FAULTS: Final[dict[FaultKind, Callable[[Stage, PlannedFault], Steps]]] = {
    FaultKind.VALKEY_CUT: _connections_cut,
    FaultKind.PRIMARY_KILLED: _primary_killed,
    FaultKind.REPLICA_KILLED: _replica_killed,
    FaultKind.NODE_STOPPED: _node_stopped,
    FaultKind.NODE_EMPTIED: _node_emptied,
    FaultKind.MAJORITY_LOST: _majority_lost,
    FaultKind.SLOTS_MOVED: _slots_moved,
}
