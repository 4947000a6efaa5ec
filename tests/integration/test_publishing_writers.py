"""Processes that write and publish the same executions at once, with viewers watching."""

import pytest

from streaming.stream import stream_key
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment
from tests.truth import assert_log_is_whole, fold
from tests.viewers import Viewers
from tests.writers import ensure, writers_running

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("writers", "changes"), [(2, 150), (4, 80)])
def test_streams_equal_the_event_logs_and_viewers_see_them_once_in_order(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers, writers: int, changes: int
) -> None:
    ids = [f"contested-{number}" for number in range(8)]
    for execution_id in ids:
        ensure(execution_id)
    options = ("--changes", str(changes), "--finish", "--publish")
    seeds = range(1, writers + 1)
    with writers_running(session_environment(), ids, seeds, *options) as running:
        opened = viewers.open_many([open_web.stream(each, "0") for each in ids])
        for writer in running:
            writer.counts()
        for writer in running:
            writer.go_on()
        for writer in running:
            writer.ended()
    for execution_id, viewer in zip(ids, opened, strict=True):
        log = [str(event.event_id) for event in assert_log_is_whole(execution_id)]
        assert viewer.wait_for_close() == 1000
        assert viewer.event_ids == log
        fold([each for each in viewer.messages if each["type"] != "heartbeat"])
        assert valkey.stream_ids(stream_key(execution_id)) == log
