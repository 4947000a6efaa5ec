"""The Valkey of a run: a single one behind a proxy of faults, or nodes and their replicas."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.prove.plan import Topology
from tests.prove.proxy import ValkeyProxy
from tests.servers.valkey import ValkeyNode, ValkeyServer, valkey_running
from tests.servers.valkey_cluster import SHARDS, ValkeyCluster, cluster_running
from tests.servers.valkey_sentinel import sentinel_running

IMPATIENT: Final[dict[str, Any]] = {
    "decode_responses": True,
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "retry": Retry(NoBackoff(), 1),
}
"""For faults: a client that raises where Valkey does not answer."""


class SingleValkey:
    """One server; the product reaches it through `proxy`."""

    def __init__(self, server: ValkeyServer, proxy: ValkeyProxy, url: str) -> None:
        self.server = server
        self.proxy = proxy
        self.url = url
        self.client: Any = server.client
        self.impatient_client: Any = redis.Redis.from_url(server.url, **IMPATIENT)

    @property
    def process_ids(self) -> dict[str, int | None]:
        return {"valkey": self.server.process_id}


class ReplicatedValkey:
    """Nodes of which `shards` are primaries, and the others their replicas."""

    def __init__(
        self,
        nodes: Sequence[ValkeyNode],
        url: str,
        client_of_all: Callable[[], Any],
        cluster: ValkeyCluster | None = None,
    ) -> None:
        self.nodes = nodes
        self.url = url
        self.cluster = cluster
        self._client_of_all = client_of_all
        self._shards = 1 if cluster is None else SHARDS
        self._clients: dict[int, Any] = {
            node.port: redis.Redis(port=node.port, **IMPATIENT) for node in nodes
        }

    @property
    def process_ids(self) -> dict[str, int | None]:
        return {f"valkey-{number}": node.process_id for number, node in enumerate(self.nodes)}

    @property
    def client(self) -> Any:
        """Reads and writes every key; for when all is whole."""
        return self._client_of_all()

    @property
    def impatient_client(self) -> Any:
        return self.client

    def ask(self, node: ValkeyNode, *command: str | int) -> Any:
        """The node's answer; raises redis.RedisError where there is none."""
        return self._clients[node.port].execute_command(*command)

    def primaries(self) -> list[ValkeyNode]:
        """Those who say of themselves that they are, of those who answer."""
        return [node for node in self.nodes if self._role(node)[0] == "master"]

    def replicas(self) -> list[ValkeyNode]:
        return [node for node in self.nodes if self._role(node)[0] == "slave"]

    @property
    def has_all_primaries(self) -> bool:
        return len(self.primaries()) == self._shards

    @property
    def is_whole(self) -> bool:
        """Whether all answer, replicas follow their primaries, and a cluster serves all slots."""
        roles = [self._role(node) for node in self.nodes]
        following = sum(role[0] == "slave" and role[3] == "connected" for role in roles)
        return (
            self.has_all_primaries
            and following == len(self.nodes) - self._shards
            and (self.cluster is None or all(map(self._says_ok, self.nodes)))
        )

    def _role(self, node: ValkeyNode) -> list[Any]:
        try:
            role: list[Any] = self.ask(node, "ROLE")
        except redis.RedisError:
            return [""]
        return role

    def _says_ok(self, node: ValkeyNode) -> bool:
        try:
            return "cluster_state:ok" in self.ask(node, "CLUSTER", "INFO")
        except redis.RedisError:
            return False


@contextmanager
def valkey_set_up(directory: Path, topology: Topology) -> Iterator[SingleValkey | ReplicatedValkey]:
    """Run it until the block ends."""
    match topology:
        case Topology.SINGLE:
            with valkey_running(directory / "valkey") as server:
                path = directory / "proxy.sock"
                proxy = ValkeyProxy(path, server.socket)
                proxy.start()
                try:
                    yield SingleValkey(server, proxy, f"unix://{path}")
                finally:
                    proxy.stop()
        case Topology.CLUSTER:
            with cluster_running(directory / "valkey") as cluster:
                yield ReplicatedValkey(cluster.nodes, cluster.url, lambda: cluster.client, cluster)
        case Topology.FAILOVER:
            with sentinel_running(directory / "valkey") as watched:
                yield ReplicatedValkey(watched.servers, watched.url, lambda: watched.primary.client)
