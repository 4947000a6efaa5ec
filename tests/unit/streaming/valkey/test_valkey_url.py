"""What an address of Valkey says, and what is not one."""

from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from streaming.valkey.channel_layer import (
    AnyServerConnection,
    AnyTlsServerConnection,
    channel_layer_hosts,
)
from streaming.valkey.url import MalformedValkeyUrlError, Server, Topology, ValkeyUrl

CLUSTER = "redis+cluster://me:s%40cret,x@one:7000,two,[::1]:7002?socket_keepalive=yes"
SENTINELS = "rediss+sentinel://:secret@one,two:26380/nexus/3?ssl_cert_reqs=none"


@pytest.mark.parametrize(
    "text",
    [
        "redis://127.0.0.1:6379/0", "redis://u:p@host", "rediss://:p@host/2?ssl_cert_reqs=none",
        "unix:///run/valkey.sock", "unix://u:p@/run/valkey.sock?db=1",
    ],
)  # fmt: skip
def test_single_server_is_left_as_it_is(text: str) -> None:
    url = ValkeyUrl.parse(text)
    assert (url.topology, url.text, url.servers) == (Topology.SINGLE, text, ())
    assert channel_layer_hosts(text) == [text]


def test_cluster_names_some_of_its_servers() -> None:
    url = ValkeyUrl.parse(CLUSTER)
    assert url.topology is Topology.CLUSTER
    assert url.servers == (Server("one", 7000), Server("two", 6379), Server("::1", 7002))
    assert [url.of_server(server) for server in url.servers[1:]] == [
        "redis://me:s%40cret,x@two:6379?socket_keepalive=yes",
        "redis://me:s%40cret,x@[::1]:7002?socket_keepalive=yes",
    ]


def test_sentinels_are_asked_without_the_credentials_of_the_servers() -> None:
    url = ValkeyUrl.parse(SENTINELS)
    assert url.topology is Topology.SENTINEL
    assert url.servers == (Server("one", 26379), Server("two", 26380))
    assert url.service == "nexus"
    assert url.of_sentinel(url.servers[1]) == "rediss://two:26380?ssl_cert_reqs=none"
    assert url.of_server(Server("found", 6379)) == (
        "rediss://:secret@found:6379/3?ssl_cert_reqs=none"
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "localhost:6379", "http://host", "valkey://host", "redis://host:0", "redis://host:x",
        "redis+replicas://host", "unix+cluster:///run/valkey.sock", "redis+cluster://",
        "redis+cluster://one,", "redis+cluster://one:0", "redis+cluster://one:99999",
        "redis+cluster://one/0", "redis+cluster://one//0", "redis+cluster://one@two,three@four", "redis+cluster://one#two",
        "redis+sentinel://one", "redis+sentinel://one/", "redis+sentinel://one/nexus/db",
        "redis://:sec/ret@host:6379", "redis+cluster://:sec/ret@one,two",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_accepted_and_never_quoted(text: str) -> None:
    with pytest.raises(MalformedValkeyUrlError) as refused:
        ValkeyUrl.parse(text)
    told = str(refused.value)
    assert "redis+cluster://" in told
    assert "redis+sentinel://" in told
    assert "sec" not in told
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "made_by"), [(CLUSTER, AnyServerConnection), ("s" + CLUSTER, AnyTlsServerConnection)]
)
def test_channel_layer_takes_any_server_of_a_cluster(text: str, made_by: Any) -> None:
    [host] = channel_layer_hosts(text.replace("sredis", "rediss"))
    assert host["connection_class"] is made_by
    assert [server.host for server in host["servers"]] == ["one", "two", "::1"]
    assert host["password"] == "s@cret,x"
    made_by(**{name: value for name, value in host.items() if name != "connection_class"})


def test_channel_layer_asks_the_sentinels_for_the_primary() -> None:
    [host] = channel_layer_hosts(SENTINELS)
    assert host == {
        "master_name": "nexus",
        "sentinels": [("one", 26379), ("two", 26380)],
        "sentinel_kwargs": {"ssl": True, "ssl_cert_reqs": "none"},
        "ssl": True,
        "ssl_cert_reqs": "none",
        "password": "secret",
        "db": 3,
    }
    assert issubclass(AnyTlsServerConnection, SSLConnection)
