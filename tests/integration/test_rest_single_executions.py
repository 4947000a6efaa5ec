"""Lists of those who may view single executions: pages, links, costs, and what leaks by none."""

import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import Group, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from executions.access import VIEW_PERMISSION, may_act, may_view, viewable
from executions.api import pagination
from executions.models import Execution
from tests.object_permissions import ONE_BY_ONE, TELLING, AskedOneByOne
from tests.readme import code_blocks
from tests.rest import JsonObject, a_user, client_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"
NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
DJANGOS_OWN = "django.contrib.auth.backends.ModelBackend"


class OnlyAuthenticates(BaseBackend):
    """Like many backends: says who someone is, and nothing of what they may."""


class OfACompany(ModelBackend):
    """Django's own, with another way to log in."""


@pytest.fixture(autouse=True)
def door_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(AskedOneByOne, "granted", set())
    monkeypatch.setattr(AskedOneByOne, "asked", 0)
    monkeypatch.setattr(pagination, "ROWS_ASKED_ABOUT", 6)
    monkeypatch.setattr(pagination, "ROWS_READ_AT_ONCE", 4)
    with nobody_listening():
        yield


@pytest.fixture
def one_by_one(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, ONE_BY_ONE]


@pytest.fixture
def reader() -> Client:
    return client_of(a_user("reader"))


def created(number: int, *, seconds: float, visible: bool) -> str:
    execution_id = f"{'visible' if visible else 'hidden'}-{number:03}"
    if visible:
        AskedOneByOne.granted.add(("reader", VIEW_PERMISSION, execution_id))
    moment = NOON + timedelta(seconds=seconds)
    return an_execution(execution_id=execution_id, workflow_id="w", created_at=moment)


def page(client: Client, address: str) -> JsonObject:
    response = client.get(address)
    assert response.status_code == 200, response.content
    assert "hidden" not in response.content.decode()
    answer: JsonObject = response.json()
    for link in filter(None, (answer["next"], answer["previous"])):
        (cursor,) = parse_qs(urlsplit(link).query)["cursor"]
        assert b"hidden" not in urlsafe_b64decode(f"{cursor}==")
    return answer


def ids(answer: JsonObject) -> list[str]:
    return [item["execution_id"] for item in answer["results"]]


def all_pages(client: Client, address: str | None, link: str = "next") -> list[list[str]]:
    pages = []
    while address is not None:
        answer = page(client, address)
        pages.append(ids(answer))
        address = answer[link]
    return pages


@pytest.mark.parametrize("moments", [40, 7, 2, 1])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_each_visible_execution_is_on_one_page_and_no_hidden_one_is_named(
    one_by_one: None, reader: Client, moments: int, size: int
) -> None:
    visible = [
        created(number, seconds=number % moments, visible=number in (3, 4, 17, 30, 31, 32, 39))
        for number in range(40)
    ]
    pages = all_pages(reader, f"{LIST}?page_size={size}")
    shown = [execution_id for each in pages for execution_id in each]
    assert sorted(shown) == [each for each in visible if each.startswith("visible")]
    assert all(len(each) <= size for each in pages)


def test_going_back_shows_them_all_in_the_same_order(one_by_one: None, reader: Client) -> None:
    for number in range(40):
        created(number, seconds=number // 3, visible=number % 7 == 0)
    there = [each for each in all_pages(reader, f"{LIST}?page_size=2") if each]
    address: str | None = f"{LIST}?page_size=2"
    last_with_rows = None
    while address is not None:
        answer = page(reader, address)
        last_with_rows = answer if answer["results"] else last_with_rows
        address = answer["next"]
    assert last_with_rows is not None
    back = [ids(last_with_rows)]
    back += [each for each in all_pages(reader, last_with_rows["previous"], "previous") if each]
    assert [row for each in reversed(back) for row in each] == [
        row for each in there for row in each
    ]


def test_a_page_asks_about_a_bounded_number_of_rows(
    one_by_one: None, reader: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(40):
        created(number, seconds=number, visible=number == 0)
    with django_assert_max_num_queries(6):  # session, user, permissions twice, the rows twice
        first = page(reader, LIST)
    assert AskedOneByOne.asked <= 7
    assert first["results"] == []
    assert first["next"] is not None
    assert all_pages(reader, LIST)[-1] == ["visible-000"]


def test_a_backend_that_tells_which_costs_one_query_and_gives_full_pages(
    settings: Settings,
    reader: Client,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, TELLING]
    for number in range(40):
        created(number, seconds=number, visible=number % 10 == 0)
    with django_assert_max_num_queries(5):
        answer = page(reader, f"{LIST}?page_size=3")
    assert ids(answer) == ["visible-030", "visible-020", "visible-010"]
    assert AskedOneByOne.asked == 0
    assert all_pages(reader, f"{LIST}?page_size=3")[1:] == [["visible-000"]]


def test_one_backend_that_must_be_asked_is_not_forgotten_for_one_that_tells(
    settings: Settings, reader: Client
) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, TELLING, ONE_BY_ONE]
    created(1, seconds=1, visible=True)
    assert all_pages(reader, LIST) == [["visible-001"]]
    assert AskedOneByOne.asked > 0


@pytest.mark.parametrize("backend", [OnlyAuthenticates, OfACompany])
def test_backends_that_know_of_no_single_executions_cost_nothing(
    settings: Settings,
    backend: type,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    settings.AUTHENTICATION_BACKENDS = [DJANGOS_OWN, f"{__name__}.{backend.__name__}"]
    for number in range(20):
        created(number, seconds=number, visible=False)
    stranger = client_of(a_user("stranger"))
    with django_assert_max_num_queries(6):  # session, user, permissions twice, twice if inherited
        assert page(stranger, LIST) == {"next": None, "previous": None, "results": []}


def test_filters_and_search_find_nothing_hidden(one_by_one: None, reader: Client) -> None:
    created(1, seconds=1, visible=True)
    created(2, seconds=2, visible=False)
    assert all_pages(reader, f"{LIST}?workflow_id=w") == [["visible-001"]]
    assert all_pages(reader, f"{LIST}?search=hidd") == [[]]


def test_who_may_view_all_is_never_asked_about_single_ones(one_by_one: None) -> None:
    for number in range(20):
        created(number, seconds=number, visible=False)
    client = client_of(a_user("operator", may_view=True))
    assert len(client.get(LIST).json()["results"]) == 20
    assert client.get(f"{LIST}/hidden-003").status_code == 200
    assert AskedOneByOne.asked == 0


def test_who_is_not_active_may_view_no_single_execution(one_by_one: None) -> None:
    created(1, seconds=1, visible=True)
    user = User(username="reader", is_active=False)
    assert not may_view(user, "visible-001")
    assert not may_act(user, VIEW_PERMISSION, "visible-001")
    condition = viewable(user)
    assert condition is not None
    assert not Execution.objects.filter(condition).exists()
    user = a_user("reader")
    assert may_view(user, "visible-001")
    assert not may_view(user)
    assert not may_view(user, "absent")
    assert not may_view(user, "\0")


def test_the_readmes_backend_shows_groups_the_runs_of_their_type(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = code_blocks("Who may see what")
    module = ModuleType("of_the_readme")
    exec(code, module.__dict__)  # noqa: S102 - the README's own
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.AUTHENTICATION_BACKENDS = [
        DJANGOS_OWN,
        "of_the_readme.TeamsBackend",
        TELLING,
    ]
    AskedOneByOne.granted.add(("member", VIEW_PERMISSION, "visible-too"))
    an_execution(execution_id="visible-too", workflow_type="order")
    an_execution(execution_id="visible", workflow_type="Order")
    an_execution(execution_id="hidden", workflow_type="order")
    user = a_user("member")
    user.groups.add(Group.objects.create(name="Order"))
    client = client_of(user)
    assert all_pages(client, LIST) == [["visible", "visible-too"]]
    assert client.get(f"{LIST}/visible").status_code == 200
    assert client.get(f"{LIST}/hidden").status_code == 404
    assert client.post(f"{LIST}/visible/cancel", {}, "application/json").status_code == 403
