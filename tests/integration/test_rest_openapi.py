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
from jsonschema import Draft202012Validator, ValidationError

from executions.api.pagination import NewestFirstPagination
from executions.api.views import INCLUDABLE, ExecutionListView
from executions.models import Execution
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.rest import JsonObject, an_operator_client
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"
DETAIL = "/api/v1/executions/{execution_id}"


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


def assert_as_described(described: JsonObject, path: str, status: int, answer: JsonObject) -> None:
    response = described["paths"][path]["get"]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]
    components = as_json_schema(described["components"])
    validator = Draft202012Validator(as_json_schema(schema) | {"components": components})
    validator.validate(answer)


def test_the_document_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    target = tmp_path / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(target))
    written = yaml.safe_load(target.read_text())
    assert written["openapi"].startswith("3.")
    assert set(written["paths"]) == {LIST, DETAIL}
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


def test_errors_the_event_id_and_the_statuses_are_described(described: JsonObject) -> None:
    for path in (LIST, DETAIL):
        responses = described["paths"][path]["get"]["responses"]
        assert set(responses) == {"200", "400", "401", "404", "500"}
    headers = described["paths"][DETAIL]["get"]["responses"]["200"]["headers"]
    assert list(headers) == ["Nexus-Event-Id"]
    schemas = described["components"]["schemas"]
    assert schemas["ExecutionStatus"]["enum"] == list(ExecutionStatus)
    assert schemas["ActivityStatus"]["enum"] == list(ActivityStatus)
    assert "basicAuth" in described["components"]["securitySchemes"]


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
