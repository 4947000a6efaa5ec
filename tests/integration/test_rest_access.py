"""Who may read executions over REST, and what everyone else is told."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import AnonymousUser, User
from pytest_django import Settings

from executions.access import (
    CANCEL_PERMISSION,
    TERMINATE_PERMISSION,
    may_act,
    may_view,
)
from tests.rest import a_user, client_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"
DETAIL = "/api/v1/executions/known"
WHOLE = "/api/v1/executions/known?include=activities,workflow_definition"
UNKNOWN = "/api/v1/executions/unknown"
MALFORMED = "/api/v1/executions/-"
BAD_FILTER = "/api/v1/executions?status=x"
DESCRIPTIONS = ["/api/v1/schema", "/api/v1/docs"]


@pytest.fixture(autouse=True)
def known_execution() -> Iterator[None]:
    with nobody_listening():
        an_execution("fetch", execution_id="known", workflow_id="secret")
        yield


def user_called(name: str) -> User | None:
    if name == "anonymous":
        return None
    return a_user(name, may_view=name == "permitted", is_staff=name == "staff")


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("anonymous", dict.fromkeys((LIST, DETAIL, WHOLE, UNKNOWN, MALFORMED, BAD_FILTER), 401)),
        *(
            (
                who,
                {
                    **dict.fromkeys((DETAIL, WHOLE, UNKNOWN, MALFORMED), 404),
                    LIST: 200,
                    BAD_FILTER: 400,
                },
            )
            for who in ("stranger", "staff")
        ),
        (
            "permitted",
            {LIST: 200, DETAIL: 200, WHOLE: 200, UNKNOWN: 404, MALFORMED: 400, BAD_FILTER: 400},
        ),
    ],
)
def test_reading_needs_a_login_and_the_permission(who: str, expected: dict[str, int]) -> None:
    client = client_of(user_called(who))
    for address, status in expected.items():
        response = client.get(address)
        assert (address, response.status_code) == (address, status)
        assert response["Content-Type"] == "application/json"
        assert response["Cache-Control"] == "no-store"
        assert (b"secret" in response.content) == (status == 200 and who == "permitted")
        assert ("Nexus-Event-Id" in response) == (status == 200 and address != LIST)
        assert ("WWW-Authenticate" in response) == (status == 401)
        if status != 200:
            assert response.json()["detail"]


@pytest.mark.parametrize("who", ["anonymous", "stranger", "permitted"])
def test_everyone_may_read_where_reading_is_open(who: str, settings: Settings) -> None:
    settings.NEXUS_OPEN_READING = True
    client = client_of(user_called(who))
    expected = {LIST: 200, DETAIL: 200, WHOLE: 200, UNKNOWN: 404, MALFORMED: 400, BAD_FILTER: 400}
    assert {address: client.get(address).status_code for address in expected} == expected


@pytest.mark.parametrize("address", DESCRIPTIONS)
@pytest.mark.parametrize("who", ["anonymous", "stranger", "permitted"])
def test_the_descriptions_are_open_to_everyone(who: str, address: str) -> None:
    assert client_of(user_called(who)).get(address).status_code == 200


def test_without_the_permission_known_and_unknown_executions_answer_alike() -> None:
    client = client_of(a_user("stranger"))
    known, unknown = client.get(DETAIL), client.get(UNKNOWN)
    assert known.content.replace(b"known", b"unknown") == unknown.content
    assert known.headers.keys() == unknown.headers.keys()


def test_may_view_is_for_active_users_with_the_permission(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    permitted = a_user("permitted", may_view=True)
    assert may_view(permitted)
    assert may_view(permitted, "known")
    assert not may_view(a_user("stranger"), "known")
    assert not may_view(AnonymousUser())
    permitted.is_active = False
    assert not may_view(permitted, "known")
    inactive_superuser = User(username="root", is_superuser=True, is_active=False)
    assert not may_view(inactive_superuser)
    monkeypatch.setattr(User, "has_perm", lambda *args: True)
    assert not may_view(permitted), "whatever a backend says of one who is not active"
    del settings.NEXUS_OPEN_READING
    assert may_view(User(username="root", is_superuser=True))
    assert not may_view(AnonymousUser(), "known")


def test_may_act_is_for_active_viewers_with_that_permission(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    canceller = a_user("canceller", may=["view", "cancel"])
    blind = a_user("blind", may=["cancel"])
    assert may_act(canceller, CANCEL_PERMISSION, "known")
    assert not may_act(canceller, TERMINATE_PERMISSION, "known")
    assert not may_act(blind, CANCEL_PERMISSION, "known")
    settings.NEXUS_OPEN_READING = True
    assert may_act(blind, CANCEL_PERMISSION, "known")
    assert not may_act(AnonymousUser(), CANCEL_PERMISSION, "known")
    monkeypatch.setattr(User, "has_perm", lambda *args: True)
    canceller.is_active = False
    assert not may_act(canceller, CANCEL_PERMISSION, "known")
