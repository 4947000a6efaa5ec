"""A primary and a replica with failover by three sentinels, of a test's own, on loopback ports.

    with sentinel_running(directory) as valkey:      # ready after about a second
        valkey.url                                   # what VALKEY_URL is to be
        valkey.primary, valkey.replica               # as the sentinels see it at this moment
        old = valkey.primary
        old.kill()
        valkey.wait_for_another_primary_than(old)    # two to four seconds
        old.start()                                  # back, empty; for ten seconds a primary that
        valkey.wait_until_replica(old)               # nobody is sent to, then a replica
        valkey.sentinels[0].kill()                   # sentinels are processes, too

Servers are killed, started and stopped as a single one is (`ValkeyProcess`). They end with
the thread that started them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from tests.servers.valkey import ValkeyNode, free_ports
from tests.waiting import wait_until

SERVICE: Final = "nexus"
SENTINELS: Final = 3


class ValkeySentinel:
    """Two servers and the sentinels that watch over them.

    A primary that answers nobody for `down_after_seconds` is replaced about a second later.
    """

    def __init__(self, directory: Path, down_after_seconds: float) -> None:
        ports = free_ports(2 + SENTINELS)
        self.servers = [
            ValkeyNode(
                directory / f"server-{number}", ports[number], ["--repl-diskless-sync-delay", "0"]
            )
            for number in range(2)
        ]
        self.sentinels = [
            _sentinel(directory / f"sentinel-{number}", number, ports, down_after_seconds)
            for number in range(SENTINELS)
        ]
        addresses = ",".join(sentinel.address for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{addresses}/{SERVICE}"

    def start(self) -> None:
        """Start whatever does not run, and wait until the replica is in step."""
        for process in (*self.servers, *self.sentinels):
            process.ensure_running()
        # One that was away may name a former primary until the others tell it.
        wait_until(lambda: len(self._named()) == 1)
        self.make_replica(self.replica)

    def kill(self) -> None:
        """End both servers at once, with everything they hold; the sentinels stay."""
        for server in self.servers:
            server.kill()

    def close(self) -> None:
        """End all servers, sentinels and connections."""
        for process in (*self.sentinels, *self.servers):
            process.client.close()
            process.kill()

    @property
    def primary(self) -> ValkeyNode:
        """The server that a running sentinel names."""
        port = self._primary_port()
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> ValkeyNode:
        """The other one, whether it runs or not."""
        return self._other(self.primary)

    def fail_over(self) -> None:
        """Have the replica take over from a healthy primary, which becomes its replica."""
        old = self.primary
        self._running_sentinel().client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        self.wait_for_another_primary_than(old)
        self.make_replica(old)

    def make_replica(self, server: ValkeyNode) -> None:
        """Do at once what the sentinels would do to a former primary after ten seconds."""
        server.client.replicaof("127.0.0.1", self.primary.port)
        self.wait_until_replica(server)

    def wait_for_another_primary_than(self, old: ValkeyNode) -> None:
        """Wait until all running sentinels name the other server, and it takes writes."""
        successor = self._other(old)
        wait_until(lambda: self._named() == {successor.port} and _role(successor) == "master")

    def wait_until_replica(self, server: ValkeyNode) -> None:
        """Wait until the server is a replica that is in step."""
        wait_until(lambda: self._is_replica(server))

    def _is_replica(self, server: ValkeyNode) -> bool:
        info: Any = server.client.info("replication")
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")

    def _other(self, server: ValkeyNode) -> ValkeyNode:
        return self.servers[1 - self.servers.index(server)]

    def _primary_port(self) -> int:
        return _named_by(self._running_sentinel())

    def _named(self) -> set[int]:
        return {_named_by(each) for each in self.sentinels if each.process_id is not None}

    def _running_sentinel(self) -> ValkeyNode:
        return next(each for each in self.sentinels if each.process_id is not None)


@contextmanager
def sentinel_running(directory: Path, down_after_seconds: float = 1.0) -> Iterator[ValkeySentinel]:
    """Run the servers and sentinels, with their files in `directory`, until the block ends."""
    valkey = ValkeySentinel(directory, down_after_seconds)
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.close()


def _sentinel(
    directory: Path, number: int, ports: list[int], down_after_seconds: float
) -> ValkeyNode:
    """A sentinel that knows the servers and the other sentinels from the start.

    Left to find each other, they would need seconds before they could agree on anything.
    """
    directory.mkdir(parents=True, exist_ok=True)
    others = [other for other in range(SENTINELS) if other != number]
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        "\n".join(
            [
                f"sentinel myid {_id(number)}",
                f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} {SENTINELS // 2 + 1}",
                f"sentinel down-after-milliseconds {SERVICE} {int(down_after_seconds * 1000)}",
                f"sentinel failover-timeout {SERVICE} 5000",
                f"sentinel known-replica {SERVICE} 127.0.0.1 {ports[1]}",
                *(
                    f"sentinel known-sentinel {SERVICE} 127.0.0.1 {ports[2 + other]} {_id(other)}"
                    for other in others
                ),
            ]
        )
        + "\n"
    )
    return ValkeyNode(directory, ports[2 + number], [configuration, "--sentinel"])


def _id(number: int) -> str:
    return f"{number + 1:040x}"


def _named_by(sentinel: ValkeyNode) -> int:
    address: Any = sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
    return int(address[1])


def _role(server: ValkeyNode) -> str:
    try:
        info: Any = server.client.info("replication")
    except redis.RedisError:
        return "away"
    return str(info["role"])
