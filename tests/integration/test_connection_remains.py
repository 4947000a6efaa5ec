"""What a connection leaves behind: nothing that only the garbage collector would find.

A look for garbage goes through all objects of the process, and nothing is sent meanwhile.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from executions.recording import changing
from executions.statuses import ExecutionStatus
from streaming.ws.execution_streaming import CLIENT_MESSAGES_ACCEPTED
from tests import settings as test_settings
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.viewers import Viewer, Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

VIEWERS = 5


@pytest.fixture(scope="module")
def counted_web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    """A server that never looks for garbage."""
    environment = session_environment(NEXUS_OPEN_READING="1", NEXUS_HEARTBEAT_SECONDS="0.2")
    application = "tests.integration.counted_application:application"
    log = test_settings.SESSION_DIR / "counted-web.log"
    with web_running(log, environment, application) as server:
        yield server


def objects_of(web: WebServer) -> dict[str, int]:
    with urllib.request.urlopen(f"{web.http}/objects", timeout=10) as answer:  # noqa: S310
        counted: dict[str, int] = json.loads(answer.read())
    return counted


def assert_left(web: WebServer, before: dict[str, int]) -> None:
    """Wait until there is nothing of connections that was not there before."""
    try:
        wait_until(lambda: objects_of(web) == before)
    except AssertionError:
        assert objects_of(web) == before


def leave(viewer: Viewer, execution_id: str) -> None:
    viewer.leave()


def vanish(viewer: Viewer, execution_id: str) -> None:
    viewer.vanish()


def see_the_end(viewer: Viewer, execution_id: str) -> None:
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED
    viewer.wait_for_close()


def talk_too_much(viewer: Viewer, execution_id: str) -> None:
    for _ in range(CLIENT_MESSAGES_ACCEPTED + 1):
        viewer.send("hello")
    viewer.wait_for_close()


@pytest.mark.parametrize("end", [leave, vanish, see_the_end, talk_too_much])
def test_connection_that_ends_leaves_no_garbage(
    counted_web: WebServer,
    valkey: ValkeyServer,
    viewers: Viewers,
    end: Callable[[Viewer, str], Any],
) -> None:
    execution_id = an_execution("fetch")
    before = objects_of(counted_web)
    opened = [viewers.open(counted_web.stream(execution_id)) for _ in range(VIEWERS)]
    for viewer in opened:
        viewer.wait_until(lambda each: "heartbeat" in each.types)
    during = objects_of(counted_web)
    assert {during[name] - before[name] for name in ("ChannelConsumer", "Subscription")} == {
        VIEWERS
    }
    for viewer in opened:
        end(viewer, execution_id)
    assert_left(counted_web, before)


def test_connection_that_is_refused_leaves_no_garbage(
    counted_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    before = objects_of(counted_web)
    for name in ("unknown", "not%20an%20id"):
        assert viewers.open(counted_web.stream(name)).wait_for_close() in {4404, 4400}
    assert_left(counted_web, before)
