"""Connections to Valkey, whatever VALKEY_URL says it is, and the bounds on waiting for it."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.asyncio.connection import parse_url as parse_async_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.crc import key_slot
from redis.exceptions import ClusterError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from streaming.valkey.url import Server, Topology, ValkeyUrl

CONNECT_SECONDS: Final = 0.5
REPLY_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 1.0
READING_CONNECTIONS: Final = 2
READING_SECONDS: Final = 2.0
"""How long one reading may take in all, with the waiting for a connection."""

_FORM: Final[dict[str, Any]] = {
    "decode_responses": True,
    "encoding_errors": "replace",  # what others may have written there must not raise
}

UNREACHABLE: Final = (redis.RedisError, RedisClusterException, OSError)
"""What any of these clients raises when Valkey is away or refuses."""


class ServerAwayError(redis.ResponseError):
    """A server of a cluster did not answer just before, and is not asked again for a while.

    Streams that other servers have are not concerned.
    """


def is_refusal(error: BaseException) -> bool:
    """Whether it came at once, and perhaps concerns this one stream or some alone."""
    return isinstance(error, redis.ResponseError) and not isinstance(error, ClusterError)


def slot_of(key: str) -> int:
    """The slot of a cluster that the key, or sharded channel, belongs to."""
    return key_slot(key.encode())


def valkey_url() -> ValkeyUrl:
    """What VALKEY_URL says. Raises MalformedValkeyUrlError."""
    return ValkeyUrl.parse(settings.VALKEY_URL)


def writing_client(url: ValkeyUrl | None = None) -> "redis.Redis":
    """A client whose commands fail soon: a writer waits at most about CONNECT + REPLY seconds.

    One retry on a broken connection, none on a timeout, so that a restarted Valkey is
    found again at the first command and a stopped one is not waited for twice. Where the
    server that serves is to be found first, asking for it in vain takes as long again.
    """
    url = url or valkey_url()
    limits = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": REPLY_SECONDS}
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    if url.topology is Topology.CLUSTER:
        return cast("redis.Redis", _WhenNeeded(lambda: _cluster(url, retry, limits)))
    if url.topology is Topology.SENTINEL:
        options = _of_primary(parse_url(url.of_server(url.servers[0])), SSLConnection)
        # A retry would go to the same server, which perhaps came back as nobody's primary:
        # the sentinels are asked when a command begins without a connection. Without both of
        # these errors here, redis-py leaves the connection open at a timeout: the next command
        # would get the late answer.
        errors = (redis.ConnectionError, redis.TimeoutError)
        pool = SentinelConnectionPool(
            url.service,
            _Sentinels(url, limits),
            retry=Retry(NoBackoff(), 0, supported_errors=errors),
            **options,
            **_FORM,
            **limits,
        )
        return redis.Redis.from_pool(pool)
    return redis.Redis.from_url(url.text, retry=retry, **_FORM, **limits)


class _Sentinels(Sentinel):
    """Asks one sentinel after the other which server is the primary.

    All of them asked in vain take no longer than one server.
    """

    def __init__(self, url: ValkeyUrl, limits: dict[str, float]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        share = {limit: seconds / len(url.servers) for limit, seconds in limits.items()}
        self.sentinels = [
            redis.Redis.from_url(
                url.of_sentinel(server), retry=Retry(NoBackoff(), 0), **_FORM, **share
            )
            for server in url.servers
        ]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        for sentinel in tuple(self.sentinels):
            with suppress(*UNREACHABLE):
                address: Any = sentinel.sentinel_get_master_addr_by_name(service_name)
                if address is not None:
                    return str(address[0]), int(address[1])
            # The next one is asked first the next time.
            self.sentinels.remove(sentinel)
            self.sentinels.append(sentinel)
        raise _no_primary(service_name)


class _Cluster(RedisCluster):
    """A server that did not answer in time is not asked again for the same command.

    Nor for others in the next AWAY_SECONDS, so that writers do not wait for it one by one.
    """

    ERRORS_ALLOW_RETRY: Any = (redis.ConnectionError,)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._failures: Counter[str] = Counter()
        self._away_until: dict[str, float] = {}
        super().__init__(*arguments, **options)

    def _execute_command(self, target_node: ClusterNode, *args: Any, **kwargs: Any) -> Any:
        name = target_node.name
        if time.monotonic() < self._away_until.get(name, 0.0):
            raise ServerAwayError(f"the server {name} did not answer just before")
        try:
            execute: Any = super()._execute_command
            reply = execute(target_node, *args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._failures[name] += 1
            # A connection that broke may have been of before the server's last start.
            if isinstance(error, redis.TimeoutError) or self._failures[name] > 1:
                self._away_until[name] = time.monotonic() + AWAY_SECONDS
                raise ServerAwayError(f"the server {name} does not answer: {error}") from error
            raise
        self._failures.pop(name, None)
        return reply


def _cluster(url: ValkeyUrl, retry: Retry, limits: dict[str, float]) -> RedisCluster:
    first, *others = url.servers
    return _Cluster.from_url(
        url.of_server(first),
        startup_nodes=[ClusterNode(server.host, server.port) for server in others],
        retry=retry,
        require_full_coverage=False,
        # Servers that were found may be gone together one day; those that are named, never.
        dynamic_startup_nodes=False,
        **_FORM,
        **limits,
    )


class _WhenNeeded:
    """A client that is made at its first command, since making it needs Valkey."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)


def reading_client(server: Server | None = None) -> "redis.asyncio.Redis":
    """A client for backlogs, with READING_CONNECTIONS connections for the whole process.

    Of a cluster, the client of this server.

    Its users keep to READING_SECONDS by themselves: with a time limit of its own, redis-py
    sends through asyncio.wait_for(), which in Python 3.11 loses a cancellation now and then.
    """
    limits = {"max_connections": READING_CONNECTIONS, "timeout": REPLY_SECONDS}
    return _asynchronous(server, redis.asyncio.BlockingConnectionPool, 1, limits)


def listening_client(server: Server | None = None) -> "redis.asyncio.Redis":
    """A client whose connection may be silent for any time: for subscriptions.

    A lost connection raises at once: nothing is to be made good in silence. Of a cluster,
    the client of this server.
    """
    return _asynchronous(server, redis.asyncio.ConnectionPool, 0, {})


def _asynchronous(
    server: Server | None,
    pool_class: type[redis.asyncio.ConnectionPool],
    retries: int,
    limits: dict[str, Any],
) -> "redis.asyncio.Redis":
    url = valkey_url()
    patience = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": None}
    is_found = url.topology is Topology.SENTINEL
    # Without a retry no error is to be known as one: redis-py would connect anew all the same.
    known = () if is_found or not retries else (redis.ConnectionError,)
    retry = AsyncRetry(NoBackoff(), retries, supported_errors=known)
    options: dict[str, Any] = {**_FORM, **patience, **limits, "retry": retry}
    if is_found:
        found = _of_primary(parse_async_url(url.of_server(url.servers[0])), AsyncSSLConnection)
        primary_pool = type("PrimaryPool", (AsyncSentinelConnectionPool, pool_class), {})
        pool = primary_pool(url.service, _AsyncSentinels(url, patience), **found, **options)
    else:
        text = url.text if server is None else url.of_server(server)
        pool = pool_class.from_url(text, **options)
    return redis.asyncio.Redis.from_pool(pool)


class _AsyncSentinels(AsyncSentinel):
    """Asks one sentinel after the other which server is the primary, and none for long."""

    def __init__(self, url: ValkeyUrl, patience: dict[str, Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self._addresses = [url.of_sentinel(server) for server in url.servers]
        self._patience = patience

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        for text in tuple(self._addresses):
            with suppress(TimeoutError, *UNREACHABLE):
                async with (
                    asyncio.timeout(CONNECT_SECONDS),
                    redis.asyncio.Redis.from_url(text, **_FORM, **self._patience) as sentinel,
                ):
                    address: Any = await sentinel.sentinel_get_master_addr_by_name(service_name)
                if address is not None:
                    return str(address[0]), int(address[1])
            # The next one is asked first the next time.
            self._addresses.append(self._addresses.pop(0))
        raise _no_primary(service_name)


def _no_primary(service: str) -> redis.ConnectionError:
    return redis.ConnectionError(f"no sentinel tells of a primary of the service {service!r}")


def _of_primary(options: Any, tls: type) -> dict[str, Any]:
    """Options of a connection to a server that is to be found, from those to a named one."""
    found: dict[str, Any] = {**options}
    del found["host"], found["port"]
    if found.pop("connection_class", None) is tls:
        found["ssl"] = True
    return found
