"""GET /api/v1/executions/{execution_id}/activities/{activity_id}: all that is known of one."""

import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from executions import document
from executions.api import activity_details
from executions.api.activity_details import backoff_seconds
from executions.api.detail_serializers import (
    ActivityDetailSerializer,
    AttemptSerializer,
    FailureSerializer,
    ShownPayloadSerializer,
)
from executions.attempts import AttemptNote, AttemptOutcome
from executions.ledger import DetailsNote, note_attempts, note_details, note_output
from executions.models import Activity, Execution
from executions.recording import changing
from executions.statuses import ActivityStatus, PendingState
from tests.rest import JsonObject, a_user, an_operator_client, client_of
from tests.samples import an_execution
from tests.servers.web import WebServer
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
FAILURE = {"type": "ValueError", "message": "no 💥", "stack_trace": "in f\nin g"}
PAYLOAD = {
    "encoding": "json/plain",
    "size_bytes": 7,
    "value": {"a": [1, None]},
    "is_cut": False,
    "problem": None,
}
ODD_IDS = [
    "timer:1",
    "child:order/42",
    "a/b/",
    "/",
    "//",
    "/a",
    "50%",
    "%2F",
    "a b+c",
    "ä🦉",
    "?q=1&r#s",
    "line\nbreak",
    "tab\tquote\"'\\",
    "x/activities/y",
    "x/story",
    "cancel",
    "w" * 992,
]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def client() -> Client:
    return an_operator_client()


def address_of(execution_id: str, activity_id: str) -> str:
    return f"/api/v1/executions/{execution_id}/activities/{quote(activity_id, safe='')}"


def shown(client: Client, execution_id: str, activity_id: str) -> JsonObject:
    response = client.get(address_of(execution_id, activity_id))
    assert response.status_code == 200, response.content
    answer: JsonObject = response.json()
    return answer


def noted(execution_id: str, *notes: AttemptNote) -> None:
    with changing(execution_id):
        note_attempts(execution_id, notes)


def test_of_an_activity_of_which_nothing_is_known_the_document_is_shown(client: Client) -> None:
    execution_id = an_execution("other", "fetch")
    activity = Activity.objects.get(activity_id="fetch")
    answer = shown(client, execution_id, "fetch")
    assert answer == document.activity_document(activity) | {
        "position": 1,
        "task_queue": None,
        "options": {},
        "input": None,
        "output": None,
        "attempts": [],
        "attempts_omitted": 0,
    }


def test_its_fields_are_true_at_the_event_id_of_the_header(client: Client) -> None:
    execution_id = an_execution("fetch")
    with changing(execution_id) as change:
        change.activity("fetch").status = ActivityStatus.RUNNING
        change.activity("fetch").pending_state = PendingState.CANCEL_REQUESTED
    response = client.get(address_of(execution_id, "fetch"))
    assert response.json()["status"] == "running"
    assert response.json()["pending_state"] == "cancel_requested"
    assert response["Nexus-Event-Id"] == str(Execution.objects.get().head)
    assert response["Cache-Control"] == "no-store"


def test_attempts_are_shown_in_the_order_of_their_numbers(client: Client) -> None:
    execution_id = an_execution("fetch", "other")
    noted(
        execution_id,
        AttemptNote(activity_id="fetch", number=2, started_at=NOON, worker_identity="w@h"),
        AttemptNote(
            activity_id="fetch",
            number=1,
            outcome=AttemptOutcome.FAILED,
            scheduled_at=NOON - timedelta(seconds=9),
            started_at=NOON - timedelta(seconds=8),
            ended_at=NOON - timedelta(seconds=2),
            next_attempt_at=NOON - timedelta(seconds=0.5),
            failure=FAILURE,
            heartbeat_at=NOON - timedelta(seconds=3),
            heartbeat_details=[PAYLOAD],
        ),
        AttemptNote(activity_id="other", number=1),
    )
    assert shown(client, execution_id, "fetch")["attempts"] == [
        {
            "number": 1,
            "outcome": "failed",
            "worker_identity": None,
            "scheduled_at": "2026-03-04T11:59:51.000000Z",
            "started_at": "2026-03-04T11:59:52.000000Z",
            "ended_at": "2026-03-04T11:59:58.000000Z",
            "failure": FAILURE,
            "backoff_seconds": 1.5,
            "next_attempt_at": "2026-03-04T11:59:59.500000Z",
            "heartbeat_at": "2026-03-04T11:59:57.000000Z",
            "heartbeat_details": [PAYLOAD],
        },
        {
            "number": 2,
            "outcome": "running",
            "worker_identity": "w@h",
            "scheduled_at": None,
            "started_at": "2026-03-04T12:00:00.000000Z",
            "ended_at": None,
            "failure": None,
            "backoff_seconds": None,
            "next_attempt_at": None,
            "heartbeat_at": None,
            "heartbeat_details": None,
        },
    ]


def test_input_and_output_are_shown_as_they_were_noted(client: Client) -> None:
    execution_id = an_execution("fetch")
    options = {"retry_policy": {"maximum_attempts": 3}}
    with changing(execution_id):
        note_details(
            execution_id,
            [
                DetailsNote(
                    activity_id="fetch",
                    engine_activity_id="1",
                    task_queue="orders",
                    options=options,
                    input=[PAYLOAD],
                )
            ],
        )
    answer = shown(client, execution_id, "fetch")
    assert (answer["task_queue"], answer["options"]) == ("orders", options)
    assert (answer["input"], answer["output"]) == ([PAYLOAD], None)
    with changing(execution_id):
        note_output(execution_id, "fetch", [])
    assert shown(client, execution_id, "fetch")["output"] == []


def test_of_many_attempts_the_newest_are_shown_and_the_others_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_details, "ATTEMPTS_SHOWN", 3)
    execution_id = an_execution("fetch", "other")
    noted(execution_id, *(AttemptNote(activity_id="fetch", number=n) for n in (1, 2, 4)))
    noted(execution_id, *(AttemptNote(activity_id="other", number=n) for n in range(1, 9)))
    answer = shown(client, execution_id, "fetch")
    assert [each["number"] for each in answer["attempts"]] == [1, 2, 4]
    assert answer["attempts_omitted"] == 0
    noted(execution_id, *(AttemptNote(activity_id="fetch", number=n) for n in (5, 6)))
    answer = shown(client, execution_id, "fetch")
    assert [each["number"] for each in answer["attempts"]] == [4, 5, 6]
    assert answer["attempts_omitted"] == 2


def test_thousands_of_attempts_are_a_bounded_answer(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    execution_id = an_execution("fetch")
    noted(execution_id, *(AttemptNote(activity_id="fetch", number=n) for n in range(1, 3001)))
    with django_assert_max_num_queries(8):  # session, user, permissions twice, and four of ours
        answer = shown(client, execution_id, "fetch")
    assert [each["number"] for each in answer["attempts"]] == list(range(2801, 3001))
    assert answer["attempts_omitted"] == 2800


@pytest.mark.parametrize("activity_id", ODD_IDS)
def test_any_activity_id_is_found_with_and_without_a_slash_behind_it(
    client: Client, activity_id: str
) -> None:
    execution_id = an_execution("decoy", activity_id)
    encoded = address_of(execution_id, activity_id)
    with_plain_slashes = encoded.replace("%2F", "/")
    by_name = reverse("activity", args=[execution_id, activity_id])
    for address in (encoded, f"{encoded}/", with_plain_slashes, f"{with_plain_slashes}/", by_name):
        response = client.get(address)
        assert (address, response.status_code) == (address, 200)
        assert response.json()["activity_id"] == activity_id


def test_a_slash_at_the_end_is_the_ids_own_where_there_is_such_an_activity(client: Client) -> None:
    execution_id = an_execution("a", "a/", "b//")
    for asked, found in [
        ("a", "a"),
        ("a/", "a/"),
        ("a%2F", "a/"),
        ("a//", "a/"),
        ("b//", "b//"),
        ("b///", "b//"),
    ]:
        response = client.get(f"/api/v1/executions/{execution_id}/activities/{asked}")
        assert (asked, response.json()["activity_id"]) == (asked, found)
    assert client.get(address_of(execution_id, "a///")).status_code == 404
    assert client.get(address_of(execution_id, "b/")).status_code == 404


def test_through_the_server_any_activity_id_is_found(open_web: WebServer) -> None:
    execution_id = an_execution(*ODD_IDS)
    for activity_id in ODD_IDS:
        address = f"{open_web.http}{address_of(execution_id, activity_id)}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310
            activity = Activity.objects.get(activity_id=activity_id)
            assert f'"position":{activity.position},'.encode() in answer.read()


@pytest.mark.parametrize("activity_id", ["nobody", "FETCH", "%00", "fetch%00", "%FF", "x" * 5000])
def test_an_unknown_activity_is_404_and_names_both(client: Client, activity_id: str) -> None:
    execution_id = an_execution("fetch", execution_id="known")
    response = client.get(f"/api/v1/executions/{execution_id}/activities/{activity_id}")
    assert response.status_code == 404
    detail = response.json()["detail"]
    assert detail.startswith("Execution 'known' has no activity ")
    assert len(detail) < 400


def test_an_activity_of_another_execution_is_404(client: Client) -> None:
    an_execution("fetch")
    execution_id = an_execution("send")
    assert client.get(address_of(execution_id, "fetch")).status_code == 404


def test_the_execution_is_told_of_where_it_is_unknown_or_malformed(client: Client) -> None:
    unknown = client.get(address_of("nobody", "a"))
    assert unknown.status_code == 404
    assert unknown.json() == {"detail": "There is no execution 'nobody'."}
    assert client.get(address_of("-x", "a")).status_code == 400
    execution_id = an_execution("a")
    bad = client.get(f"{address_of(execution_id, 'a')}?include=activities")
    assert bad.status_code == 400
    assert set(bad.json()["parameters"]) == {"include"}


def test_those_who_may_not_view_cannot_tell_what_there_is() -> None:
    execution_id = an_execution("secret")
    for user, status in ((None, 401), (a_user("stranger"), 404)):
        asking = client_of(user)
        answers = [
            asking.get(address_of(execution_id, "secret")),
            asking.get(address_of(execution_id, "nothing")),
            asking.get(address_of("nobody", "secret")),
        ]
        assert [each.status_code for each in answers] == [status] * 3
        contents = {each.content.replace(b"nobody", execution_id.encode()) for each in answers}
        assert len(contents) == 1


@pytest.mark.parametrize(
    ("ended_at", "next_attempt_at", "expected"),
    [
        (None, None, None),
        (NOON, None, None),
        (None, NOON, None),
        (NOON, NOON + timedelta(seconds=2.25), 2.25),
        (NOON, NOON - timedelta(milliseconds=3), 0.0),
    ],
)
def test_the_backoff_is_the_wait_between_two_attempts(
    ended_at: datetime | None, next_attempt_at: datetime | None, expected: float | None
) -> None:
    assert backoff_seconds(ended_at, next_attempt_at) == expected


def test_the_declared_fields_are_those_that_are_shown(client: Client) -> None:
    execution_id = an_execution("fetch")
    noted(execution_id, AttemptNote(activity_id="fetch", number=1))
    answer = shown(client, execution_id, "fetch")
    assert list(ActivityDetailSerializer().fields) == list(answer)
    assert list(AttemptSerializer().fields) == list(answer["attempts"][0])
    assert list(FailureSerializer().fields) == list(FAILURE)
    assert list(ShownPayloadSerializer().fields) == list(PAYLOAD)
