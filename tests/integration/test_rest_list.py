"""GET /api/v1/executions: pages, filters, search, and what bad parameters get."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from executions.api.pagination import LARGEST_PAGE_SIZE, PAGE_SIZE
from executions.document import execution_fields
from executions.models import Execution
from executions.statuses import ExecutionStatus
from tests.rest import JsonObject, an_operator_client
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"
NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def client() -> Client:
    return an_operator_client()


def created(execution_id: str, minutes: float = 0, **fields: object) -> str:
    moment = NOON + timedelta(minutes=minutes)
    return an_execution(execution_id=execution_id, created_at=moment, **fields)


def page(client: Client, address: str) -> JsonObject:
    response = client.get(address)
    assert response.status_code == 200, response.content
    answer: JsonObject = response.json()
    assert set(answer) == {"next", "previous", "results"}
    return answer


def ids(answer: JsonObject) -> list[str]:
    return [item["execution_id"] for item in answer["results"]]


def found(client: Client, **parameters: object) -> set[str]:
    return set(ids(page(client, f"{LIST}?{urlencode(parameters, doseq=True)}")))


def test_nothing_there_is_an_empty_page(client: Client) -> None:
    assert page(client, LIST) == {"next": None, "previous": None, "results": []}


def test_items_are_the_documents_own_fields_newest_first(client: Client) -> None:
    for number in range(3):
        created(f"e{number}", number, started_at=NOON, run_id="run 🏃")
    results = page(client, LIST)["results"]
    rows = Execution.objects.order_by("-created_at")
    assert results == [execution_fields(row) for row in rows]
    assert [list(item) for item in results] == [list(execution_fields(row)) for row in rows]
    assert page(client, f"{LIST}/")["results"] == results


def test_every_execution_is_on_one_page_while_others_are_being_added(client: Client) -> None:
    at_first = [created(f"e{number:02}", minutes=number // 7) for number in range(23)]
    seen: list[str] = []
    address: str | None = f"{LIST}?page_size=4"
    added = 0
    while address is not None:
        answer = page(client, address)
        assert len(answer["results"]) <= 4
        seen += ids(answer)
        address = answer["next"]
        added += 1
        created(f"newest-{added}", minutes=100 + added)
        created(f"e10-{added}", minutes=1)  # in between, at a moment that others share
        created(f"oldest-{added}", minutes=-added) if added < 4 else None
    assert len(seen) == len(set(seen)), "an execution was on two pages"
    assert [each for each in seen if each in at_first] == sorted(at_first, reverse=True)
    assert not [each for each in seen if each.startswith("newest")]
    assert [each for each in seen if each.startswith("oldest")] == [
        "oldest-1",
        "oldest-2",
        "oldest-3",
    ]


def test_going_back_shows_the_same_pages(client: Client) -> None:
    for number in range(10):
        created(f"e{number}", minutes=number // 5)
    there: list[list[str]] = []
    answer = page(client, f"{LIST}?page_size=3&search=e")
    there.append(ids(answer))
    assert answer["previous"] is None
    while answer["next"] is not None:
        answer = page(client, answer["next"])
        there.append(ids(answer))
    assert [len(each) for each in there] == [3, 3, 3, 1]
    back = [ids(answer)]
    while answer["previous"] is not None:
        answer = page(client, answer["previous"])
        assert answer["next"] is not None
        back.append(ids(answer))
    assert back == there[::-1]


def test_what_was_added_since_is_before_the_first_page(client: Client) -> None:
    for number in range(4):
        created(f"e{number}", minutes=number)
    second = page(client, page(client, f"{LIST}?page_size=2")["next"])
    created("newer", minutes=9)
    first = page(client, second["previous"])
    assert ids(first) == ["e3", "e2"]
    assert ids(page(client, first["previous"])) == ["newer"]


def test_links_keep_the_filters(client: Client) -> None:
    for number in range(4):
        created(f"e{number}", minutes=number, workflow_id="wanted & found" if number % 2 else "no")
    answer = page(client, f"{LIST}?{urlencode({'workflow_id': 'wanted & found', 'page_size': 1})}")
    assert ids(answer) == ["e3"]
    assert ids(page(client, answer["next"])) == ["e1"]


def test_page_size_has_a_default_and_a_maximum(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(PAGE_SIZE + 1):
        created(f"e{number}", minutes=number)
    with django_assert_max_num_queries(6):  # session, user, permissions twice, the page
        assert len(page(client, LIST)["results"]) == PAGE_SIZE
    assert len(page(client, f"{LIST}?page_size={LARGEST_PAGE_SIZE}")["results"]) == PAGE_SIZE + 1
    assert len(page(client, f"{LIST}?page_size=1")["results"]) == 1


def test_by_status_repeated_or_comma_separated(client: Client) -> None:
    for status in ExecutionStatus:
        created(status.value, status=status)
    assert found(client, status="running") == {"running"}
    assert found(client, status="timed_out,failed") == {"timed_out", "failed"}
    assert found(client, status=["pending", "failed,running"]) == {"pending", "failed", "running"}


def test_by_workflow_id_and_type_exactly(client: Client) -> None:
    created("a", workflow_id="order-1", workflow_type="Order")
    created("b", workflow_id="order-12", workflow_type="Order")
    created("c", workflow_id="Order-1", workflow_type=" Order")
    assert found(client, workflow_id="order-1") == {"a"}
    assert found(client, workflow_type="Order") == {"a", "b"}
    assert found(client, workflow_type=" Order") == {"c"}
    assert found(client, workflow_type="Order", workflow_id="order-12") == {"b"}
    assert found(client, workflow_id="order") == set()


@pytest.mark.parametrize("name", ["created", "started", "completed"])
def test_by_time_from_a_moment_and_before_a_moment(client: Client, name: str) -> None:
    created("unset", minutes=-10_000)
    for number in range(3):
        moment = NOON + timedelta(microseconds=number)
        an_execution(execution_id=f"e{number}", **{"created_at": NOON, f"{name}_at": moment})
    second = (NOON + timedelta(microseconds=1)).isoformat()
    assert found(client, **{f"{name}_after": second}) == {"e1", "e2"}
    assert found(client, **{f"{name}_before": second}) - {"unset"} == {"e0"}
    assert found(client, **{f"{name}_after": second, f"{name}_before": second}) == set()
    elsewhere = (NOON + timedelta(microseconds=2)).isoformat().replace("12:00", "14:30")
    shifted = elsewhere.replace("+00:00", "+02:30")
    assert found(client, **{f"{name}_after": shifted}) == {"e2"}
    assert found(client, **{f"{name}_after": "0001-01-01T00:00:00Z"}) >= {"e0", "e1", "e2"}


def test_search_looks_into_ids_and_type_whatever_the_case(client: Client) -> None:
    created("Find-Me", workflow_id="w", workflow_type="t")
    created("b", workflow_id="to find ME", workflow_type="t")
    created("c", workflow_id="w", workflow_type="FindMe")
    created("d", workflow_id="100%_sure\\", workflow_type="t", run_id="find-me")
    created("e", workflow_id="Prüfung ÄÖ [a-z]*", workflow_type="t")
    assert found(client, search="find") == {"Find-Me", "b", "c"}
    assert found(client, search="FIND-me") == {"Find-Me"}
    assert found(client, search="find me") == {"b"}
    assert found(client, search="0%_s") == {"d"}
    assert found(client, search="%") == {"d"}
    assert found(client, search="\\") == {"d"}
    assert found(client, search="prÜfung äö [A-Z]*") == {"e"}
    assert found(client, search="prÜfung äö .a") == set()
    assert found(client, search="nowhere") == set()


def encoded(plain: str) -> str:
    return urlsafe_b64encode(plain.encode()).decode()


@pytest.mark.parametrize(
    ("query", "name", "accepted"),
    [
        ("status=done", "status", "timed_out"),
        ("status=running,done", "status", "'done' is not accepted; accepted are pending"),
        ("status=running&status=Running", "status", "accepted are pending"),
        ("status=", "status", "must not be empty"),
        ("status=running,", "status", "'' is not accepted"),
        ("status=%00", "status", "NUL"),
        ("workflow_id=", "workflow_id", "must not be empty"),
        ("workflow_id=a&workflow_id=b", "workflow_id", "once only"),
        ("workflow_id=a%00", "workflow_id", "NUL"),
        ("workflow_type=%00", "workflow_type", "NUL"),
        ("search=a%00b", "search", "NUL"),
        ("search=", "search", "must not be empty"),
        ("created_after=yesterday", "created_after", "RFC 3339"),
        ("created_before=2026-01-01", "created_before", "RFC 3339"),
        ("started_after=2026-01-01T00:00:00", "started_after", "RFC 3339"),
        ("started_before=2026-01-01T00:00:00+02:00", "started_before", "written %2B"),
        ("completed_after=2026-02-30T00:00:00Z", "completed_after", "RFC 3339"),
        ("completed_before=0001-01-01T00:00:00%2B02:00", "completed_before", "RFC 3339"),
        ("page_size=0", "page_size", "from 1 to 200"),
        ("page_size=201", "page_size", "from 1 to 200"),
        ("page_size=-1", "page_size", "from 1 to 200"),
        ("page_size=ten", "page_size", "from 1 to 200"),
        ("page_size=%D9%A3", "page_size", "from 1 to 200"),
        ("page_size=5&page_size=6", "page_size", "once only"),
        ("cursor=x", "cursor", "next or previous"),
        ("cursor=%C3%A4", "cursor", "next or previous"),
        (f"cursor={encoded('next 1 ../x')}", "cursor", "next or previous"),
        (f"cursor={encoded('next 999999999999999999 x')}", "cursor", "next or previous"),
        (f"cursor={encoded('sideways 1 x')}", "cursor", "next or previous"),
        (f"cursor={encoded('next 1 ')}", "cursor", "next or previous"),
        ("limit=5", "limit", "accepted are completed_after"),
        ("state=running&limit=5", "state", "page_size"),
        ("format=html", "format", "accepted are"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_accepted(
    client: Client, query: str, name: str, accepted: str
) -> None:
    created("e")
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 400
    answer = response.json()
    assert set(answer) == {"detail", "parameters"}
    assert accepted in answer["parameters"][name][0]
    assert f"{name} {answer['parameters'][name][0]}" in answer["detail"]


def test_several_bad_filters_are_told_at_once(client: Client) -> None:
    answer = client.get(f"{LIST}?status=x&created_after=y&completed_before=z").json()
    assert set(answer["parameters"]) == {"status", "created_after", "completed_before"}
