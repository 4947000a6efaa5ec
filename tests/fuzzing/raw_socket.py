"""A client that sends any bytes, and believes nothing that it is answered.

`Answer.frames` are read by the letter of RFC 6455: AssertionError where the server breaks it.
"""

import json
import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

ANSWER_SECONDS: Final = 5.0
"""How long a server that is well has for any answer."""

_ALLOWED_STANDARD_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})


class Opcode:
    """Of RFC 6455, section 5.2; plain numbers, because those that it leaves open travel too."""

    CONTINUATION: Final = 0
    TEXT: Final = 1
    BINARY: Final = 2
    CLOSE: Final = 8
    PING: Final = 9
    PONG: Final = 10

    KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


@dataclass(frozen=True)
class Frame:
    """A frame as it travelled; a server's are never masked."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int | None:
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None


class ServerClosedError(AssertionError):
    """The server ended the connection where more was expected of it."""


def frame_bytes(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\1\2\3\4",
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame; `length_bytes` (0, 2 or 8) None: the shortest way to write the length."""
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 2**16 else 8
    marked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    match length_bytes:
        case 0:
            head += bytes([marked | size])
        case 2:
            head += bytes([marked | 126]) + struct.pack("!H", size)
        case _:
            head += bytes([marked | 127]) + struct.pack("!Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def handshake_bytes(path: str, **headers: str | None) -> bytes:
    """A handshake for `path`; headers by their names in snake_case, None leaves one out."""
    sent: dict[str, str | None] = {
        "host": "localhost",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec_websocket_version": "13",
        "sec_websocket_key": b64encode(os.urandom(16)).decode(),
        **headers,
    }
    lines = [
        f"{name.replace('_', '-')}: {value}" for name, value in sent.items() if value is not None
    ]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class RawConnection:
    """One TCP connection; reads what comes, within ANSWER_SECONDS for each thing waited for."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = b""

    def send(self, sent: bytes) -> None:
        """Send it all; a server that has closed meanwhile takes no more, which is its right."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(sent)

    def status(self) -> int | None:
        """The status of the answer that comes; None where the server closes without any."""
        try:
            while b"\r\n\r\n" not in self._received:
                self._receive()
        except ServerClosedError:
            assert not self._received, self._received
            return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        version, status = head.split(b" ", 2)[:2]
        assert version.startswith(b"HTTP/1."), head
        return int(status)

    def frame(self) -> Frame:
        """The next frame; raises ServerClosedError where none comes any more."""
        first, second = self._take(2)
        assert not second & 0x80, "a server masks no frame"
        assert not first & 0x70, "no extension was agreed on"
        opcode, size = first & 0x0F, second & 0x7F
        assert opcode in Opcode.KNOWN, opcode
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        assert first & 0x80 or opcode < Opcode.CLOSE, "a control frame is whole"
        frame = Frame(opcode, self._take(size))
        if opcode == Opcode.TEXT:
            json.loads(frame.payload.decode())
        if opcode == Opcode.CLOSE:
            assert_sendable(frame)
        return frame

    def frames(self) -> Iterator[Frame]:
        """Frames up to the server's close, which is the last, or to the connection's end."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                frame = self.frame()
            except ServerClosedError:
                return
            yield frame
            if frame.opcode == Opcode.CLOSE:
                return
            assert time.monotonic() < deadline, "the server goes on and on"

    def wait_for_pong(self, payload: bytes) -> None:
        """Wait for the answer to a ping, past whatever else comes; fails if it does not come."""
        assert any(each == Frame(Opcode.PONG, payload) for each in self.frames()), "no pong"

    def ends(self) -> None:
        """The server ends the connection, whatever it still sends; fails if it does not."""
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            while time.monotonic() < deadline:
                self._receive()
        except ServerClosedError:
            return
        raise AssertionError("the server does not end the connection")

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            self._receive()
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def _receive(self) -> None:
        try:
            received = self._socket.recv(65536)
        except ConnectionResetError:
            received = b""
        except TimeoutError:
            raise AssertionError(f"nothing came for {ANSWER_SECONDS} s") from None
        if not received:
            raise ServerClosedError
        self._received += received


def assert_sendable(close: Frame) -> None:
    """A close frame that may travel (RFC 6455, sections 5.5.1 and 7.4)."""
    assert len(close.payload) != 1
    close.payload[2:].decode()
    code = close.close_code
    assert code is None or code in _ALLOWED_STANDARD_CODES or 3000 <= code <= 4999, code


@contextmanager
def connected(port: int) -> Iterator[RawConnection]:
    """A connection that is broken off at the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as opened:
        yield RawConnection(opened)
