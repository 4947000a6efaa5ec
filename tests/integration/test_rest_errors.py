"""Whatever goes wrong under /api/, the answer is JSON and holds no trace."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import got_request_exception
from django.test import Client
from pytest_django import Settings

from executions.api import answering, views
from tests.rest import an_operator_client
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST = "/api/v1/executions"


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture(params=[False, True], ids=["production", "debug"])
def client(request: pytest.FixtureRequest, settings: Settings) -> Client:
    settings.DEBUG = request.param
    return an_operator_client()


def assert_error(response: Any, status: int) -> str:
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    detail = response.json()["detail"]
    assert detail
    assert "Traceback" not in response.content.decode()
    return str(detail)


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/executions",
        "/api/v1/executions/a/b",
        "/api/v1/executions/a/activities",
        "/api/v1/executions/a/activities/",
        "/api/v1/executions/a/story/b",
        "/api/v1/executions/a/cancel/b",
        "/api//",
    ],
)
@pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
def test_an_unknown_path_is_404(client: Client, path: str, method: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    for asking in (client, strict):
        detail = assert_error(getattr(asking, method)(path), 404)
        assert "/api/v1/docs" in detail


@pytest.mark.parametrize(
    "path",
    [
        LIST,
        f"{LIST}/known",
        f"{LIST}/known/story",
        f"{LIST}/known/activities/a/b",
        "/api/v1/docs",
        "/api/v1/schema",
    ],
)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_only_reading_is_possible(client: Client, path: str, method: str) -> None:
    response = getattr(client, method)(path)
    assert_error(response, 405)
    assert response["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("query", ["", "?include=activities"])
def test_an_unforeseen_error_is_told_without_its_trace_and_logged_with_it(
    client: Client, query: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("the secret of this place")

    monkeypatch.setattr(views, "_read", fail)
    told: list[Any] = []

    def listen(**kwargs: Any) -> None:
        told.append(kwargs["request"].path)

    got_request_exception.connect(listen)
    try:
        with caplog.at_level(logging.ERROR, "django.request"):
            response = client.get(f"{LIST}/known{query}")
    finally:
        got_request_exception.disconnect(listen)
    assert "secret" not in assert_error(response, 500)
    (record,) = [each for each in caplog.records if each.name == "django.request"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert told == [f"{LIST}/known"]


def test_an_error_outside_of_the_views_is_told_without_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = an_operator_client()

    def fail(*args: object) -> bytes:
        raise ZeroDivisionError("the secret of this place")

    monkeypatch.setattr(answering.DocumentRenderer, "render", fail)
    assert "secret" not in assert_error(client.get(LIST), 500)


def test_a_path_with_a_line_break_is_404() -> None:
    assert_error(Client().get("/api/v1/a%0Ab"), 404)


def test_a_host_that_is_not_ours_is_400() -> None:
    assert_error(Client().get(LIST, headers={"Host": "elsewhere.example"}), 400)


def test_more_parameters_than_can_be_meant_are_400(client: Client) -> None:
    query = "&".join(f"p{number}=1" for number in range(1001))
    assert_error(client.get(f"{LIST}?{query}"), 400)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", ""])
def test_what_the_client_would_rather_have_makes_no_difference(client: Client, accept: str) -> None:
    an_execution(execution_id="known")
    response = client.get(f"{LIST}/known", headers={"Accept": accept})
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert_error(client.get(f"{LIST}/unknown", headers={"Accept": accept}), 404)


def test_other_paths_keep_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    client = an_operator_client()
    assert client.get("/nothing")["Content-Type"].startswith("text/html")
    refused = client.get("/admin/", headers={"Host": "elsewhere.example"})
    assert refused.status_code == 400
    assert refused["Content-Type"].startswith("text/html")
    monkeypatch.delattr("executions.inspection.shown_moment")
    an_execution()
    failed = client.get("/admin/executions/execution/")
    assert failed.status_code == 500
    assert failed["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/", "/?a=b"])
def test_the_root_leads_to_the_description(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"] == "/api/v1/docs"
