"""Where the channel layer finds Valkey. It carries control alone, and may lose it."""

import random
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.connection import SSLConnection, parse_url

from streaming.valkey.url import Server, Topology, ValkeyUrl


def channel_layer_hosts(valkey_url: str) -> list[Any]:
    """The `hosts` of channels_redis.pubsub.RedisPubSubChannelLayer for this VALKEY_URL.

    In a cluster each process is connected to one of the servers that the address names, to
    another when that one is gone: what is published at one is heard at all. Raises
    MalformedValkeyUrlError.
    """
    url = ValkeyUrl.parse(valkey_url)
    if url.topology is Topology.SINGLE:
        return [valkey_url]
    options: dict[str, Any] = {**parse_url(url.of_server(url.servers[0]))}
    del options["host"], options["port"]
    is_tls = options.pop("connection_class", None) is SSLConnection
    if url.topology is Topology.CLUSTER:
        made_by = AnyTlsServerConnection if is_tls else AnyServerConnection
        return [{**options, "connection_class": made_by, "servers": url.servers}]
    of_sentinels: dict[str, Any] = {**parse_url(url.of_sentinel(url.servers[0]))}
    del of_sentinels["host"], of_sentinels["port"]
    if of_sentinels.pop("connection_class", None) is SSLConnection:
        of_sentinels["ssl"] = options["ssl"] = True
    sentinels = [(server.host, server.port) for server in url.servers]
    named = {"master_name": url.service, "sentinels": sentinels, "sentinel_kwargs": of_sentinels}
    return [options | named]


class AnyServerConnection(redis.asyncio.Connection):
    """A connection to one of several servers, which are as good as each other."""

    def __init__(self, servers: Sequence[Server], **options: Any) -> None:
        self._servers = random.sample(servers, len(servers))
        super().__init__(**options)

    async def _connect(self) -> None:
        problem: Exception = redis.ConnectionError("no server is named")
        for server in self._servers:
            self.host, self.port = server.host, server.port
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError) as error:
                problem = error
            else:
                return
        raise problem


class AnyTlsServerConnection(AnyServerConnection, SSLConnection):
    """The same by TLS."""
