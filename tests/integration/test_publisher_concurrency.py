"""Many writers of one execution, each publishing its own events as they are committed."""

import threading

import pytest
from django.db import connection

from executions.recording import changing
from streaming.activity_update_publisher import publisher
from streaming.stream import stream_key
from tests.integration.listening import announcements_heard
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import assert_log_is_whole

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

WRITERS = 4
CHANGES = 25


def write(execution_id: str, writer: int, losses: threading.Event, valkey: ValkeyServer) -> None:
    for number in range(1, CHANGES + 1):
        with changing(execution_id) as change:
            change.activity(f"step-{writer}").progress = number / CHANGES
        if losses.is_set() and writer == 0 and number % 5 == 0:
            valkey.client.delete(stream_key(execution_id))
    connection.close()


@pytest.mark.parametrize("stream_is_lost_now_and_then", [False, True])
def test_stream_is_the_log_and_each_event_is_announced_once_in_order(
    valkey: ValkeyServer, stream_is_lost_now_and_then: bool
) -> None:
    losses = threading.Event()
    if stream_is_lost_now_and_then:
        losses.set()
    execution_id = an_execution(*(f"step-{writer}" for writer in range(WRITERS)))
    key = stream_key(execution_id)
    with announcements_heard(valkey, key) as heard_since:
        threads = [
            threading.Thread(target=write, args=(execution_id, writer, losses, valkey))
            for writer in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert publisher().backlog_size == 0
        if stream_is_lost_now_and_then:
            publisher().fill(execution_id)
            assert publisher().wait_until_filled(20)
        heard = heard_since()
    log = assert_log_is_whole(execution_id)
    assert len(log) == WRITERS * CHANGES + 1
    assert valkey.stream_ids(key) == [str(event.event_id) for event in log]
    texts = [event.message for event in log[1:]]
    if stream_is_lost_now_and_then:
        assert set(heard) >= set(texts)
    else:
        assert heard == texts
