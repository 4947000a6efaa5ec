"""A Valkey cluster of a test's own: three primaries with a replica each, on loopback ports.

    with cluster_running(directory) as cluster:      # whole after two to three seconds
        cluster.url                                  # what VALKEY_URL is to be
        cluster.client                               # redis-py's own client of the whole cluster
        node = cluster.owner(stream_key("an-id"))    # the primary that serves this key
        node.kill()                                  # its replica takes over, seconds later
        cluster.wait_until_whole()                   # every slot is served, replicas are in step
        node.start()                                 # back, empty, a replica of its successor

Nodes are killed, started and stopped as a single server is (`ValkeyProcess`). A primary that
is killed and started again before its replica takes over is back empty, and empties its replica.
Servers end with the thread that started them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot

from tests.servers.valkey import IMPATIENT_SECONDS, ValkeyNode, free_ports
from tests.waiting import wait_until

SHARDS: Final = 3
SLOTS: Final = 16384


class ValkeyCluster:
    """Six nodes: `nodes[:SHARDS]` begin as primaries, `nodes[SHARDS:]` as their replicas.

    A primary that answers nobody for `node_timeout_seconds` is replaced by its replica, one
    to two seconds later.
    """

    def __init__(self, directory: Path, node_timeout_seconds: float) -> None:
        found = free_ports(4 * SHARDS)
        ports, bus_ports = found[::2], found[1::2]
        self.nodes = [
            ValkeyNode(
                directory / f"node-{number}",
                port,
                [
                    *("--cluster-enabled", "yes", "--cluster-port", str(bus_ports[number])),
                    *("--cluster-node-timeout", str(int(node_timeout_seconds * 1000))),
                    *("--cluster-replica-validity-factor", "0"),
                    *("--repl-diskless-sync-delay", "0"),
                ],
            )
            for number, port in enumerate(ports)
        ]
        for number, node in enumerate(self.nodes):
            (node.directory / "nodes.conf").write_text(_told(number, ports, bus_ports))
        self.url = "redis+cluster://" + ",".join(node.address for node in self.nodes[:SHARDS])
        self._client: RedisCluster | None = None

    @property
    def client(self) -> RedisCluster:
        """A client of the whole cluster that waits a second for an answer; needs it to run."""
        if self._client is None:
            self._client = RedisCluster(
                startup_nodes=[ClusterNode("127.0.0.1", node.port) for node in self.nodes],
                decode_responses=True,
                socket_timeout=IMPATIENT_SECONDS,
                socket_connect_timeout=IMPATIENT_SECONDS,
                dynamic_startup_nodes=False,
            )
        return self._client

    def start(self) -> None:
        """Start whatever does not run, and wait until all is whole."""
        for node in self.nodes:
            node.ensure_running()
        self.wait_until_whole()

    def kill(self) -> None:
        """End all nodes at once, with everything they hold."""
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """End all nodes and connections."""
        if self._client is not None:
            self._client.close()
        for node in self.nodes:
            node.client.close()
        self.kill()

    def primaries(self) -> list[ValkeyNode]:
        """The nodes that serve slots and are not known to have failed."""
        return [node for node, fact in self._facts() if _serves(fact)]

    def owner(self, key: str) -> ValkeyNode:
        """The primary that serves the key's slot."""
        return self._owner_of(slot_of(key))

    def replica_of(self, primary: ValkeyNode) -> ValkeyNode:
        """The replica of this primary."""
        primary_id = self._id_of(primary)
        return next(node for node, fact in self._facts() if fact["master_id"] == primary_id)

    def fail_over(self, primary: ValkeyNode) -> ValkeyNode:
        """Have its replica take over from a healthy primary, which becomes its replica."""
        successor = self.replica_of(primary)
        successor.client.execute_command("CLUSTER", "FAILOVER")
        wait_until(lambda: successor in self.primaries() and primary not in self.primaries())
        self.wait_until_whole()
        return successor

    def begin_to_move(self, slot: int, target: ValkeyNode) -> None:
        """Announce the move: keys that the owner has no more are asked for at the target."""
        source = self._owner_of(slot)
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id_of(target))

    def move_keys(self, slot: int, target: ValkeyNode) -> None:
        """Take the slot's keys to the target."""
        source = self._owner_of(slot)
        keys: Any = source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        for key in keys:
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

    def finish_move(self, slot: int, target: ValkeyNode) -> None:
        """Have all nodes know that the target serves the slot."""
        for node in (target, *self.primaries()):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._id_of(target))
        self.wait_until_whole()

    def move_slot(self, slot: int, target: ValkeyNode) -> None:
        """Take a slot with its keys from its owner to the target, another primary."""
        self.begin_to_move(slot, target)
        self.move_keys(slot, target)
        self.finish_move(slot, target)

    def wait_until_whole(self) -> None:
        """Wait until all running nodes agree on who serves what, and replicas are in step."""
        wait_until(self._is_whole)

    def _is_whole(self) -> bool:
        views = set()
        try:
            for node in self._running():
                facts: Any = node.client.cluster("INFO")
                role: Any = node.client.info("replication")
                if (facts["cluster_state"], facts["cluster_slots_ok"]) != ("ok", str(SLOTS)):
                    return False
                if role["role"] == "slave" and role["master_link_status"] != "up":
                    return False
                table: Any = node.client.cluster("NODES")
                views.add(str(sorted((each, table[each]["slots"]) for each in table)))
        except redis.RedisError:
            return False
        return len(views) == 1

    def _running(self) -> list[ValkeyNode]:
        return [node for node in self.nodes if node.process_id is not None]

    def _facts(self) -> list[tuple[ValkeyNode, dict[str, Any]]]:
        """Each node with what the first that answers knows of it."""
        for teller in self._running():
            with suppress(redis.RedisError):
                table: Any = teller.client.cluster("NODES")
                return [(node, table[node.address]) for node in self.nodes if node.address in table]
        raise AssertionError("no node of the cluster answers")

    def _owner_of(self, slot: int) -> ValkeyNode:
        return next(
            node
            for node, fact in self._facts()
            if _serves(fact)
            and any(int(part[0]) <= slot <= int(part[-1]) for part in fact["slots"])
        )

    def _id_of(self, node: ValkeyNode) -> str:
        return _id(self.nodes.index(node))


def slot_of(key: str) -> int:
    """The slot that the key belongs to."""
    return key_slot(key.encode())


@contextmanager
def cluster_running(directory: Path, node_timeout_seconds: float = 1.5) -> Iterator[ValkeyCluster]:
    """Run a cluster that keeps its files in `directory` until the block ends."""
    cluster = ValkeyCluster(directory, node_timeout_seconds)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def _id(number: int) -> str:
    return f"{number + 1:040x}"


def _told(about: int, ports: list[int], bus_ports: list[int]) -> str:
    """The cluster as one of its nodes knows it: without introductions it is whole sooner."""
    lines = []
    for number, port in enumerate(ports):
        shard = number % SHARDS
        is_primary = number < SHARDS
        flags = ("myself," if number == about else "") + ("master" if is_primary else "slave")
        line = (
            f"{_id(number)} 127.0.0.1:{port}@{bus_ports[number]},,tls-port=0,"
            f"shard-id={_id(100 + shard)} {flags} {'-' if is_primary else _id(shard)} 0 0 "
            f"{shard + 1} connected"
        )
        if is_primary:
            line += f" {SLOTS * shard // SHARDS}-{SLOTS * (shard + 1) // SHARDS - 1}"
        lines.append(line)
    return "\n".join([*lines, f"vars currentEpoch {SHARDS} lastVoteEpoch 0\n"])


def _serves(fact: dict[str, Any]) -> bool:
    flags = fact["flags"].split(",")
    return "master" in flags and "fail" not in flags and bool(fact["slots"])
