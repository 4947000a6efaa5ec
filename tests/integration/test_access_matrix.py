"""Every endpoint by every kind of caller: who gets what, and that nobody else learns of it.

The endpoints come from the URL configuration: one that is added fails here until it has its
place in the table. Streams and probes are answered before Django, and tested elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urljoin

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import Settings

from executions.ledger import PointNote, note_points
from executions.models import Activity, Event
from executions.recording import NewActivity, changing
from executions.statuses import ExecutionStatus
from tests.object_permissions import ONE_BY_ONE, TELLING, AskedOneByOne
from tests.rest import PASSWORD, a_token, a_user, basic, client_of, with_token
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

API: Final = "/api/v1/"
SECRET: Final = "very-secret-workflow"
VIEW, CANCEL, TERMINATE = (
    f"executions.{verb}_execution" for verb in ("view", "cancel", "terminate")
)


DJANGOS_OWN: Final = "django.contrib.auth.backends.ModelBackend"
PLAIN_ROUTES: Final = {"", "^api(/.*)?$"}
"""They hold no data: a redirect to the description, and what is not there."""


@pytest.fixture(autouse=True)
def one_execution() -> Iterator[None]:
    cache.clear()
    AskedOneByOne.granted = set()
    with nobody_listening():
        an_execution(
            execution_id="known",
            workflow_id=SECRET,
            activities=[NewActivity(activity_id="a", activity_name=SECRET)],
        )
        with changing("known") as change:
            point = PointNote(engine_event_id=1, at=timezone.now(), kind="signal", name=SECRET)
            note_points("known", [point])
            change.execution.status = ExecutionStatus.COMPLETED
        an_execution("a", execution_id="other", status=ExecutionStatus.COMPLETED)
        yield


# The callers: each makes its user and gives a client


def with_grants(name: str, execution_id: str, *permissions: str, is_staff: bool = False) -> Client:
    AskedOneByOne.granted |= {(name, each, execution_id) for each in permissions}
    return client_of(a_user(name, is_staff=is_staff))


def in_group() -> Client:
    group = Group.objects.create(name="viewers")
    group.permissions.add(Permission.objects.get(codename="view_execution"))
    user = a_user("member")
    user.groups.add(group)
    return client_of(user)


def no_longer_active(client_for: Callable[[User], Client]) -> Client:
    user = a_user("gone", may=["view", "cancel", "terminate"])
    client = client_for(user)
    user.is_active = False
    user.save()
    return client


def a_superuser() -> Client:
    root = a_user("root", is_staff=True)
    root.is_superuser = True
    root.save()
    return client_of(root)


def program_of(user: User) -> Client:
    return Client(headers=with_token(a_token(user)), enforce_csrf_checks=True)


def a_program() -> Client:
    return program_of(a_user("program", may=["view", "cancel", "terminate"]))


def with_an_expired_token() -> Client:
    client = a_program()
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    return client


def with_a_revoked_token() -> Client:
    client = a_program()
    AuthToken.objects.all().delete()
    return client


def with_a_malformed_token() -> Client:
    a_program()
    return Client(headers=with_token("nexus_\xff\x00ü"))


def with_a_password() -> Client:
    a_user("passer", may=["view", "cancel", "terminate"])
    return Client(headers=basic("passer", PASSWORD))


def a_session(*, csrf: bool) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(a_user("surfer", may=["view", "cancel", "terminate"]))
    if csrf:
        client.cookies["csrftoken"] = "t" * 32
        client.defaults["HTTP_X_CSRFTOKEN"] = "t" * 32
    return client


CALLERS: Final[dict[str, Callable[[], Client]]] = {
    "anonymous": lambda: client_of(None),
    "inactive": lambda: no_longer_active(client_of),
    "stranger": lambda: client_of(a_user("stranger")),
    "viewer": lambda: client_of(a_user("viewer", may_view=True)),
    "member": in_group,
    "viewer of it": lambda: with_grants("one", "known", VIEW),
    "viewer of other": lambda: with_grants("two", "other", VIEW, CANCEL, TERMINATE),
    "blind actor": lambda: client_of(a_user("blind", may=["cancel", "terminate"])),
    "blind actor on it": lambda: with_grants("three", "known", CANCEL, TERMINATE),
    "actor": lambda: client_of(a_user("actor", may=["view", "cancel", "terminate"])),
    "actor on it": lambda: with_grants("four", "known", VIEW, CANCEL, TERMINATE),
    "superuser": a_superuser,
    "token": a_program,
    "expired token": with_an_expired_token,
    "revoked token": with_a_revoked_token,
    "inactive's token": lambda: no_longer_active(program_of),
    "malformed token": with_a_malformed_token,
    "password": with_a_password,
    "without CSRF": lambda: a_session(csrf=False),
    "with CSRF": lambda: a_session(csrf=True),
}

# What each gets of each kind of endpoint: a status, with * where the secret is shown; of two
# with a slash between them, the second is for where reading is open.

ENDPOINTS: Final[dict[str, list[tuple[str, str, Any]]]] = {
    "lists": [
        ("GET", "executions", None),
        ("GET", f"executions?search={SECRET}", None),
        ("GET", f"executions?workflow_id={SECRET}", None),
    ],
    "reads": [
        ("GET", "executions/known", None),
        ("GET", "executions/known?include=activities", None),
        ("GET", "executions/known/story", None),
        ("GET", "executions/known/activities/a", None),
    ],
    "acts": [
        ("POST", "executions/known/cancel", {}),
        ("POST", "executions/known/terminate", {"reason": "why"}),
    ],
    "ticket": [("POST", "tickets", {})],
    "its ticket": [("POST", "tickets", {"execution_id": "known"})],
    "tokens": [("GET", "tokens", None)],
    "new token": [("POST", "tokens", {})],
    "revoke": [("DELETE", "tokens/none", None)],
    "public": [("GET", "schema", None), ("GET", "docs", None)],
    "metrics": [("GET", "/metrics", None)],
}

MATRIX: Final = """
                  lists    reads    acts    ticket its_ticket tokens new_token revoke public metrics
anonymous         401/200* 401/200* 401     401    401        401    401       401    200    401/200
inactive          401/200* 401/200* 401     401    401        401    401       401    200    401/200
stranger          200/200* 404/200* 404/403 201    404/201    200    201       404    200    403/200
viewer            200*     200*     403     201    201        200    201       404    200    403/200
member            200*     200*     403     201    201        200    201       404    200    403/200
viewer_of_it      200*     200*     403     201    201        200    201       404    200    403/200
viewer_of_other   200/200* 404/200* 404/403 201    404/201    200    201       404    200    403/200
blind_actor       200/200* 404/200* 404/409 201    404/201    200    201       404    200    403/200
blind_actor_on_it 200/200* 404/200* 404/409 201    404/201    200    201       404    200    403/200
actor             200*     200*     409     201    201        200    201       404    200    403/200
actor_on_it       200*     200*     409     201    201        200    201       404    200    403/200
superuser         200*     200*     409     201    201        200    201       404    200    200
token             200*     200*     409     201    201        401    401       401    200    403/200
expired_token     401      401      401     401    401        401    401       401    200    401
revoked_token     401      401      401     401    401        401    401       401    200    401
inactive's_token  401      401      401     401    401        401    401       401    200    401
malformed_token   401      401      401     401    401        401    401       401    200    401
password          401/200* 401/200* 401     401    401        200    201       404    200    401/200
without_CSRF      200*     200*     403     403    403        200    403       403    200    403/200
with_CSRF         200*     200*     409     201    201        200    201       404    200    403/200
"""

ADMIN: Final = {
    "index": ["/admin/"],
    "executions": [
        "/admin/executions/execution/",
        "/admin/executions/execution/known/change/",
        "/admin/executions/activity/",
        "/admin/executions/activity/{activity}/change/",
        "/admin/executions/event/{event}/change/",
    ],
    "events": ["/admin/executions/event/", "/admin/executions/event/?execution__exact=known"],
    # Django would lead away from what is not there, and refuse what is there.
    "histories": [
        "/admin/executions/execution/known/history/",
        "/admin/executions/execution/unknown/history/",
    ],
    "tokens": ["/admin/knox/authtoken/"],
}

ADMIN_MATRIX: Final = """
                  index executions events  histories tokens
anonymous         302   302        302     302       302
inactive          302   302        302     302       302
viewer            302   302        302     302       302
token             302   302        302     302       302
password          302   302        302     302       302
clerk             200   403/200*   403/200 302/-     403
clerk_viewing_it  200   403/200*   403/200 302/-     403
clerk_viewing_all 200   200*       200     -         403
superuser         200   200*       200     -         200
"""

CLERKS: Final[dict[str, Callable[[], Client]]] = {
    "clerk": lambda: client_of(a_user("clerk", is_staff=True)),
    "clerk viewing it": lambda: with_grants("five", "known", VIEW, is_staff=True),
    "clerk viewing all": lambda: client_of(a_user("six", may_view=True, is_staff=True)),
}


def rows_of(matrix: str) -> dict[str, dict[str, str]]:
    header, *lines = matrix.strip().splitlines()
    columns = [name.replace("_", " ") for name in header.split()]
    rows = (line.split() for line in lines)
    return {name.replace("_", " "): dict(zip(columns, cells, strict=True)) for name, *cells in rows}


def expected(cell: str, *, is_open: bool) -> str:
    closed, _, opened = cell.partition("/")
    return opened if is_open and opened else closed


def got(client: Client, method: str, address: str, body: Any = None) -> str:
    more = {} if body is None else {"data": body, "content_type": "application/json"}
    response = getattr(client, method.lower())(address, **more)
    content = response.getvalue().decode()
    assert "Traceback" not in content
    if response.status_code == 401:
        basic_only = "/tokens" in address
        assert response["WWW-Authenticate"] == ('Basic realm="Nexus"' if basic_only else "Token")
    # An address that holds the secret comes back in links.
    shown = content.replace(f"={SECRET}", "")
    return f"{response.status_code}{'*' if SECRET in shown else ''}"


@pytest.mark.parametrize("backend", [ONE_BY_ONE, TELLING])
@pytest.mark.parametrize("who", CALLERS)
def test_each_caller_gets_what_is_theirs_of_the_api(
    who: str, backend: str, settings: Settings
) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, backend]
    row, client = rows_of(MATRIX)[who], CALLERS[who]()
    for is_open in (False, True):
        settings.NEXUS_OPEN_READING = is_open
        for kind, endpoints in ENDPOINTS.items():
            wanted = expected(row[kind], is_open=is_open)
            answers = {
                (method, address): got(client, method, urljoin(API, address), body)
                for method, address, body in endpoints
            }
            assert answers == dict.fromkeys(answers, wanted), (kind, is_open)


@pytest.mark.parametrize("who", rows_of(ADMIN_MATRIX))
def test_each_caller_gets_what_is_theirs_of_the_admin(who: str, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, ONE_BY_ONE]
    row, client = rows_of(ADMIN_MATRIX)[who], {**CALLERS, **CLERKS}[who]()
    ids = {"activity": Activity.objects.first(), "event": Event.objects.first()}
    named = {name: row.pk for name, row in ids.items() if row is not None}
    for is_open in (False, True):
        settings.NEXUS_OPEN_READING = is_open
        for kind, addresses in ADMIN.items():
            wanted = expected(row[kind], is_open=is_open)
            answers = {each: got(client, "GET", each.format(**named)) for each in addresses}
            if wanted != "-":
                assert answers == dict.fromkeys(answers, wanted), (kind, is_open)


def test_what_may_not_be_seen_answers_like_what_is_not_there(settings: Settings) -> None:
    for backend in (ONE_BY_ONE, TELLING):
        settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, backend]
        client = with_grants(f"for {backend}", "other", VIEW, CANCEL, TERMINATE)
        for method, address, body in (*ENDPOINTS["reads"], *ENDPOINTS["acts"]):
            more = {} if body is None else {"data": body, "content_type": "application/json"}
            ask = getattr(client, method.lower())
            hidden = ask(urljoin(API, address), **more)
            absent = ask(urljoin(API, address.replace("known", "absent")), **more)
            assert hidden.content.replace(b"known", b"absent") == absent.content
            assert hidden.headers.keys() == absent.headers.keys()


def test_every_endpoint_has_its_row() -> None:
    configured = {
        (method.upper(), route)
        for route, view in configured_endpoints(get_resolver().url_patterns)
        for method in view.http_method_names
        if method != "head"
    }
    tried = {
        (method, resolve(urljoin(API, address.partition("?")[0])).route)
        for endpoints in ENDPOINTS.values()
        for method, address, _ in endpoints
    }
    assert configured == tried
    assert set(CALLERS) == set(rows_of(MATRIX))
    assert all(set(row) == set(ENDPOINTS) for row in rows_of(MATRIX).values())


def configured_endpoints(
    patterns: Iterable[URLPattern | URLResolver], before: str = ""
) -> Iterator[tuple[str, Any]]:
    """The routes, without those that differ by a slash at their end, and their views."""
    for pattern in patterns:
        route = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            if route != "admin/":
                yield from configured_endpoints(pattern.url_patterns, route)
        elif hasattr(pattern.callback, "cls") and not route.endswith("/"):
            yield route, pattern.callback.cls
        else:
            assert route in PLAIN_ROUTES or route.endswith("/"), f"{route} has no row here"
