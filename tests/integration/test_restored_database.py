"""The database restored to an older state under a running product: nobody is left confused."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonpatch
import pytest

from executions.document import JsonObject
from executions.event_log import read_events
from executions.recording import changing
from executions.signals import writing_begins
from executions.snapshots import read_snapshot
from executions.statuses import ExecutionStatus
from streaming.activity_update_publisher import publisher
from streaming.stream import stream_key
from tests.samples import an_execution
from tests.servers.backups import back_up, restore
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer
from tests.truth import assert_log_is_whole, assert_same_document, logged_ids, nobody_listening
from tests.viewers import Viewer, Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def execution_id(valkey: ValkeyServer) -> str:
    return an_execution("step")


@pytest.fixture
def backup(tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """Backs up; what it returns restores."""

    def take() -> Callable[[], None]:
        target = tmp_path / "backup"
        back_up(target)
        return lambda: restore(target)

    return take


Backup = Callable[[], Callable[[], None]]


def change(execution_id: str, times: int) -> None:
    for number in range(times):
        with changing(execution_id) as changed:
            sequence = changed.execution.head_sequence
            changed.activity("step").progress = (sequence + 1) / 1000 + number / 1_000_000


def finish(execution_id: str) -> None:
    with changing(execution_id) as changed:
        changed.execution.status = ExecutionStatus.COMPLETED


def seen(event_id: str) -> Callable[[Viewer], bool]:
    return lambda viewer: event_id in viewer.event_ids


def head_of(execution_id: str) -> str:
    return logged_ids(execution_id)[-1]


def resyncs(viewer: Viewer) -> list[str]:
    return [message["resync"]["reason"] for message in viewer.messages if "resync" in message]


def document_of(viewer: Viewer, document: JsonObject | None = None) -> JsonObject:
    """What the viewer shows, as a client that obeys the protocol; checks the order."""
    cursor: int | None = None
    for message in viewer.messages:
        if message["type"] == "heartbeat":
            continue
        sequence = int(message["event_id"].split("-")[1])
        if message["type"] == "initial_snapshot":
            assert "resync" in message or cursor is None
            document = message["execution"]
        else:
            assert cursor is None or sequence == cursor + 1
            if message["type"] == "activity_patch":
                document = jsonpatch.apply_patch(document, message["ops"])
            else:
                assert document == message["execution"]
        cursor = sequence
    assert document is not None
    return document


def assert_true(viewer: Viewer, execution_id: str, start: JsonObject | None = None) -> None:
    snapshot = read_snapshot(execution_id)
    assert snapshot is not None
    assert_same_document(document_of(viewer, start), snapshot.document)


def assert_stream_is_the_log(valkey: ValkeyServer, execution_id: str) -> None:
    assert publisher().wait_until_filled(20)
    wait_until(lambda: valkey.stream_ids(stream_key(execution_id)) == logged_ids(execution_id))
    log = assert_log_is_whole(execution_id)
    entries = valkey.client.xrange(stream_key(execution_id))
    assert entries == [(str(event_id), {"message": text}) for event_id, text in log]


@pytest.mark.parametrize(
    ("written_since", "published"), [(0, True), (1, True), (5, False), (9, True)]
)
def test_viewers_that_stay_and_return_are_told_and_end_with_the_truth(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers, execution_id: str,
    backup: Backup, written_since: int, published: bool,
) -> None:  # fmt: skip
    change(execution_id, 4)
    staying = viewers.open_many([open_web.stream(execution_id), open_web.stream(execution_id, "0")])
    take_back = backup()
    kept = read_events(execution_id, -1, 100)
    change(execution_id, 5)
    lost = logged_ids(execution_id)[len(kept) :]
    for viewer in staying:
        viewer.wait_until(seen(lost[-1]))
    take_back()
    assert logged_ids(execution_id) == [str(event.event_id) for event in kept]
    if published:
        change(execution_id, written_since)
    else:
        with nobody_listening():
            change(execution_id, written_since)
    for viewer in staying:
        viewer.wait_until(lambda viewer: resyncs(viewer) != [])
        viewer.wait_until(seen(head_of(execution_id)))
    returning = viewers.open_many([open_web.stream(execution_id, cursor) for cursor in lost])
    for viewer in returning:
        viewer.wait_until(lambda viewer: resyncs(viewer) == ["unknown"])
    true_cursor = viewers.open(open_web.stream(execution_id, str(kept[0].event_id)))
    from_the_beginning = viewers.open(open_web.stream(execution_id, "0"))
    change(execution_id, 3)
    finish(execution_id)
    for viewer in (*staying, *returning, true_cursor, from_the_beginning):
        assert viewer.wait_for_close() == 1000
        start = None if viewer is not true_cursor else json.loads(kept[0].message)["execution"]
        assert_true(viewer, execution_id, start)
    assert [resyncs(viewer) for viewer in staying] == [["unknown"]] * 2
    assert [resyncs(viewer) for viewer in (true_cursor, from_the_beginning)] == [[], []]
    assert from_the_beginning.event_ids == logged_ids(execution_id)
    assert_stream_is_the_log(valkey, execution_id)


def test_execution_that_had_ended_goes_on(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers, execution_id: str, backup: Backup
) -> None:
    change(execution_id, 2)
    take_back = backup()
    finish(execution_id)
    lost_end = head_of(execution_id)
    take_back()
    coming = [
        viewers.open(open_web.stream(execution_id, replay)) for replay in (None, "0", lost_end)
    ]
    head = head_of(execution_id)
    for viewer in coming:
        viewer.wait_until(seen(head))
    change(execution_id, 1)
    finish(execution_id)
    for viewer in coming:
        assert viewer.wait_for_close() == 1000
        assert_true(viewer, execution_id)
        assert lost_end not in viewer.event_ids
    assert [resyncs(viewer) for viewer in coming] == [[], [], ["unknown"]]
    assert_stream_is_the_log(valkey, execution_id)


def test_execution_that_had_ended_otherwise_is_shown_as_it_ended(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers, execution_id: str, backup: Backup
) -> None:
    change(execution_id, 2)
    take_back = backup()
    change(execution_id, 1)
    finish(execution_id)
    take_back()
    with nobody_listening():
        change(execution_id, 1)
        with changing(execution_id) as changed:
            changed.execution.status = ExecutionStatus.FAILED
    viewer = viewers.open(open_web.stream(execution_id, "0"))
    assert viewer.wait_for_close() == 1000
    assert viewer.messages[-1]["execution"]["status"] == "failed"
    assert viewer.event_ids == logged_ids(execution_id)
    assert_stream_is_the_log(valkey, execution_id)


def test_execution_begun_since_is_gone_for_its_viewers(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers, backup: Backup
) -> None:
    take_back = backup()
    execution_id = an_execution("step")
    change(execution_id, 3)
    viewer = viewers.open(open_web.stream(execution_id))
    viewer.wait_until(seen(head_of(execution_id)))
    take_back()
    assert viewer.wait_for_close() == 4404
    wait_until(lambda: not valkey.client.exists(stream_key(execution_id)))


@pytest.mark.parametrize("written_since", [0, 2, 4])
def test_worker_that_begins_brings_streams_back_to_their_logs(
    valkey: ValkeyServer, execution_id: str, backup: Backup, written_since: int
) -> None:
    change(execution_id, 2)
    take_back = backup()
    change(execution_id, 4)
    take_back()
    with nobody_listening():
        change(execution_id, written_since)
    writing_begins.send(sender=None)
    assert_stream_is_the_log(valkey, execution_id)


def test_event_is_never_put_after_one_of_a_lost_log(
    valkey: ValkeyServer, execution_id: str, backup: Backup
) -> None:
    """Its sequence is the next, and all before it were written while nobody published."""
    change(execution_id, 2)
    take_back = backup()
    change(execution_id, 4)
    take_back()
    with nobody_listening():
        change(execution_id, 4)
    change(execution_id, 1)
    assert_stream_is_the_log(valkey, execution_id)
