"""The OpenAPI document is valid, complete, and true of real answers; its page needs no network."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from jsonschema import Draft202012Validator, ValidationError

from executions.api.pagination import NewestFirstPagination
from executions.api.views import INCLUDABLE, ExecutionListView
from executions.attempts import AttemptNote, AttemptOutcome
from executions.ledger import (
    DetailsNote,
    PointNote,
    note_attempts,
    note_details,
    note_output,
    note_points,
)
from executions.models import Execution
from executions.recording import changing
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from tests.rest import JsonObject, an_operator_client
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"
DETAIL = "/api/v1/executions/{execution_id}"
ACTIVITY = f"{DETAIL}/activities/{{activity_id}}"
STORY = f"{DETAIL}/story"
ACTING = [f"{DETAIL}/cancel", f"{DETAIL}/terminate"]
TOKENS = "/api/v1/tokens"
TOKEN = "/api/v1/tokens/{token_key}"
TICKETS = "/api/v1/tickets"


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def described() -> JsonObject:
    document: JsonObject = Client().get("/api/v1/schema?format=json").json()
    return document


def as_json_schema(part: Any) -> Any:
    """OpenAPI 3.0's schema as JSON Schema, in which objects hold nothing undeclared."""
    if isinstance(part, list):
        return [as_json_schema(item) for item in part]
    if not isinstance(part, dict):
        return part
    schema = {name: as_json_schema(value) for name, value in part.items() if name != "nullable"}
    if schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return {"anyOf": [schema, {"type": "null"}]} if part.get("nullable") is True else schema


def assert_as_described(
    described: JsonObject, path: str, status: int, answer: JsonObject, method: str = "get"
) -> None:
    response = described["paths"][path][method]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]
    components = as_json_schema(described["components"])
    validator = Draft202012Validator(as_json_schema(schema) | {"components": components})
    validator.validate(answer)


def test_the_document_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    target = tmp_path / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(target))
    written = yaml.safe_load(target.read_text())
    assert written["openapi"].startswith("3.")
    assert {path: set(methods) for path, methods in written["paths"].items()} == {
        **{path: {"get"} for path in (LIST, DETAIL, ACTIVITY, STORY)},
        **{path: {"post"} for path in (*ACTING, TICKETS)},
        TOKENS: {"get", "post"},
        TOKEN: {"delete"},
    }
    assert written == yaml.safe_load(Client().get("/api/v1/schema").content)


def test_the_same_document_is_at_both_paths_as_yaml_or_json() -> None:
    client = Client()
    for path in ("/api/v1/schema", "/api/v1/schema/"):
        as_yaml, as_json = (
            client.get(path),
            client.get(path, headers={"Accept": "application/json"}),
        )
        assert yaml.safe_load(as_yaml.content) == json.loads(as_json.content)


def test_every_parameter_is_described_and_no_other(described: JsonObject) -> None:
    listed = described["paths"][LIST]["get"]["parameters"]
    accepted = {*ExecutionListView.once, *ExecutionListView.repeatable}
    assert {each["name"] for each in listed} == accepted
    assert accepted >= set(NewestFirstPagination.parameters)
    assert all(each["description"] for each in listed)
    (status,) = [each for each in listed if each["name"] == "status"]
    assert status["schema"]["items"]["enum"] == list(ExecutionStatus)
    detail = described["paths"][DETAIL]["get"]["parameters"]
    assert {(each["name"], each["in"]) for each in detail} == {
        ("execution_id", "path"),
        ("include", "query"),
    }
    (include,) = [each for each in detail if each["name"] == "include"]
    assert include["schema"]["items"]["enum"] == list(INCLUDABLE)
    accepted_elsewhere = {
        ACTIVITY: {("execution_id", "path"), ("activity_id", "path")},
        STORY: {("execution_id", "path"), ("cursor", "query"), ("page_size", "query")},
        **{path: {("execution_id", "path")} for path in ACTING},
    }
    for path, accepted_there in accepted_elsewhere.items():
        (operation,) = described["paths"][path].values()
        assert {(each["name"], each["in"]) for each in operation["parameters"]} == accepted_there


def test_errors_the_event_id_and_the_statuses_are_described(described: JsonObject) -> None:
    for path in (LIST, DETAIL, ACTIVITY, STORY):
        responses = described["paths"][path]["get"]["responses"]
        assert set(responses) == {"200", "400", "401", "404", "500"}
    for path in (DETAIL, ACTIVITY):
        headers = described["paths"][path]["get"]["responses"]["200"]["headers"]
        assert list(headers) == ["Nexus-Event-Id"]
    for path in ACTING:
        responses = described["paths"][path]["post"]["responses"]
        errors = {"400", "401", "403", "404", "409", "415", "500", "503"}
        assert set(responses) == {"202", *errors}
        assert list(responses["503"]["headers"]) == ["Retry-After"]
    for path, method, statuses in [
        (TOKENS, "get", {"200", "400", "401", "403", "429", "500"}),
        (TOKENS, "post", {"201", "400", "401", "403", "409", "415", "429", "500"}),
        (TOKEN, "delete", {"204", "400", "401", "403", "404", "429", "500"}),
    ]:
        responses = described["paths"][path][method]["responses"]
        assert set(responses) == statuses
        assert list(responses["429"]["headers"]) == ["Retry-After"]
    schemas = described["components"]["schemas"]
    assert schemas["PendingState"]["enum"] == list(PendingState)
    assert schemas["AttemptOutcome"]["enum"] == list(AttemptOutcome)
    assert schemas["ExecutionStatus"]["enum"] == list(ExecutionStatus)
    assert schemas["ActivityStatus"]["enum"] == list(ActivityStatus)
    assert set(described["components"]["securitySchemes"]) == {
        "basicAuth",
        "cookieAuth",
        "tokenAuth",
    }


def test_real_answers_are_as_described(described: JsonObject) -> None:
    client = an_operator_client()
    call_command("simulate", executions=20, activities=6, changes_per_second=0, seed=3)
    pages = [client.get(f"{LIST}?page_size=8").json()]
    pages.append(client.get(pages[0]["next"]).json())
    for page in pages:
        assert_as_described(described, LIST, 200, page)
    failed = Execution.objects.filter(status=ExecutionStatus.FAILED)[:3]
    assert failed, "the seed is to make some fail"
    for execution in failed:
        address = f"{LIST}/{execution.pk}"
        for query in ("", "?include=activities", "?include=activities,workflow_definition"):
            response = client.get(address + query)
            assert_as_described(described, DETAIL, 200, response.json())
            header = described["paths"][DETAIL]["get"]["responses"]["200"]["headers"]
            assert re.fullmatch(
                header["Nexus-Event-Id"]["schema"]["pattern"], response["Nexus-Event-Id"]
            )
    for asking, path, address, status in [
        (client, LIST, f"{LIST}?status=x", 400),
        (client, DETAIL, f"{LIST}/-", 400),
        (client, DETAIL, f"{LIST}/unknown", 404),
        (Client(), LIST, LIST, 401),
        (Client(), DETAIL, f"{LIST}/unknown", 401),
    ]:
        response = asking.get(address)
        assert response.status_code == status
        assert_as_described(described, path, status, response.json())


def test_what_may_be_sent_is_described(described: JsonObject) -> None:
    sendable = {path: described["paths"][path]["post"]["requestBody"]["content"] for path in ACTING}
    assert all(list(content) == ["application/json"] for content in sendable.values())
    components = as_json_schema(described["components"])
    cancel, terminate = (
        Draft202012Validator(
            as_json_schema(content["application/json"]["schema"]) | {"components": components}
        )
        for content in sendable.values()
    )
    for body, cancels, terminates in [
        ({"reason": "why"}, True, True),
        ({}, True, False),
        ({"reason": ""}, True, False),
        ({"reason": "x" * 1001}, False, False),
        ({"reason": "why", "more": 1}, False, False),
    ]:
        assert (cancel.is_valid(body), terminate.is_valid(body)) == (cancels, terminates), body


def test_what_is_known_beyond_the_document_is_as_described(described: JsonObject) -> None:
    client = an_operator_client()
    now = timezone.now()
    good = {
        "encoding": "json/plain",
        "size_bytes": 1,
        "value": 1,
        "is_cut": False,
        "problem": None,
    }
    payloads = [
        good,
        {**good, "value": None, "problem": "encrypted"},
        {**good, "encoding": "", "value": "text", "is_cut": True},
        {**good, "value": {"any": ["thing"]}},
    ]
    point = {"kind": "signal", "name": "go", "at": "2026-01-02T03:04:05.678901Z"}
    an_execution(
        "full",
        "empty",
        execution_id="e",
        parent_execution_id="p",
        previous_execution_id="q",
        next_execution_id="n",
        latest_point=point,
    )
    with changing("e") as change:
        full = change.activity("full")
        full.status, full.pending_state = ActivityStatus.RETRYING, PendingState.PAUSED
        full.scheduled_at = full.next_attempt_at = now
        full.child_execution_id = "c"
        note_details(
            "e",
            [
                DetailsNote(
                    activity_id="full",
                    engine_activity_id="1",
                    task_queue="q",
                    options={"any": {"thing": None}},
                    input=payloads,
                )
            ],
        )
        note_output("e", "full", payloads)
        failure = {"type": None, "message": "m", "stack_trace": ""}
        note_attempts(
            "e",
            [
                AttemptNote(
                    activity_id="full",
                    number=number,
                    outcome=outcome,
                    worker_identity="w",
                    scheduled_at=now,
                    started_at=now,
                    ended_at=now,
                    failure=failure,
                    next_attempt_at=now,
                    heartbeat_at=now,
                    heartbeat_details=payloads,
                )
                for number, outcome in enumerate(AttemptOutcome, start=1)
            ]
            + [AttemptNote(activity_id="full", number=99)],
        )
        note_points(
            "e",
            [
                PointNote(engine_event_id=1, at=now, kind="signal", name="go", details={"a": []}),
                PointNote(engine_event_id=2, at=now, kind="cancel_requested"),
            ],
        )
    for path, address in [
        (LIST, LIST),
        (DETAIL, f"{LIST}/e?include=activities"),
        (ACTIVITY, f"{LIST}/e/activities/full"),
        (ACTIVITY, f"{LIST}/e/activities/empty"),
        (STORY, f"{LIST}/e/story?page_size=1"),
        (STORY, f"{LIST}/e/story"),
    ]:
        response = client.get(address)
        assert response.status_code == 200
        assert_as_described(described, path, 200, response.json())
    for path, address, status in [
        (ACTIVITY, f"{LIST}/e/activities/none", 404),
        (ACTIVITY, f"{LIST}/-/activities/none", 400),
        (STORY, f"{LIST}/e/story?cursor=x", 400),
        (STORY, f"{LIST}/none/story", 404),
    ]:
        response = client.get(address)
        assert response.status_code == status
        assert_as_described(described, path, status, response.json())


def test_what_is_told_of_tokens_is_as_described(described: JsonObject) -> None:
    client = an_operator_client()
    created = client.post(TOKENS, {"days": 1}, content_type="application/json")
    key = created.json()["token_key"]
    for response, path, method, status in [
        (created, TOKENS, "post", 201),
        (client.get(TOKENS), TOKENS, "get", 200),
        (client.post(TOKENS, {"days": 0}, content_type="application/json"), TOKENS, "post", 400),
        (client.post(TOKENS, "x", content_type="text/plain"), TOKENS, "post", 415),
        (client.delete(f"{TOKENS}/none"), TOKEN, "delete", 404),
        (Client().delete(f"{TOKENS}/{key}"), TOKEN, "delete", 401),
    ]:
        assert response.status_code == status
        assert_as_described(described, path, status, response.json(), method)
    assert client.delete(f"{TOKENS}/{key}").status_code == 204


def test_what_is_not_described_would_be_noticed(described: JsonObject) -> None:
    client = an_operator_client()
    call_command("simulate", executions=1, activities=1, changes_per_second=0, seed=3)
    good = client.get(f"{LIST}?page_size=1").json()
    (item,) = good["results"]
    for change in ({"surplus": 1}, {"status": "done"}, {"created_at": None}):
        bad = {**good, "results": [item | change]}
        with pytest.raises(ValidationError):
            assert_as_described(described, LIST, 200, bad)


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/docs/"])
def test_the_page_needs_nothing_from_elsewhere(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 200
    html = unescape(response.content.decode())
    assert "/api/v1/schema" in html
    linked = re.findall(r"""(?:src|href)=["']([^"']+)""", html)
    assert linked
    for address in linked:
        assert address.startswith("/static/"), address
        assert finders.find(address.removeprefix("/static/")), address
    assert not re.search(r"https?://", html)
