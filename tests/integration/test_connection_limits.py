"""Limits of connections, on a real server: who is refused, with which words, and until when."""

import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from tests import settings as test_settings
from tests.integration.socket_callers import a_token, a_viewer, by_session, by_token
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.truth import nobody_listening
from tests.viewers import Viewer, Viewers

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

EXECUTIONS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def narrow_web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    """A server with few places, where anyone may read."""
    environment = session_environment(
        NEXUS_OPEN_READING="1",
        NEXUS_CONNECTIONS_PER_PROCESS="6",
        NEXUS_CONNECTIONS_PER_USER="2",
        NEXUS_CONNECTIONS_PER_EXECUTION="3",
    )
    with web_running(test_settings.SESSION_DIR / "narrow-web.log", environment) as server:
        yield server


@pytest.fixture(autouse=True)
def executions(valkey: ValkeyServer) -> Iterator[None]:
    with nobody_listening():
        for execution_id in EXECUTIONS:
            an_execution("fetch", execution_id=execution_id)
        yield


def opened(web: WebServer, viewers: Viewers, execution_id: str, **headers: str) -> Viewer:
    viewer = viewers.open(web.stream(execution_id), headers)
    viewer.wait_until(lambda each: bool(each.messages) or each.close_code is not None)
    return viewer


def assert_refused(viewer: Viewer, whose: str) -> None:
    assert (viewer.close_code, viewer.close_reason) == (4429, f"too many connections: {whose}")
    assert viewer.messages == []


def test_each_limit_refuses_with_4429_that_names_it_and_ends_when_one_leaves(
    narrow_web: WebServer, viewers: Viewers
) -> None:
    users = [by_token(a_token(a_viewer(f"user-{number}"))).headers for number in range(4)]
    # an address without a login
    anonymous = [opened(narrow_web, viewers, "a") for _ in range(2)]
    assert_refused(opened(narrow_web, viewers, "b"), "this address without a login may have 2")
    # a user, by whatever credential
    olga = a_viewer("olga")
    by_both = [by_session(olga).headers, by_token(a_token(olga)).headers]
    of_olga = [opened_when_free(narrow_web, viewers, "b", headers) for headers in by_both]
    for headers in by_both:
        assert_refused(opened(narrow_web, viewers, "c", **headers), "this user may have 2")
    # an execution
    third_of_a = opened_when_free(narrow_web, viewers, "a", users[0])
    assert_refused(opened(narrow_web, viewers, "a", **users[1]), "this execution may have 3")
    # the process
    sixth = opened_when_free(narrow_web, viewers, "c", users[1])
    everyone = [*anonymous, *of_olga, third_of_a, sixth]
    assert [viewer.close_code for viewer in everyone] == [None] * 6
    assert_refused(opened(narrow_web, viewers, "c", **users[2]), "this server process may have 6")
    assert [viewer.close_code for viewer in everyone] == [None] * 6
    # REST is not counted
    with urllib.request.urlopen(f"{narrow_web.http}/api/v1/executions", timeout=10) as answer:  # noqa: S310
        assert answer.status == 200
    anonymous[0].leave()
    of_olga[0].vanish()
    for headers in ({}, by_both[1]):
        viewer = opened_when_free(narrow_web, viewers, "c", headers)
        assert viewer.messages


def opened_when_free(
    web: WebServer, viewers: Viewers, execution_id: str, headers: Mapping[str, str]
) -> Viewer:
    """Tried until the server has noticed that those who were refused, or have left, are gone."""
    while True:
        viewer = opened(web, viewers, execution_id, **headers)
        if viewer.close_code != 4429:
            return viewer


def test_those_who_were_refused_for_whatever_reason_hold_no_place(
    narrow_web: WebServer, viewers: Viewers
) -> None:
    stranger = by_token(a_token(a_viewer("stranger", may_view=False))).headers
    for _ in range(10):
        for execution_id, headers in (
            ("a", {"Authorization": "Token nexus_0"}),
            ("-", {}),
            ("unknown", stranger),
        ):
            viewer = opened(narrow_web, viewers, execution_id, **headers)
            assert viewer.close_code in (4400, 4401, 4404)
            viewer.leave()
    viewer = opened_when_free(narrow_web, viewers, "c", {})
    assert viewer.messages
