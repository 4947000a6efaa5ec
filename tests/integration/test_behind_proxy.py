"""README's proxy configuration does what the README says that a proxy must do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Request, Response

from tests.servers.caddy import WEB_HEADER, caddy_running
from tests.servers.valkey import free_ports

HEALTH_SECONDS = 10.0


@asynccontextmanager
async def web(port: int) -> AsyncIterator[None]:
    """A server that tells of the headers it was sent, and closes as a web process may."""

    async def tell(connection: ServerConnection) -> None:
        assert connection.request is not None
        for name in ("Host", "X-Forwarded-For", "X-Forwarded-Proto"):
            await connection.send(connection.request.headers[name])
        await connection.close(4408, "too slow")

    def answer_probes(connection: ServerConnection, request: Request) -> Response | None:
        is_probe = request.path == "/health/live"
        return connection.respond(HTTPStatus.OK, "live\n") if is_probe else None

    async with serve(tell, "127.0.0.1", port, process_request=answer_probes):
        yield


async def connected(port: int) -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{port}/",
        proxy=None,
        additional_headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"},
    )


def web_behind(connection: ClientConnection) -> str:
    assert connection.response is not None
    return connection.response.headers[WEB_HEADER]


async def test_web_process_hears_the_clients_own_address_and_client_hears_why_it_is_closed(
    tmp_path: Path,
) -> None:
    [port] = free_ports(1)
    async with web(port):
        with caddy_running(tmp_path / "caddy", [port]) as proxy:
            connection = await connected(proxy)
            told = [await connection.recv() for _ in range(3)]
            assert told == [f"127.0.0.1:{proxy}", "127.0.0.1", "http"]
            with pytest.raises(ConnectionClosedError) as closed:
                await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4408, "too slow")


async def test_clients_are_spread_and_go_to_the_others_where_one_does_not_accept(
    tmp_path: Path,
) -> None:
    ports = free_ports(2)
    with caddy_running(tmp_path / "caddy", ports) as proxy:
        async with web(ports[0]):
            async with web(ports[1]), asyncio.timeout(HEALTH_SECONDS):
                met: set[str] = set()
                while len(met) < 2:
                    met.add(web_behind(await connected(proxy)))
            for _ in range(4):
                assert web_behind(await connected(proxy)) == f"127.0.0.1:{ports[0]}"
