"""How a hub hears announcements and reads streams, for what VALKEY_URL says.

In a cluster each channel is followed at the server that serves its slot, by one connection
to each: moved with its slot, and to whoever takes over from a server that is lost.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, cast

import redis.asyncio
import structlog

from streaming.valkey.announcements import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Announcements,
    Hearing,
    OnConnected,
    OnText,
)
from streaming.valkey.clients import (
    UNREACHABLE,
    listening_client,
    reading_client,
    slot_of,
    valkey_url,
)
from streaming.valkey.cluster import Cluster, ClusterReader, UnservedSlotError
from streaming.valkey.url import Server, Topology

MOVING_SECONDS: Final = 1.0
"""How long a channel that moves waits to be confirmed before the others' news are waited for."""

log = structlog.get_logger(__name__)


def open_valkey() -> tuple["redis.asyncio.Redis", Callable[[OnText, OnConnected], Hearing]]:
    """A client that reads streams (XRANGE), and what begins to hear announcements."""
    url = valkey_url()
    if url.topology is not Topology.CLUSTER:
        return reading_client(), lambda on_text, on_connected: Announcements(
            listening_client(), on_text, on_connected
        )
    cluster = Cluster(url.servers, reading_client)
    reader = cast("redis.asyncio.Redis", ClusterReader(cluster))
    return reader, partial(ClusterAnnouncements, cluster, listening_client)


class ClusterAnnouncements:
    """Follows channels at the servers of a cluster, until closed: a `Hearing`."""

    def __init__(
        self,
        cluster: Cluster,
        client_of: Callable[[Server], "redis.asyncio.Redis"],
        on_text: OnText,
        on_connected: OnConnected,
    ) -> None:
        self._cluster = cluster
        self._client_of = client_of
        self._on_text = on_text
        self._on_connected = on_connected
        self._servers: dict[Server, Announcements] = {}
        self._places: dict[str, Server] = {}
        self._homeless: set[str] = set()
        self._look_now = asyncio.Event()
        self._look_now.set()
        self._placing = asyncio.create_task(self._place_regularly())

    @property
    def connected(self) -> bool:
        servers = self._servers.values()
        return bool(servers) and not self._homeless and all(each.connected for each in servers)

    async def follow(self, channel: str, deadline_seconds: float) -> None:
        if self._find_place(channel):
            await self._servers[self._places[channel]].follow(channel, deadline_seconds)
        else:
            self._homeless.add(channel)
            self._look_now.set()

    async def unfollow(self, channel: str) -> None:
        self._homeless.discard(channel)
        server = self._places.pop(channel, None)
        if server is not None:
            await self._servers[server].unfollow(channel)

    async def close(self) -> None:
        self._placing.cancel()
        await asyncio.gather(self._placing, return_exceptions=True)
        for announcements in self._servers.values():
            await announcements.close()

    async def _place_regularly(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            await self._look_now.wait()
            self._look_now.clear()
            try:
                await self._cluster.look()
                await self._place()
            except UNREACHABLE as error:
                log.warning("cluster_away", error=str(error), channels=len(self._homeless))
                self._look_now.set()
            except Exception:  # whatever it was, the next look is taken
                log.exception("cluster_away", channels=len(self._homeless))
                self._look_now.set()
            if self._homeless:
                self._look_now.set()
            await asyncio.sleep(pause_seconds)
            grown = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
            pause_seconds = FIRST_PAUSE_SECONDS if self.connected else grown

    async def _place(self) -> None:
        """Be connected to each server that serves slots, and follow there what has no place."""
        primaries = self._cluster.primaries
        for server in self._servers.keys() - primaries:
            gone = self._servers.pop(server)
            self._take_away(server, [c for c, place in self._places.items() if place == server])
            await gone.close()
        for server in primaries - self._servers.keys():
            self._servers[server] = Announcements(
                self._client_of(server),
                self._on_text,
                self._on_connected,
                partial(self._take_away, server),
                _by_slot,
            )
        placed = [channel for channel in self._homeless if self._find_place(channel)]
        self._homeless.difference_update(placed)
        await asyncio.gather(*(self._follow_again(channel) for channel in placed))
        if placed:
            self._on_connected()

    def _find_place(self, channel: str) -> bool:
        try:
            server = self._cluster.owner(channel)
        except UnservedSlotError:
            return False
        if server not in self._servers:
            return False
        self._places[channel] = server
        return True

    async def _follow_again(self, channel: str) -> None:
        server = self._places.get(channel)
        if server is not None:  # else nobody wants it any more
            await self._servers[server].follow(channel, MOVING_SECONDS)

    def _take_away(self, server: Server, channels: Collection[str]) -> None:
        for channel in channels:
            if self._places.get(channel) == server:
                del self._places[channel]
                self._homeless.add(channel)
        self._look_now.set()


def _by_slot(channels: Collection[str]) -> Collection[list[str]]:
    """A server of a cluster takes channels of one slot in one command."""
    portions: defaultdict[int, list[Any]] = defaultdict(list)
    for channel in channels:
        portions[slot_of(channel)].append(channel)
    return portions.values()
