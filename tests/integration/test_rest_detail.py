"""GET /api/v1/executions/{execution_id}: the document, what it may include, and its event_id."""

from collections.abc import Iterator

import msgspec
import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from executions import document
from executions.api.serializers import (
    ActivitySerializer,
    ErrorDetailsSerializer,
    ExecutionDetailSerializer,
    ExecutionSerializer,
)
from executions.models import Activity, Execution
from executions.recording import NewActivity, changing
from executions.snapshots import read_snapshot
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.rest import JsonObject, an_operator_client
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, fold, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

DETAIL = "/api/v1/executions/{}"
ERROR = {"type": "ValueError", "message": "no 💥"}


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def client() -> Client:
    return an_operator_client()


def assert_shows_what_the_log_tells(client: Client, execution_id: str) -> None:
    """REST, the snapshot and the fold of the log: the same document, as bytes, at one id."""
    log = assert_log_is_whole(execution_id)
    snapshot = read_snapshot(execution_id)
    assert snapshot is not None
    response = client.get(f"{DETAIL.format(execution_id)}?include=activities")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Nexus-Event-Id"] == str(snapshot.event_id) == str(log[-1].event_id)
    assert response.content == msgspec.json.encode(snapshot.document)
    assert response.json() == fold(event.message for event in log)


def test_with_activities_it_is_the_document_of_the_snapshots(client: Client) -> None:
    execution_id = an_execution("fetch", "send")
    assert_shows_what_the_log_tells(client, execution_id)
    with changing(execution_id) as change:
        fetch = change.activity("fetch")
        fetch.status = ActivityStatus.RUNNING
        fetch.progress = 1e-7  # json and msgspec write it differently
        change.add_activity(
            NewActivity(activity_id="late", activity_name="🦉\0\ud800", depends_on=["fetch"])
        )
    assert_shows_what_the_log_tells(client, execution_id)
    with changing(execution_id) as change:
        change.activity("fetch").status = ActivityStatus.FAILED
        change.activity("fetch").error_details = ERROR
        change.execution.status = ExecutionStatus.FAILED
        change.execution.error_details = ERROR
    assert_shows_what_the_log_tells(client, execution_id)


def test_simulated_lives_are_shown_as_the_log_tells_them(client: Client) -> None:
    call_command("simulate", executions=5, activities=6, changes_per_second=0, seed=11)
    for execution_id in Execution.objects.values_list("pk", flat=True):
        assert_shows_what_the_log_tells(client, execution_id)


def test_without_include_it_is_the_document_without_activities(client: Client) -> None:
    execution_id = an_execution("fetch", workflow_definition={"nodes": []})
    with changing(execution_id) as change:
        change.activity("fetch").status = ActivityStatus.RUNNING
    response = client.get(DETAIL.format(execution_id))
    row = Execution.objects.get(pk=execution_id)
    assert response.json() == document.execution_fields(row)
    assert row.head.sequence == 1
    assert response["Nexus-Event-Id"] == str(row.head)
    assert client.get(f"{DETAIL.format(execution_id)}/").content == response.content


@pytest.mark.parametrize(
    ("query", "added"),
    [
        ("include=activities", ["activities"]),
        ("include=workflow_definition", ["workflow_definition"]),
        ("include=activities,workflow_definition", ["activities", "workflow_definition"]),
        ("include=workflow_definition&include=activities", ["activities", "workflow_definition"]),
        ("include=activities&include=activities,activities", ["activities"]),
    ],
)
def test_include_is_repeated_or_comma_separated(
    client: Client, query: str, added: list[str]
) -> None:
    definition = {"nodes": ["a", {"ü": [1, 2.5, None, True]}], "edges": {}}
    execution_id = an_execution("fetch", workflow_definition=definition)
    shown = client.get(f"{DETAIL.format(execution_id)}?{query}").json()
    plain = client.get(DETAIL.format(execution_id)).json()
    assert list(shown) == [*plain, *added]
    assert {name: shown[name] for name in plain} == plain
    if "workflow_definition" in added:
        assert shown["workflow_definition"] == definition


def test_workflow_definition_is_null_where_there_is_none(client: Client) -> None:
    execution_id = an_execution()
    address = f"{DETAIL.format(execution_id)}?include=workflow_definition,activities"
    shown = client.get(address).json()
    assert shown["workflow_definition"] is None
    assert shown["activities"] == []


def test_a_large_definition_arrives_whole(client: Client) -> None:
    definition = ["ä" * 1000] * 500
    execution_id = an_execution(workflow_definition=definition)
    address = f"{DETAIL.format(execution_id)}?include=workflow_definition"
    assert client.get(address).json()["workflow_definition"] == definition


@pytest.mark.parametrize(
    ("query", "name", "accepted"),
    [
        ("include=inputs", "include", "'inputs' is not accepted; accepted are activities, workf"),
        ("include=activities,", "include", "'' is not accepted"),
        ("include=", "include", "must not be empty"),
        ("include=Activities", "include", "accepted are activities, workflow_definition"),
        ("include=%00", "include", "NUL"),
        ("includes=activities", "includes", "accepted are include"),
    ],
)
def test_a_bad_include_is_named_with_what_is_accepted(
    client: Client, query: str, name: str, accepted: str
) -> None:
    response = client.get(f"{DETAIL.format(an_execution())}?{query}")
    assert response.status_code == 400
    answer = response.json()
    assert accepted in answer["parameters"][name][0]
    assert name in answer["detail"]


@pytest.mark.parametrize("query", ["", "?include=activities"])
def test_an_unknown_execution_is_404(client: Client, query: str) -> None:
    response = client.get(DETAIL.format("nobody") + query)
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no execution 'nobody'."}


@pytest.mark.parametrize("text", ["-x", "%00", "a%20b", "%C3%A4", "x" * 65, "a%0A", "x" * 5000])
def test_a_malformed_execution_id_is_400_with_its_form(client: Client, text: str) -> None:
    response = client.get(DETAIL.format(text))
    assert response.status_code == 400
    answer = response.json()
    assert "[A-Za-z0-9][A-Za-z0-9._-]{0,63}" in answer["detail"]
    assert len(answer["detail"]) < 400


@pytest.mark.parametrize("execution_id", ["a", "A.b_c-1", "x" * 64, "0..", "schema", "docs"])
def test_every_wellformed_execution_id_is_found(client: Client, execution_id: str) -> None:
    an_execution(execution_id=execution_id)
    for address in (DETAIL.format(execution_id), f"{DETAIL.format(execution_id)}/"):
        assert client.get(address).json()["execution_id"] == execution_id


def test_a_head_request_tells_the_event_id_alone(client: Client) -> None:
    execution_id = an_execution()
    response = client.head(DETAIL.format(execution_id))
    assert response.status_code == 200
    assert response["Nexus-Event-Id"] == str(Execution.objects.get(pk=execution_id).head)
    assert response.content == b""


def test_the_number_of_queries_does_not_grow_with_the_activities(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    execution_id = an_execution(*(f"a{number}" for number in range(300)))
    address = f"{DETAIL.format(execution_id)}?include=activities,workflow_definition"
    with django_assert_max_num_queries(7):  # session, user, permissions, document, definition
        assert len(client.get(address).json()["activities"]) == 300


def test_the_declared_fields_are_the_documents() -> None:
    execution_id = an_execution("fetch")
    row = Execution.objects.get(pk=execution_id)
    activity = Activity.objects.get()
    activity_keys = document.activity_document(activity)
    assert list(ExecutionSerializer().fields) == list(document.execution_fields(row))
    assert list(ActivitySerializer().fields) == list(activity_keys)
    assert list(ExecutionDetailSerializer().fields) == [
        *document.execution_document(row, [activity]),
        "workflow_definition",
    ]
    assert set(ErrorDetailsSerializer().fields) == set(ERROR)
    shown: JsonObject = dict(ExecutionSerializer(row).data)
    assert shown == document.execution_fields(row)
    assert dict(ActivitySerializer(activity).data) == activity_keys
