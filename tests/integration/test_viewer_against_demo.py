"""The viewer's connection, as its users run it: against the reference server and ones that fail.

What its screen shows is in `test_viewer_screen`.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.viewer_servers import (
    DEADLINE_SECONDS,
    Script,
    demo,
    event,
    sending,
    served,
    stream,
    within_deadline,
)
from tests.specs_scripts import SPECS, VIEWER, viewer

EVENTS = 26
EVENT_LINE = re.compile(r"^\S+  (?:initial_|activity_|final_)\w+ +(\d+-\d+) ", re.M)


async def started(address: str, *options: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(VIEWER), address, "--check", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )


async def checked(address: str, *options: str, **environment: str) -> tuple[int | None, str]:
    """The exit status and the output of the viewer's --check."""
    process = await started(address, *options, **environment)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def check(address: str, *options: str, **environment: str) -> tuple[int | None, str]:
    status, output = within_deadline(checked(address, *options, **environment))
    return status, output


# Against the reference server.


@pytest.fixture(scope="module")
def finished() -> Iterator[str]:
    """The address of a demo execution that has run to its end."""
    with demo("--speed", "50") as address:
        status, output = check(address)
        assert status == 0, output
        yield address


@pytest.fixture(scope="module")
def event_ids(finished: str) -> list[str]:
    return EVENT_LINE.findall(check(finished, "--replay", "0")[1])


def test_a_live_run_is_followed_from_the_beginning_and_verified() -> None:
    with demo("--speed", "10", "--heartbeat-seconds", "0.05") as address:
        status, output = check(address)
    assert status == 0
    sequences = [int(each.split("-")[1]) for each in EVENT_LINE.findall(output)]
    assert sequences == list(range(len(sequences)))
    told = [
        "process_data: queued",
        "process_data: status pending → running",
        "process_data: status running → retrying, ConnectionError: the warehouse did not answer, "
        "next attempt ",
        "process_data: retry queued",
        "process_data: status retrying → running, attempt 2",
        "process_data: status running → completed",
        "execution: signal approve",
    ]
    places = [output.index(each) for each in told]
    assert places == sorted(places)
    said = re.findall(r"^\S+  (\w+) +(\d+-\d+) ", output, re.M)
    beats = [place for place, (kind, _) in enumerate(said) if kind == "heartbeat"]
    assert beats
    assert all(said[place][1] == said[place - 1][1] for place in beats), "caught up to the last"
    assert "-- closed 1000" in output
    assert "VERIFIED: the snapshot" in output


def test_no_replay_of_a_finished_execution_is_a_snapshot_and_the_final_one(
    finished: str, event_ids: list[str]
) -> None:
    status, output = check(finished, "--replay", "none")
    assert status == 0
    assert EVENT_LINE.findall(output) == event_ids[-2:]
    assert "VERIFIED" in output


def test_every_event_id_of_a_finished_execution_is_a_cursor_to_come_back_with(
    finished: str, event_ids: list[str]
) -> None:
    assert len(event_ids) == EVENTS
    for event_id in event_ids:
        status, output = check(finished, "--replay", event_id)
        assert status == 0, output
        assert EVENT_LINE.findall(output) == event_ids, "each event once, in order"
        assert output.count("-- connecting") == 2
        assert f"-- connecting with replay={event_id}\n" in output
        assert "VERIFIED" in output
        assert "RESYNC" not in output


@pytest.mark.parametrize("cursor", ["1-3", "9-9999", "0-0"])
def test_an_event_id_that_is_not_this_executions_gets_a_resync(finished: str, cursor: str) -> None:
    status, output = check(finished, "--replay", cursor)
    assert status == 0
    assert "RESYNC (unknown)" in output


@pytest.mark.parametrize("replay", ["", "1", "-1", "latest", "1-2-3", "1-02", "01-2", "1-٣", "00"])
def test_a_malformed_replay_is_refused_with_what_is_accepted(finished: str, replay: str) -> None:
    status, output = check(finished, f"--replay={replay}")
    assert status == 2
    assert "closed 4400: replay must be 0 or an event_id" in output


def test_an_unknown_execution_is_refused(finished: str) -> None:
    status, output = check(finished.replace("demo-1", "demo-2"))
    assert status == 2
    assert "closed 4404" in output


def test_a_rest_address_leads_to_the_stream(finished: str) -> None:
    rest = finished.replace("ws://", "http://").replace("/ws/", "/") + "?include=activities"
    assert check(rest)[0] == 0


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(finished: str) -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    assert check(finished, "--max-attempts", "1", no_proxy="", **nowhere)[0] == 0


@pytest.mark.parametrize("address", ["ws://127.0.0.1/", "nonsense", "ftp://h/api/v1/executions/x"])
def test_an_address_that_is_none_is_a_usage_error(address: str) -> None:
    status, output = check(address)
    assert status == 2
    assert "expected ws://HOST/api/v1/ws/executions/ID" in output


def test_check_starts_without_textual(finished: str) -> None:
    command = [sys.executable, "-X", "importtime", str(VIEWER), "--check", finished]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0
    assert "jsonpatch" in done.stderr
    assert "textual" not in done.stderr
    assert "rich" not in done.stderr.replace("import time:", "").split()


def test_without_a_terminal_the_screen_is_not_tried(finished: str) -> None:
    command = [sys.executable, str(VIEWER), finished]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--check" in done.stderr


def test_the_client_in_the_quickstart_verifies_a_run(finished: str) -> None:
    text = (SPECS / "quickstart.md").read_text()
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", text, re.M)
    (client,) = (each for each in blocks if "asyncio.run(watch(" in each)
    command = [sys.executable, "-c", dedent(client), finished]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified\n" in done.stdout


class Proxy:
    """Forwards TCP to the server of an address; `cut` breaks every connection there is."""

    def __init__(self, target: str) -> None:
        self.port = urlsplit(target).port
        self.writers: list[asyncio.StreamWriter] = []

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers += [writer, far_writer]
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(4096):
                sink.write(data)
                await sink.drain()
            sink.close()
        except ConnectionError:
            sink.transport.abort()

    def cut(self) -> None:
        while self.writers:
            self.writers.pop().transport.abort()


def test_connections_cut_in_the_middle_of_a_run_are_resumed_without_loss_or_repetition() -> None:
    async def watch(address: str) -> tuple[int, str, list[str]]:
        proxy = Proxy(address)
        server = await asyncio.start_server(proxy.forward, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        process = await started(address.replace(f":{proxy.port}/", f":{port}/"))
        assert process.stdout is not None
        output, cut_after = "", []
        async for line in process.stdout:
            output += line.decode()
            found = EVENT_LINE.match(line.decode())
            # After these events none comes for a while.
            if found and found[1].endswith(("-0", "-6", "-11")):
                cut_after.append(found[1])
                proxy.cut()
        server.close()
        return await process.wait(), output, cut_after

    with demo("--speed", "5") as address:
        status, output, cut_after = within_deadline(watch(address))
    assert status == 0, output
    assert len(cut_after) == 3
    for event_id in cut_after:
        assert f"-- connecting with replay={event_id}\n" in output
    sequences = [int(each.split("-")[1]) for each in EVENT_LINE.findall(output)]
    assert sequences == list(range(EVENTS))
    assert "VERIFIED: the snapshot" in output


def test_the_reference_server_ends_a_client_that_talks_and_refuses_foreign_origins() -> None:
    async def talk(address: str) -> ConnectionClosed:
        async with connect(address) as socket:
            for _ in range(20):
                await socket.send("hello")
            await socket.recv()
            await socket.ping()
            await socket.send("one more")
            await socket.wait_closed()
            with pytest.raises(ConnectionClosed) as closed:
                await drained(socket)
        return closed.value

    async def drained(socket: ClientConnection) -> None:
        while True:
            await socket.recv()

    async def intrude(address: str) -> None:
        await connect(address, origin="https://elsewhere.example")  # type: ignore[arg-type]

    with demo("--speed", "0.01") as address:
        closed = within_deadline(talk(address))
        assert closed.rcvd is not None
        assert closed.rcvd.code == 4400
        with pytest.raises(InvalidStatus, match="403"):
            within_deadline(intrude(address))


# Against servers that fail.


def check_against(
    script: Script,
    *options: str,
    status: Callable[[int], HTTPStatus | None] = lambda _: None,
    **environment: str,
) -> tuple[int | None, str]:
    async def run() -> tuple[int | None, str]:
        async with served(script, status) as address:
            return await checked(address, *options, **environment)

    exit_status, output = within_deadline(run())
    return exit_status, output


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (stream(0, 1, 3), "1 event missing between 1001-1 and final_snapshot 1003-3"),
        (stream(0, 1, 1, 2, 3), "activity_patch 1001-1 was already applied"),
        (stream(0, 1, 2, 3, last={"status": "failed", "count": 2}), "MISMATCH: 1 difference"),
        (stream(1), "came before any snapshot"),
        (stream(0, 1), "UNVERIFIED: no final snapshot yet"),
        ([*stream(0), "{"], "not JSON text"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_on(messages: list[str], said: str) -> None:
    status, output = check_against(sending(*messages))
    assert status == 1
    assert said in output


def test_a_mismatch_is_printed_place_by_place() -> None:
    _, output = check_against(sending(*stream(0, 1, 2, 3, last={"status": "running", "count": 7})))
    assert output.endswith("  /count\n    folded 2\n    final  7\n")


@pytest.mark.parametrize("code", [1001, 1011, 4408, 4429, 4999])
def test_a_close_that_asks_to_come_back_is_answered_with_the_cursor(code: int) -> None:
    asked: list[str] = []

    async def script(socket: ServerConnection, number: int) -> None:
        assert socket.request is not None
        asked.append(urlsplit(socket.request.path).query)
        first = number == 1
        await sending(*stream(*((0, 1) if first else (2, 3))), code=code if first else 1000)(
            socket, number
        )

    status, output = check_against(script)
    assert status == 0
    assert asked == ["replay=0", "replay=1001-1"]
    assert f"-- closed {code}" in output


@pytest.mark.parametrize("code", [4400, 4401, 4404])
def test_a_close_that_says_stop_ends_it(code: int) -> None:
    status, output = check_against(sending(code=code))
    assert status == 2
    assert output.count("-- connecting") == 1


def test_a_refused_handshake_ends_it_and_a_server_in_trouble_is_tried_again() -> None:
    script = sending(*stream(0, 1, 2, 3))
    status, output = check_against(script, status=lambda _: HTTPStatus.FORBIDDEN)
    assert status == 2
    assert "HTTP 403" in output
    trouble = HTTPStatus.SERVICE_UNAVAILABLE
    assert check_against(script, status=lambda number: trouble if number == 1 else None)[0] == 0


def test_attempts_and_time_that_run_out_end_it() -> None:
    status, output = check_against(sending(code=4429), "--max-attempts", "2")
    assert status == 3
    assert output.count("-- connecting") == 2

    async def silent(socket: ServerConnection, _: int) -> None:
        await socket.wait_closed()

    status, output = check_against(silent, "--timeout", "0.5")
    assert status == 3
    assert "TIMEOUT after 500 ms" in output


def test_connections_that_each_bring_an_event_are_no_failures() -> None:
    async def script(socket: ServerConnection, number: int) -> None:
        await sending(*stream(number - 1), code=1000 if number == 4 else 1001)(socket, number)

    status, output = check_against(script, "--max-attempts", "2")
    assert status == 0
    assert output.count("-- connecting") == 4


def test_a_connection_lost_after_the_final_snapshot_takes_nothing_from_the_verdict() -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        for message in stream(0, 1, 2, 3):
            await socket.send(message)
        await (await socket.ping())
        socket.transport.abort()

    status, output = check_against(script)
    assert status == 0
    assert output.count("-- connecting") == 1
    assert "-- closed 1006: the connection was lost" in output


@pytest.mark.parametrize(
    ("variable", "header", "sent"),
    [
        ("NEXUS_TOKEN", "Authorization", "Token abc"),
        ("NEXUS_VIEWER_COOKIE", "Cookie", "abc"),
    ],
)
def test_credential_of_the_environment_is_sent_and_a_broken_one_is_not(
    variable: str, header: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[str | None] = []

    async def script(socket: ServerConnection, number: int) -> None:
        assert socket.request is not None
        received.append(socket.request.headers.get(header))
        await sending(*stream(0, 1, 2, 3))(socket, number)

    monkeypatch.setenv(variable, "abc")
    status, output = check_against(script)
    assert status == 0
    assert "abc" not in output
    monkeypatch.setenv(variable, "a\r\nX: y")
    assert check_against(script)[0] == 2
    monkeypatch.delenv(variable)
    assert check_against(script)[0] == 0
    assert received == [sent, None]


def test_who_is_not_known_is_told_how_to_get_a_token() -> None:
    async def script(socket: ServerConnection, number: int) -> None:
        await socket.close(4401, "log in first")

    status, output = check_against(script)
    assert status == 2
    assert "closed 4401: log in first (POST /api/v1/tokens gives a token" in output
    assert "NEXUS_TOKEN" in output


def follow(script: Script, replay: str = "0") -> tuple[Any, Any]:
    """A follower in this process, as the screen uses it: how it ended, and itself."""

    async def run() -> tuple[Any, Any]:
        async with served(script) as address:
            options = viewer.Options(replay=replay)
            follower = viewer.Follower(viewer.Address.of(address), options)
            return await follower.run(), follower

    ending, follower = within_deadline(run())
    return ending, follower


def test_the_screen_comes_back_with_its_cursor_after_a_gap() -> None:
    async def script(socket: ServerConnection, number: int) -> None:
        await sending(*stream(*((0, 1, 3) if number == 1 else (2, 3))))(socket, number)

    ending, follower = follow(script)
    assert ending is viewer.Ending.DONE
    assert follower.state.verdict is viewer.Verdict.VERIFIED
    assert follower.link.reconnects == 1
    assert [problem.kind for problem in follower.state.problems] == [viewer.ProblemKind.GAP]


def test_silence_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "SILENCE_SECONDS", 0.2)

    async def script(socket: ServerConnection, number: int) -> None:
        if number == 1:
            await socket.send(stream(0)[0])
            await socket.wait_closed()
        else:
            await sending(*stream(1, 2, 3))(socket, number)

    ending, follower = follow(script)
    assert ending is viewer.Ending.DONE
    assert follower.state.verdict is viewer.Verdict.VERIFIED


def test_leaving_a_server_in_full_flow_does_not_wait_out_the_time_for_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer, "CLOSING_SECONDS", 2.0 * DEADLINE_SECONDS)
    ops = [{"op": "replace", "path": "/count", "value": 2}]
    flood = [event("activity_patch", number, ops=ops) for number in range(2, 200)]
    last = event("final_snapshot", 200, execution={"status": "running", "count": 2})

    async def script(socket: ServerConnection, number: int) -> None:
        begun = stream(0, 1) if number == 1 else []
        await sending(*begun, *flood, last)(socket, number)

    _, follower = follow(script, replay="1001-1")
    assert follower.state.verdict is viewer.Verdict.VERIFIED
    assert follower.link.reconnects == 1


def test_a_server_that_does_not_close_after_the_final_snapshot_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer, "CLOSING_SECONDS", 0.2)

    async def script(socket: ServerConnection, _: int) -> None:
        for message in stream(0, 1, 2, 3):
            await socket.send(message)
        await socket.wait_closed()

    assert follow(script)[0] is viewer.Ending.DONE
