"""A Valkey cluster as a server process sees it: which server serves which slot at present.

Belongs to one event loop.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

import redis
import redis.asyncio

from streaming.valkey.clients import CONNECT_SECONDS, UNREACHABLE, slot_of
from streaming.valkey.url import Server

LOOKING_SECONDS: Final = 2 * CONNECT_SECONDS
"""How long one server may take to tell what it knows."""


class UnservedSlotError(redis.ConnectionError):
    """No server is known to serve the slot at present."""


class Cluster:
    """Knows what a server of the cluster told when it was last asked.

    `named` are servers that are asked first; `client_of` makes a client for backlogs.
    """

    def __init__(
        self,
        named: tuple[Server, ...],
        client_of: Callable[[Server], "redis.asyncio.Redis"],
    ) -> None:
        self._named = named
        self._client_of = client_of
        self._clients: dict[Server, redis.asyncio.Redis] = {}
        self._begins: list[int] = []
        self._ranges: list[tuple[int, Server]] = []
        self._asked: list[Server] = list(named)
        self._looking: asyncio.Task[None] | None = None

    @property
    def primaries(self) -> set[Server]:
        """Those that serve slots; none before the cluster was looked at."""
        return {server for _, server in self._ranges}

    def owner(self, key: str) -> Server:
        """The server that serves the key's slot. Raises UnservedSlotError."""
        slot = slot_of(key)
        place = bisect_right(self._begins, slot) - 1
        if place >= 0:
            last, server = self._ranges[place]
            if slot <= last:
                return server
        raise UnservedSlotError(f"no server of the cluster is known to serve the slot {slot}")

    def client(self, server: Server) -> "redis.asyncio.Redis":
        """The client of this server."""
        if server not in self._clients:
            self._clients[server] = self._client_of(server)
        return self._clients[server]

    async def look(self) -> None:
        """Ask who serves what; those who come meanwhile share the question.

        Raises `clients.UNREACHABLE` where no server answers.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)

    async def close(self) -> None:
        """End its connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()

    async def _look(self) -> None:
        problem: object = None
        for server in tuple(self._asked):
            # Another comes first the next time: one that is cut off knows nothing new.
            self._asked.remove(server)
            self._asked.append(server)
            try:
                async with asyncio.timeout(LOOKING_SECONDS):
                    told: Any = await self.client(server).execute_command("CLUSTER SLOTS")
            except (TimeoutError, *UNREACHABLE) as error:
                problem = error or "it took too long"
                continue
            if told:
                return await self._take(told, server)
        raise redis.ConnectionError(f"no server of the cluster tells who serves what: {problem}")

    async def _take(self, told: list[list[Any]], teller: Server) -> None:
        """Take the reply to CLUSTER SLOTS: first slot, last slot, primary, replicas, of each."""
        told.sort(key=lambda part: int(part[0]))
        self._begins = [int(part[0]) for part in told]
        self._ranges = [(int(part[1]), _server(part[2], teller)) for part in told]
        known = {_server(each, teller) for part in told for each in part[2:]} | {*self._named}
        self._asked = [server for server in self._asked if server in known]
        self._asked = [*(known - {*self._asked}), *self._asked]
        for server in self._clients.keys() - known:
            await self._clients.pop(server).aclose()

    def _looked(self, task: "asyncio.Task[None]") -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # told to whoever waits, if anybody does


class ClusterReader:
    """Reads streams where they are at present; what StreamSource needs of a client."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def xrange(self, key: str, min: str, count: int) -> Any:
        """As redis-py's; where the slot is served by another server than was known, too."""
        if not self._cluster.primaries:
            await self._cluster.look()
        try:
            return await self._cluster.client(self._cluster.owner(key)).xrange(
                key, min=min, count=count
            )
        except (redis.ResponseError, UnservedSlotError):
            await self._cluster.look()
            return await self._cluster.client(self._cluster.owner(key)).xrange(
                key, min=min, count=count
            )

    async def aclose(self) -> None:
        """As redis-py's."""
        await self._cluster.close()


def _server(told: list[Any], teller: Server) -> Server:
    # One that was never told its own address leaves it out.
    return Server(str(told[0] or teller.host), int(told[1]))
