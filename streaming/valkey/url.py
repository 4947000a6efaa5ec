"""What an address of Valkey says: where it is, and how several servers belong together."""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379


class Topology(Enum):
    """How the servers of an address belong together."""

    SINGLE = ""
    CLUSTER = "cluster"
    """Each serves some of the slots. The servers named tell of the others."""

    SENTINEL = "sentinel"
    """A primary with replicas. The sentinels named tell which is the primary at present."""


class MalformedValkeyUrlError(ValueError):
    """The address is of none of the forms that are accepted; the message never quotes it."""

    def __init__(self) -> None:
        super().__init__(
            "VALKEY_URL must be redis://[user:password@]host[:port][/number] or unix://path for a "
            "single server, redis+cluster://[user:password@]host[:port][,host[:port]…] for a "
            "cluster, or redis+sentinel://[user:password@]host[:port][,host[:port]…]/service"
            "[/number] for a primary that sentinels watch over; rediss in place of redis for TLS; "
            "in a password, write / # ? % @ : , as %2F and so on"
        )


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ValkeyUrl:
    """An address, taken apart.

    `servers` are those that are named: of a cluster some of its own, else the sentinels;
    of a single server, none. `service` is what the sentinels call the primary.
    """

    topology: Topology
    text: str
    servers: tuple[Server, ...] = ()
    service: str = ""
    _scheme: str = ""
    _credentials: str = ""
    _database_and_options: str = ""

    @classmethod
    def parse(cls, text: str) -> "ValkeyUrl":
        """Raises MalformedValkeyUrlError."""
        try:
            return _parse(text)
        except ValueError:
            # Without the cause: it quotes part of a password that holds a slash.
            raise MalformedValkeyUrlError from None

    def of_server(self, server: Server) -> str:
        """The address of one server of these, with the credentials and options of all."""
        return f"{self._of(server, self._credentials)}{self._database_and_options}"

    def of_sentinel(self, server: Server) -> str:
        """The address of a sentinel, which is asked without credentials."""
        options = self._database_and_options.partition("?")[2]
        return self._of(server, "") + (f"?{options}" if options else "")

    def _of(self, server: Server, credentials: str) -> str:
        host = f"[{server.host}]" if ":" in server.host else server.host
        return f"{self._scheme}://{credentials}{host}:{server.port}"


def _parse(text: str) -> ValkeyUrl:
    parts = urlsplit(text)
    scheme, _, kind = parts.scheme.partition("+")
    topology = Topology(kind)
    if topology is Topology.SINGLE:
        if scheme not in ("redis", "rediss", "unix") or parts.port == 0:
            raise ValueError(scheme)
        return ValkeyUrl(topology, text)
    if scheme not in ("redis", "rediss"):
        raise ValueError(scheme)
    credentials, at, named = parts.netloc.rpartition("@")
    port = _PORT if topology is Topology.CLUSTER else _SENTINEL_PORT
    servers = tuple(_server(each, port) for each in named.split(","))
    service, _, number = parts.path.removeprefix("/").partition("/")
    is_whole = parts.path in ("", "/") if topology is Topology.CLUSTER else bool(service)
    if not is_whole or "@" in credentials or parts.fragment or (number and not number.isdecimal()):
        raise ValueError(parts.path)
    options = (f"/{number}" if number else "") + (f"?{parts.query}" if parts.query else "")
    return ValkeyUrl(topology, text, servers, service, scheme, credentials + at, options)


def _server(text: str, port: int) -> Server:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0:
        raise ValueError(text)
    return Server(parts.hostname, parts.port or port)
