"""kill -9 between a commit and its publication, a hundred times over."""

import subprocess
import sys
from functools import partial

import pytest

from executions.recording import NewActivity, create_execution
from executions.signals import writing_begins
from executions.statuses import ActivityStatus, ExecutionStatus
from streaming.activity_update_publisher import publisher
from streaming.stream import stream_key
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment
from tests.truth import assert_log_is_whole, logged_ids
from tests.viewers import Viewer, Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

KILLS = 100


def executions_of_killed_writers(count: int) -> list[str]:
    """Executions with events that their writers committed and never published."""
    ids = [
        create_execution(
            workflow_id="w",
            workflow_type="W",
            status=ExecutionStatus.RUNNING,
            activities=[
                NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
            ],
        ).execution_id
        for _ in range(count)
    ]
    subprocess.run(
        [sys.executable, "-m", "tests.killed_writer", str(KILLS), *ids],
        env=session_environment(),
        check=True,
        timeout=100,
    )
    return ids


def test_worker_that_comes_back_fills_every_stream_from_its_event_log(
    valkey: ValkeyServer,
) -> None:
    ids = executions_of_killed_writers(20)
    assert any(valkey.stream_ids(stream_key(each)) != logged_ids(each) for each in ids)
    writing_begins.send(sender=None)
    assert publisher().wait_until_filled(20)
    for execution_id in ids:
        assert valkey.stream_ids(stream_key(execution_id)) == logged_ids(execution_id)
        assert_log_is_whole(execution_id)


def test_viewer_that_comes_back_sees_every_event_and_its_stream_is_filled(
    valkey: ValkeyServer, open_web: WebServer, viewers: Viewers
) -> None:
    ids = executions_of_killed_writers(20)
    for execution_id in ids:
        see_everything(viewers.open(open_web.stream(execution_id, "0")), execution_id)
        key, expected = stream_key(execution_id), logged_ids(execution_id)
        wait_until(partial(stream_holds, valkey, key, expected))


def see_everything(viewer: Viewer, execution_id: str) -> None:
    expected = logged_ids(execution_id)
    viewer.wait_until(lambda each: len(each.event_ids) >= len(expected))
    assert viewer.event_ids == expected


def stream_holds(valkey: ValkeyServer, key: str, ids: list[str]) -> bool:
    return valkey.stream_ids(key) == ids
