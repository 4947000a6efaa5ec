"""The records of a run as JSON lines in a directory: written as things happen, read at the end.

Each process has files of its own, to which it only appends: what a process that is killed has
written stays. Every line is a list whose first member says what it is.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.prove.records import (
    Access,
    Connection,
    Fault,
    Reading,
    Records,
    Sample,
    Write,
)

_KINDS: Final = {kind.__name__: kind for kind in (Access, Fault, Reading, Sample, Write)}
_RUN: Final = "run"
_TEXT: Final = "text"
_ASKED: Final = "asked"
_OPENED: Final = "opened"
_FRAME: Final = "frame"
_NOT_READING: Final = "not reading"
_ENDED: Final = "ended"
_HELD: Final = "held"


class Recorder:
    """Appends to one file. Anything written is in the file's hands once `flush` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def add(self, item: Access | Fault | Reading | Sample | Write) -> None:
        self.line(type(item).__name__, item)

    def held(
        self,
        execution_id: str,
        log: list[tuple[str, str]],
        document: tuple[str, Any] | None,
        stream: list[tuple[str, str]],
    ) -> None:
        """What the database and the stream hold of an execution at the end."""
        self.line(_HELD, execution_id, log, document, stream)

    def run(self, **fields: Any) -> None:
        """Records' own fields."""
        self.line(_RUN, fields)

    def line(self, *members: Any) -> None:
        self._file.write(msgspec.json.encode(members) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class ConnectionRecorder(Recorder):
    """Records connections, and each text that came over several of them once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._texts: dict[bytes, int] = {}
        self._connections = 0

    @property
    def connections(self) -> int:
        """How many have been asked for."""
        return self._connections

    def asked(self, connection: Connection) -> int:
        """A number for the connection, whose further fields are recorded by the other methods."""
        self._connections += 1
        self.line(_ASKED, self._connections, connection)
        return self._connections

    def opened(self, number: int, at: float, web: str) -> None:
        self.line(_OPENED, number, at, web)

    def frame(self, number: int, at: float, text: str) -> None:
        # The texts themselves would fill this process' memory in a long run.
        digest = blake2b(text.encode(), digest_size=16).digest()
        known = self._texts.get(digest)
        if known is None:
            known = self._texts[digest] = len(self._texts)
            self.line(_TEXT, known, text)
        self.line(_FRAME, number, at, known)

    def not_reading(self, number: int, begin: float, end: float) -> None:
        self.line(_NOT_READING, number, begin, end)

    def ended(
        self, number: int, at: float, code: int | None, reason: str, *, left_by_client: bool
    ) -> None:
        self.line(_ENDED, number, at, code, reason, left_by_client)


def load(directory: Path) -> Records:
    """All that the processes of a run have recorded there."""
    records = Records(seed=0, heartbeat_seconds=0.0, began_at=0.0, settled_at=0.0)
    shared_texts: dict[str, str] = {}
    writes: dict[str, Write] = {}
    for path in sorted(directory.glob("*.jsonl")):
        _load_file(path, records, writes, shared_texts)
    records.writes = sorted(writes.values(), key=lambda write: write.at)
    for moments in (records.faults, records.access, records.readings, records.samples):
        moments.sort(key=lambda item: item.at)
    records.connections.sort(key=lambda connection: connection.asked_at)
    return records


def _load_file(
    path: Path, records: Records, writes: dict[str, Write], shared_texts: dict[str, str]
) -> None:
    connections: dict[int, Connection] = {}
    texts: list[str] = []
    for kind, *members in _lines(path):
        match kind:
            case "run":
                for name, value in members[0].items():
                    setattr(records, name, value)
            case "held":
                execution_id, log, document, stream = members
                records.logs[execution_id] = [_pair(shared_texts, entry) for entry in log]
                records.streams[execution_id] = [_pair(shared_texts, entry) for entry in stream]
                if document is not None:
                    records.documents[execution_id] = (document[0], document[1])
            case "text":
                texts.append(shared_texts.setdefault(members[1], members[1]))
            case "asked":
                connection = msgspec.convert(members[1], Connection)
                connections[members[0]] = connection
                records.connections.append(connection)
            case "opened":
                opened = connections[members[0]]
                opened.opened_at, opened.web = members[1:]
            case "frame":
                connections[members[0]].frames.append((members[1], texts[members[2]]))
            case "not reading":
                connections[members[0]].not_reading.append((members[1], members[2]))
            case "ended":
                ended = connections[members[0]]
                ended.ended_at, ended.close_code, ended.close_reason = members[1:4]
                ended.left_by_client = members[4]
            case "Write":
                write = msgspec.convert(members[0], Write)
                writes[write.marker] = write
            case _:
                item = msgspec.convert(members[0], _KINDS[kind])
                _list_of(records, kind).append(item)


def _list_of(records: Records, kind: str) -> list[Any]:
    lists: dict[str, list[Any]] = {
        "Access": records.access,
        "Fault": records.faults,
        "Reading": records.readings,
        "Sample": records.samples,
    }
    return lists[kind]


def _pair(shared_texts: dict[str, str], entry: list[str]) -> tuple[str, str]:
    return entry[0], shared_texts.setdefault(entry[1], entry[1])


def _lines(path: Path) -> Iterator[list[Any]]:
    decoder = msgspec.json.Decoder(list[Any])
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # the last one of a process that was killed may be cut
                yield decoder.decode(line)
