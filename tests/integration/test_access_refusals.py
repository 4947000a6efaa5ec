"""What looking again at connections finds out, and what it costs the database."""

from typing import Any

import pytest
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions.access import VIEW_PERMISSION, may_view, surely_may_view
from streaming.access.credentials import (
    KEYS_PER_QUERY,
    Credential,
    session_credential,
    token_credential,
    users_of,
)
from streaming.access.watch import Watched, refusals_of
from streaming.close_codes import CloseCode
from tests.integration.socket_callers import a_token, a_viewer, session_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db]

DJANGOS = "django.contrib.auth.backends.ModelBackend"


class OnlyOne(BaseBackend):
    """Lets everybody see one execution."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm == VIEW_PERMISSION and obj is not None and obj.pk == "one"


class Never(BaseBackend):
    """Forbids one user whatever others allow."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if user_obj.username == "barred":
            raise PermissionDenied
        return False


def backends(*classes: type) -> list[str]:
    return [f"{each.__module__}.{each.__qualname__}" for each in classes]


def by_token(user: User) -> Credential:
    return token_credential(a_token(user))


def by_session(user: User) -> Credential:
    return session_credential(session_of(user).cookies["sessionid"].value)


def of(user: User, credential: Credential, execution_id: str = "one") -> Watched:
    return Watched(credential, str(user.pk), execution_id)


def everyone() -> list[User]:
    """A user for each way to have the permission or not."""
    permission = Permission.objects.get(codename="view_execution")
    group = Group.objects.create(name="viewers")
    group.permissions.add(permission)
    grouped = a_viewer("grouped", may_view=False)
    grouped.groups.add(group)
    both = a_viewer("both")
    both.groups.add(group)
    inactive = a_viewer("inactive")
    inactive.is_active = False
    inactive.save()
    root = User.objects.create(username="root", is_superuser=True)
    stranger = a_viewer("stranger", may_view=False)
    return [grouped, both, inactive, root, stranger, a_viewer("barred"), a_viewer("olga")]


@pytest.mark.parametrize(
    ("used", "tells"),
    [
        ([DJANGOS], True),
        ([DJANGOS, *backends(OnlyOne)], True),
        (backends(OnlyOne), False),
        ([*backends(Never), DJANGOS], False),
    ],
)
def test_who_surely_may_view_is_who_may_view_and_no_one_else(
    settings: Any, used: list[str], tells: bool
) -> None:
    users = everyone()
    settings.AUTHENTICATION_BACKENDS = used
    surely = surely_may_view([user.pk for user in users])
    may = {user.pk for user in users if may_view(User.objects.get(pk=user.pk))}
    assert surely == (may if tells else set())


def test_where_reading_is_open_every_active_user_surely_may(settings: Any) -> None:
    settings.NEXUS_OPEN_READING = True
    users = everyone()
    active = {user.pk for user in users if user.is_active}
    assert surely_may_view([user.pk for user in users]) == active


@pytest.mark.parametrize(
    "used", [[DJANGOS, *backends(OnlyOne)], [*backends(Never, OnlyOne), DJANGOS]]
)
def test_single_executions_and_those_who_are_barred_are_asked_about_one_by_one(
    settings: Any, used: list[str]
) -> None:
    with nobody_listening():
        an_execution("fetch", execution_id="one")
        an_execution("fetch", execution_id="two")
    settings.AUTHENTICATION_BACKENDS = used
    stranger, barred, olga = (
        a_viewer("stranger", may_view=False),
        a_viewer("barred"),
        a_viewer("olga"),
    )
    watched = [
        of(user, credential, execution_id)
        for user, credential in ((each, by_token(each)) for each in (stranger, barred, olga))
        for execution_id in ("one", "two", "unknown")
    ]
    refused = {
        (each.user_key, each.execution_id): code for each, code in refusals_of(watched).items()
    }
    expected = {(str(stranger.pk), name): CloseCode.NOT_FOUND for name in ("two", "unknown")}
    if len(used) == 3:
        names = ("one", "two", "unknown")
        expected |= {(str(barred.pk), name): CloseCode.NOT_FOUND for name in names}
    assert refused == expected


def test_credential_of_a_session_without_a_user_or_of_another_backend_holds_for_nobody(
    settings: Any,
) -> None:
    olga = a_viewer("olga")
    client = session_of(olga)
    credential = session_credential(client.cookies["sessionid"].value)
    assert users_of([credential]) == {credential: olga}
    settings.AUTHENTICATION_BACKENDS = backends(OnlyOne)
    assert users_of([credential]) == {}
    settings.AUTHENTICATION_BACKENDS = [DJANGOS]
    session = client.session
    session.clear()
    session["theme"] = "dark"
    session.save()
    assert users_of([credential]) == {}
    for nonsense in ("", "x", "a\0b", "ä" * 40, "x" * 5_000):
        assert users_of([session_credential(nonsense), token_credential(nonsense)]) == {}


def test_session_given_under_a_former_secret_key_holds_as_django_has_it(settings: Any) -> None:
    olga = a_viewer("olga")
    credential = by_session(olga)
    key = settings.SECRET_KEY
    settings.SECRET_KEY = "another key for this test"
    assert users_of([credential]) == {}
    settings.SECRET_KEY_FALLBACKS = [key]
    assert users_of([credential]) == {credential: olga}


@pytest.mark.parametrize(
    "engine",
    ["django.contrib.sessions.backends.cached_db", "django.contrib.sessions.backends.cache"],
)
def test_sessions_are_found_wherever_the_project_keeps_them(settings: Any, engine: str) -> None:
    settings.SESSION_ENGINE = engine
    olga = a_viewer("olga")
    client = session_of(olga)
    credential = session_credential(client.cookies["sessionid"].value)
    assert users_of([credential]) == {credential: olga}
    client.logout()
    assert users_of([credential]) == {}


def test_queries_are_as_many_for_many_users_as_for_one() -> None:
    users = [a_viewer(f"user-{number}") for number in range(40)]
    by_tokens, by_sessions = (
        [
            of(user, credential, execution_id)
            for user, credential in ((user, proof(user)) for user in users)
            for execution_id in ("one", "two", "three")
        ]
        for proof in (by_token, by_session)
    )
    counts = []
    for asked in (by_tokens[:3], by_tokens, by_sessions[:3], by_sessions):
        with CaptureQueriesContext(connection) as queries:
            assert refusals_of(asked) == {}
        counts.append(len(queries))
    # tokens of those who may view; sessions, users, who may view
    assert counts == [1, 1, 3, 3]


def test_more_than_one_query_can_ask_for_is_asked_in_parts() -> None:
    unknown = [token_credential(str(number)) for number in range(KEYS_PER_QUERY)]
    olga = a_viewer("olga")
    credential = by_token(olga)
    with CaptureQueriesContext(connection) as queries:
        assert users_of([*unknown, credential]) == {credential: olga}
    assert len(queries) == 3
