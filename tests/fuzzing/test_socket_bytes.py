"""The WebSocket endpoint against arbitrary bytes, on TCP, to the server that production runs.

Whatever one client sends, the server answers the next one, keeps its memory, and writes no
trace into its log; and the connection itself ends, or goes on, as RFC 6455 says.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.close_codes import CloseCode
from tests import settings
from tests.fuzzing.effort import examples
from tests.fuzzing.raw_socket import (
    Opcode,
    RawConnection,
    connected,
    frame_bytes,
    handshake_bytes,
)
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import session_environment, web_running
from tests.truth import nobody_listening

pytestmark = pytest.mark.django_db(transaction=True)

EXECUTION_ID: Final = "fuzzed"
STREAM: Final = f"/api/v1/ws/executions/{EXECUTION_ID}"
GROWTH_BYTES: Final = 32 * 1024 * 1024
LARGEST_MESSAGE: Final = 64 * 1024
COMPLAINT: Final = re.compile(r"Traceback|level='(?:error|critical)'|Unhandled")
OUR_CODES: Final = {each.code for each in CloseCode}


class FuzzedServer:
    """A running server, what it wrote, and how much memory it holds."""

    def __init__(self, port: int, process_id: int, log: Path) -> None:
        self.port = port
        self._statm = Path(f"/proc/{process_id}/statm")
        self._log = log
        self._read = 0

    def resident_bytes(self) -> int:
        return int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def complaints(self) -> list[str]:
        """What was logged since the last call that tells of a fault of the server's."""
        told = self._log.read_bytes()[self._read :].decode(errors="replace")
        self._read += len(told.encode())
        return [line for line in told.splitlines() if COMPLAINT.search(line)]

    def streams_to_a_good_client(self) -> None:
        """Somebody who behaves is let in and gets the document, in good time."""
        with connected(self.port) as client:
            client.send(handshake_bytes(STREAM))
            assert client.status() == 101
            frame = client.frame()
            assert frame.opcode == Opcode.TEXT
            assert b'"initial_snapshot"' in frame.payload


@pytest.fixture(scope="module")
def running(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[FuzzedServer]:
    environment = session_environment(NEXUS_OPEN_READING="1", NEXUS_HEARTBEAT_SECONDS="0.2")
    log = settings.SESSION_DIR / "fuzzed-web.log"
    with web_running(log, environment) as web:
        port = urlsplit(web.http).port
        assert port is not None
        yield FuzzedServer(port, web.process.pid, log)


@pytest.fixture
def server(running: FuzzedServer) -> Iterator[FuzzedServer]:
    with nobody_listening():
        an_execution("step", execution_id=EXECUTION_ID)
    running.streams_to_a_good_client()
    running.complaints()
    before = running.resident_bytes()
    yield running
    running.streams_to_a_good_client()
    assert running.resident_bytes() - before < GROWTH_BYTES
    assert not running.complaints()


# Instead of a handshake

noise = st.binary(max_size=200)


request_lines = st.sampled_from(
    [
        *(b"GET / HTTP/1.1", b"GET", b"POST /api/v1/tokens HTTP/1.1", b"PRI * HTTP/2.0"),
        *(b"GET http://[::1 HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET /%00 HTTP/9.9"),
        *(
            b"GET " + STREAM.encode() + b" HTTP/1.0",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
    ]
)
header_lines = st.sampled_from(
    [
        *(b"Host: localhost", b"Content-Length: -1", b"Content-Length: 99999999999999999999"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", b": x", b"\0: \0", b" folded"),
        *(b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 3\r\nContent-Length: 4"),
        *(b"Expect: 100-continue", b"Cookie: sessionid=\xff", b"X-Long: " + b"x" * 20_000),
    ]
)
requests = st.builds(
    lambda line, headers, rest: b"\r\n".join([line, *headers, b"", rest]),
    request_lines | noise,
    st.lists(header_lines | noise, max_size=5),
    noise,
)


@examples(60)
@given(sent=noise | requests)
def test_any_bytes_instead_of_a_handshake(server: FuzzedServer, sent: bytes) -> None:
    with connected(server.port) as client:
        client.send(sent)
    with connected(server.port) as client:
        # What began may lack its end: with this it is a request, or none at all.
        client.send(sent + b"\r\n\r\n0\r\n\r\n")


# Handshakes

texts = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(quote)
targets = st.sampled_from(
    [
        *(STREAM, STREAM, STREAM + "/", STREAM.upper(), "//" + STREAM, STREAM + "%00"),
        *(STREAM + "%2f..", "/api/v1/ws/executions/%ff", "/api/v1/ws/executions/" + "x" * 3_000),
        *("/api/v1/ws/executions/..%2f", "*", "/", "/api/v1/ws/executions/", "/admin/"),
    ]
) | anything.map("/api/v1/ws/executions/{}".format)
event_ids = st.builds("{}-{}".format, *[st.integers(0, 10**16 - 1) | st.integers()] * 2)
replays = event_ids | anything | st.sampled_from(["", "0", "00", "-", "0-0", "%00", "9" * 2_000])
parameters = st.tuples(st.sampled_from(["replay", "replay", "Replay", "ticket", "x"]), replays)
queries = (
    st.lists(parameters.map("=".join), max_size=4).map("&".join) | anything | st.just("&" * 3_000)
)
handshake_headers = st.fixed_dictionaries(
    {},
    optional={
        "host": texts | st.sampled_from(["127.0.0.1", "evil.example", "[::1", "a:b"]),
        "upgrade": texts | st.sampled_from(["WebSocket", "websocket, h2c", "h2c"]),
        "connection": texts | st.sampled_from(["keep-alive, Upgrade", "close"]),
        "sec_websocket_version": texts
        | st.sampled_from(["8", "0", "12", "-1", "13, 8", "9" * 400]),
        "sec_websocket_key": texts | st.none() | st.just("A" * 3_000),
        "sec_websocket_protocol": texts | st.sampled_from(["a, b", ",", "nexus.ticket.x, nexus"]),
        "sec_websocket_extensions": texts
        | st.sampled_from(
            [
                "permessage-deflate; client_max_window_bits=99",
                "permessage-deflate; server_max_window_bits",
                'permessage-deflate; x="',
                "permessage-deflate, permessage-deflate",
            ]
        ),
        "origin": texts | st.sampled_from(["null", "http://localhost", "http://[", "file://"]),
        "cookie": texts | st.sampled_from(["sessionid=x", "sessionid=" + "\xff" * 50, "=;=;"]),
        "authorization": texts
        | st.sampled_from(["Token nexus_x", "Token \xff", "Basic ====", "Token "]),
        "content_length": st.sampled_from(["0", "5", "-1", "x"]),
        "x_forwarded_for": texts,
        "daphne_root_path": texts | st.just("0"),
    },
)


@examples(120)
@given(target=targets, query=queries, headers=handshake_headers)
def test_any_handshake_is_refused_or_answered_with_a_stream_or_a_code_of_the_table(
    server: FuzzedServer, target: str, query: str, headers: dict[str, str | None]
) -> None:
    with connected(server.port) as client:
        client.send(handshake_bytes(f"{target}?{query}" if query else target, **headers))
        if "content_length" in headers:
            return  # the server may wait for a body
        status = client.status()
        if status != 101:
            assert status is None or 200 <= status < 500, status
            return
        for frame in client.frames():
            if frame.opcode == Opcode.TEXT:
                return
            assert frame.close_code in OUR_CODES


# Frames


@dataclass(frozen=True)
class Sent:
    """A client's frame, fit or not."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    length_bytes: int | None = None

    def encoded(self) -> bytes:
        return frame_bytes(
            self.opcode,
            self.payload,
            fin=self.fin,
            rsv=self.rsv,
            mask=b"\x37\xfa\x21\x3d" if self.masked else None,
            length_bytes=self.length_bytes,
        )

    @property
    def is_written_well(self) -> bool:
        shortest = 0 if len(self.payload) < 126 else 2 if len(self.payload) < 2**16 else 8
        return (
            self.masked
            and self.rsv == 0
            and self.opcode in Opcode.KNOWN
            and self.length_bytes in (None, shortest)
            and (self.opcode < Opcode.CLOSE or (self.fin and len(self.payload) < 126))
        )


def codes_expected(frames: list[Sent]) -> set[int] | None:
    """The close codes that may answer these frames (RFC 6455); None where the stream goes on.

    Text is judged where its message ends: a server may close earlier.
    """
    begun: Sent | None = None
    message = b""
    for frame in frames:
        if not frame.is_written_well:
            return {1002, 1009}
        if frame.opcode == Opcode.CLOSE:
            return codes_of_close(frame.payload)
        if frame.opcode > Opcode.CLOSE:
            continue
        if (frame.opcode == Opcode.CONTINUATION) == (begun is None):
            return {1002}
        begun = begun or frame
        message += frame.payload
        if len(message) > LARGEST_MESSAGE:
            return {1009}
        if begun.opcode == Opcode.TEXT and not is_text(message, whole=frame.fin):
            return {1007}
        if frame.fin:
            begun, message = None, b""
    return None


def codes_of_close(payload: bytes) -> set[int]:
    if not payload:
        return {1000}
    code = int.from_bytes(payload[:2], "big")
    acceptable = code in {*range(1000, 1004), *range(1007, 1015)} or 3000 <= code <= 4999
    if len(payload) == 1 or not acceptable:
        return {1002}
    return {1000, code} if is_text(payload[2:], whole=True) else {1007, 1002}


def is_text(encoded: bytes, *, whole: bool) -> bool:
    try:
        encoded.decode()
    except UnicodeDecodeError as error:
        return not whole and error.reason == "unexpected end of data"
    return True


payloads = st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
sizes = st.sampled_from([0, 125, 126, 127, 65535, 65536, 65537, 200_000]).map(
    lambda size: b"x" * size
)
good_frames = st.builds(
    Sent,
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION]),
    st.text(max_size=20).map(str.encode) | sizes,
    fin=st.booleans(),
) | st.builds(Sent, st.sampled_from([Opcode.PING, Opcode.PONG]), payloads)
any_frames = st.builds(
    Sent,
    st.integers(0, 15),
    payloads | sizes,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
    masked=st.sampled_from([True, True, True, False]),
    length_bytes=st.sampled_from([None, None, None, 8]),
)
closes = st.builds(
    Sent,
    st.just(Opcode.CLOSE),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason, st.integers(0, 65535), payloads
    )
    | st.sampled_from([1000, 1001, 1005, 1006, 1015, 4000]).map(
        lambda code: code.to_bytes(2, "big")
    )
    | st.binary(max_size=1),
)
frame_lists = st.lists(good_frames | any_frames | closes, max_size=6) | st.lists(
    good_frames, max_size=6
)


@examples(120)
@given(
    frames=frame_lists, cut=st.none() | st.integers(1, 40), chunk=st.sampled_from([1, 7, 100_000])
)
def test_any_frames_end_the_connection_or_leave_it_as_rfc_6455_says(
    server: FuzzedServer, frames: list[Sent], cut: int | None, chunk: int
) -> None:
    sent = b"".join(frame.encoded() for frame in frames)
    with connected(server.port) as client:
        client.send(handshake_bytes(STREAM))
        assert client.status() == 101
        if cut is not None:
            # Ends in the middle: the connection is broken off, and that is all.
            send_in_chunks(client, sent[:-cut], chunk)
            return
        send_in_chunks(client, sent, chunk)
        expected = codes_expected(frames)
        if expected is None:
            client.send(frame_bytes(Opcode.PING, b"are you well?"))
            client.wait_for_pong(b"are you well?")
            return
        # A connection that has failed may end without a close frame (section 7.1.7).
        for frame in client.frames():
            if frame.opcode == Opcode.CLOSE:
                assert frame.close_code in expected
                client.send(frame_bytes(Opcode.CLOSE, frame.payload))
        client.ends()


def send_in_chunks(client: RawConnection, sent: bytes, chunk: int) -> None:
    """So large pieces, that the server reads them one by one; a long rest at once."""
    for at in range(0, min(len(sent), 50 * chunk), chunk):
        client.send(sent[at : at + chunk])
    client.send(sent[50 * chunk :])


@examples(40)
@given(sent=st.binary(min_size=1, max_size=300))
def test_any_bytes_after_the_handshake(server: FuzzedServer, sent: bytes) -> None:
    with connected(server.port) as client:
        client.send(handshake_bytes(STREAM))
        assert client.status() == 101
        client.send(sent)
        for _, frame in zip(range(1), client.frames(), strict=False):
            assert frame.opcode != Opcode.CLOSE or frame.close_code in {
                1000,
                1002,
                1007,
                1009,
                4400,
            }


@examples(20)
@given(
    lengths=st.sampled_from([2**16 + 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]),
    opcode=st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
)
def test_a_frame_that_announces_more_than_a_message_may_have_is_refused_at_its_head(
    server: FuzzedServer, lengths: int, opcode: int
) -> None:
    with connected(server.port) as client:
        client.send(handshake_bytes(STREAM))
        assert client.status() == 101
        head = bytes([0x80 | opcode, 0x80 | 127]) + lengths.to_bytes(8, "big") + b"\1\2\3\4"
        client.send(head + b"x" * 1_000)
        for frame in client.frames():
            assert frame.opcode != Opcode.CLOSE or frame.close_code in {1002, 1009}
