"""GET /api/v1/executions/{execution_id}/story: points, oldest first, page by page."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from executions.api.detail_serializers import PointSerializer
from executions.api.pagination import PAGE_SIZE
from executions.ledger import PointNote, note_points
from executions.recording import changing
from tests.rest import JsonObject, a_user, an_operator_client, client_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def client() -> Client:
    return an_operator_client()


def tell(execution_id: str, *event_ids: int, kind: str = "signal") -> None:
    notes = [
        PointNote(engine_event_id=number, at=NOON + timedelta(seconds=number), kind=kind)
        for number in event_ids
    ]
    with changing(execution_id):
        note_points(execution_id, notes)


def story_of(execution_id: str) -> str:
    return f"/api/v1/executions/{execution_id}/story"


def page(client: Client, address: str) -> JsonObject:
    response = client.get(address)
    assert response.status_code == 200, response.content
    answer: JsonObject = response.json()
    assert set(answer) == {"next", "previous", "results"}
    return answer


def ids(answer: JsonObject) -> list[int]:
    return [point["engine_event_id"] for point in answer["results"]]


def encoded(cursor: str) -> str:
    return urlsafe_b64encode(cursor.encode()).decode().rstrip("=")


def test_an_execution_in_which_nothing_happened_has_an_empty_story(client: Client) -> None:
    empty: JsonObject = {"next": None, "previous": None, "results": []}
    execution_id = an_execution("fetch")
    assert page(client, story_of(execution_id)) == empty
    assert page(client, f"{story_of(execution_id)}/") == empty


def test_points_are_shown_oldest_first_with_all_they_have(client: Client) -> None:
    execution_id = an_execution()
    details = {"input": [{"value": {"ü": 1}}]}
    with changing(execution_id):
        note_points(
            execution_id,
            [
                PointNote(
                    engine_event_id=2**40,
                    at=NOON,
                    kind="signal",
                    name="go/on 🏃",
                    details=details,
                ),
                PointNote(engine_event_id=7, at=NOON, kind="cancel_requested"),
            ],
        )
    results = page(client, story_of(execution_id))["results"]
    assert results == [
        {
            "engine_event_id": 7,
            "at": "2026-03-04T12:00:00.000000Z",
            "kind": "cancel_requested",
            "name": None,
            "details": None,
        },
        {
            "engine_event_id": 2**40,
            "at": "2026-03-04T12:00:00.000000Z",
            "kind": "signal",
            "name": "go/on 🏃",
            "details": details,
        },
    ]
    assert list(PointSerializer().fields) == list(results[0])


def test_the_points_of_other_executions_are_not_shown(client: Client) -> None:
    tell(an_execution(), 1, 2)
    execution_id = an_execution()
    tell(execution_id, 2, 3)
    assert ids(page(client, story_of(execution_id))) == [2, 3]


def test_every_point_is_on_one_page_while_others_are_being_added(client: Client) -> None:
    execution_id = an_execution()
    tell(execution_id, *range(10, 33))
    seen: list[int] = []
    address: str | None = f"{story_of(execution_id)}?page_size=4"
    added = 100
    while address is not None:
        answer = page(client, address)
        assert len(answer["results"]) <= 4
        seen += ids(answer)
        address = answer["next"]
        if added < 103:
            added += 1
            tell(execution_id, added)
    assert seen == [*range(10, 33), 101, 102, 103]


def test_going_back_shows_the_same_pages(client: Client) -> None:
    execution_id = an_execution()
    tell(execution_id, *range(1, 11))
    answer = page(client, f"{story_of(execution_id)}?page_size=3")
    assert answer["previous"] is None
    there = [ids(answer)]
    while answer["next"] is not None:
        answer = page(client, answer["next"])
        there.append(ids(answer))
    assert there == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
    back = [ids(answer)]
    while answer["previous"] is not None:
        answer = page(client, answer["previous"])
        assert answer["next"] is not None
        back.append(ids(answer))
    assert back == there[::-1]


def test_a_page_costs_the_same_however_long_the_story(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    execution_id = an_execution()
    tell(execution_id, *range(1, PAGE_SIZE + 2))
    with django_assert_max_num_queries(7):  # session, user, permissions twice, execution, page
        assert ids(page(client, story_of(execution_id))) == list(range(1, PAGE_SIZE + 1))


@pytest.mark.parametrize(
    ("query", "name", "accepted"),
    [
        ("page_size=0", "page_size", "from 1 to 200"),
        ("page_size=201", "page_size", "from 1 to 200"),
        ("cursor=x", "cursor", "next or previous"),
        (f"cursor={encoded('next ')}", "cursor", "next or previous"),
        (f"cursor={encoded('next -1')}", "cursor", "next or previous"),
        (f"cursor={encoded('next ' + '9' * 19)}", "cursor", "next or previous"),
        (f"cursor={encoded('next 1772625600000000 e')}", "cursor", "next or previous"),
        ("cursor=x&cursor=y", "cursor", "once only"),
        ("status=running", "status", "accepted are cursor, page_size"),
        ("page_size=", "page_size", "must not be empty"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_accepted(
    client: Client, query: str, name: str, accepted: str
) -> None:
    response = client.get(f"{story_of(an_execution())}?{query}")
    assert response.status_code == 400
    assert accepted in response.json()["parameters"][name][0]


def test_the_execution_is_told_of_where_it_is_unknown_or_malformed(client: Client) -> None:
    unknown = client.get(story_of("nobody"))
    assert unknown.status_code == 404
    assert unknown.json() == {"detail": "There is no execution 'nobody'."}
    assert client.get(story_of("-x")).status_code == 400


def test_those_who_may_not_view_cannot_tell_what_there_is() -> None:
    execution_id = an_execution()
    tell(execution_id, 1)
    for user, status in ((None, 401), (a_user("stranger"), 404)):
        known, unknown = (client_of(user).get(story_of(each)) for each in (execution_id, "nobody"))
        assert known.status_code == unknown.status_code == status
        assert known.content == unknown.content.replace(b"nobody", execution_id.encode())
