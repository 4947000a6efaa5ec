"""Records on disk: what was written by several processes is read as it was, cut lines left out."""

import time
from pathlib import Path

from tests.prove.recorder import ConnectionRecorder, Recorder, load
from tests.prove.records import (
    Access,
    Connection,
    Fault,
    FaultKind,
    Habit,
    Outcome,
    Reading,
    Records,
    Sample,
    Write,
)


def a_connection(client: str, asked_at: float, replay: str | None = None) -> Connection:
    return Connection(client, "viewer", Habit.STAYS, "web-0", "e", replay, asked_at)


def test_everything_recorded_is_read_again(tmp_path: Path) -> None:
    write = Write(1.0, "writer-0", "e", "mark:1:", Outcome.UNKNOWN, None)
    committed = Write(1.0, "writer-0", "e", "mark:1:", Outcome.COMMITTED, 1.5)
    killed = Write(0.5, "writer-0", "e", "mark:2:", Outcome.UNKNOWN, None)
    fault = Fault(2.0, 3.0, FaultKind.VALKEY_CUT, "5 connections")
    access = Access(0.1, "viewer", True, frozenset({"e"}))
    reading = Reading(4.0, "viewer", "e", 200, "1-0", {"status": "running"}, 3.9)
    sample = Sample(4.5, "web-0", 12_345)

    stage = Recorder(tmp_path / "stage.jsonl")
    for item in (fault, access, reading, sample):
        stage.add(item)
    stage.held("e", [("1-0", "zero")], ("1-0", {"status": "running"}), [("1-0", "zero")])
    stage.held("nothing", [], None, [])
    stage.run(
        seed=7, heartbeat_seconds=1.0, began_at=0.0, settled_at=5.0, ended_at=6.0,
        secrets={"e": "s"},
    )  # fmt: skip
    stage.close()
    writer = Recorder(tmp_path / "writer-0.jsonl")
    for each in (write, committed, killed):
        writer.add(each)
    writer.close()
    clients = ConnectionRecorder(tmp_path / "clients-0.jsonl")
    late = clients.asked(a_connection("late", 3.0, "1-0"))
    early = clients.asked(a_connection("early", 2.0))
    clients.opened(early, 2.1, "web-9")
    clients.frame(early, 2.2, "zero")
    clients.frame(late, 3.1, "zero")
    clients.frame(early, 2.3, "one")
    clients.not_reading(early, 2.4, 2.6)
    clients.ended(early, 2.7, 1000, "done", left_by_client=False)
    clients.ended(late, 3.2, None, "", left_by_client=True)
    assert clients.connections == 2
    clients.close()

    early_connection, late_connection = a_connection("early", 2.0), a_connection("late", 3.0, "1-0")
    early_connection.opened_at, early_connection.web = 2.1, "web-9"
    early_connection.frames = [(2.2, "zero"), (2.3, "one")]
    early_connection.not_reading = [(2.4, 2.6)]
    early_connection.ended_at = 2.7
    early_connection.close_code, early_connection.close_reason = 1000, "done"
    late_connection.frames = [(3.1, "zero")]
    late_connection.ended_at, late_connection.left_by_client = 3.2, True
    assert load(tmp_path) == Records(
        seed=7,
        heartbeat_seconds=1.0,
        began_at=0.0,
        settled_at=5.0,
        ended_at=6.0,
        writes=[killed, committed],
        faults=[fault],
        access=[access],
        connections=[early_connection, late_connection],
        readings=[reading],
        samples=[sample],
        secrets={"e": "s"},
        logs={"e": [("1-0", "zero")], "nothing": []},
        documents={"e": ("1-0", {"status": "running"})},
        streams={"e": [("1-0", "zero")], "nothing": []},
    )


def test_text_that_many_connections_got_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "clients-0.jsonl"
    clients = ConnectionRecorder(path)
    numbers = [clients.asked(a_connection(f"client-{number}", 1.0)) for number in range(10)]
    for number in numbers:
        clients.frame(number, time.monotonic(), "a long text")
    clients.close()
    assert path.read_text().count("a long text") == 1
    texts = [text for each in load(tmp_path).connections for _, text in each.frames]
    assert texts == ["a long text"] * 10
    assert len({id(text) for text in texts}) == 1


def test_line_that_a_killed_writer_left_unfinished_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "writer-0.jsonl"
    writer = Recorder(path)
    for number in (1, 2):
        writer.add(Write(1.0, "writer-0", "e", f"mark:{number}:", Outcome.UNKNOWN, None))
    writer.close()
    path.write_bytes(path.read_bytes()[:-5])
    assert [write.marker for write in load(tmp_path).writes] == ["mark:1:"]
