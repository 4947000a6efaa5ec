"""POST /api/v1/executions/{execution_id}/cancel and /terminate, on runs of a real Temporal."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowHandle

from executions.models import Execution
from executions.recording import changing
from executions.statuses import ExecutionStatus
from executions.temporal import acting, api
from tests.rest import a_token, a_user, client_of, with_token
from tests.samples import an_execution
from tests.truth import nobody_listening

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

CANCEL = "cancel"
TERMINATE = "terminate"
BOTH = [CANCEL, TERMINATE]
REASON = {"reason": "the customer 🏃 called"}


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def temporal(temporal_address: str, settings: Settings) -> str:
    settings.TEMPORAL_ADDRESS = temporal_address
    return temporal_address


@pytest.fixture
def operator() -> Client:
    return client_of(a_user("olga", may=["view", "cancel", "terminate"]))


def ask(client: Client, execution_id: str, verb: str, body: object = REASON) -> Any:
    return client.post(
        f"/api/v1/executions/{execution_id}/{verb}", body, content_type="application/json"
    )


def refusal(response: Any, status: int) -> str:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert set(response.json()) == {"detail"}
    assert "Traceback" not in response.content.decode()
    return str(response.json()["detail"])


def a_run(address: str) -> str:
    """A run that nobody works on, and its execution, which nobody mirrors: its id is the run's."""

    async def started() -> WorkflowHandle[Any, Any]:
        client = await TemporalClient.connect(address)
        return await client.start_workflow("Waiting", id=f"w-{uuid4().hex}", task_queue="nobodys")

    handle = asyncio.run(started())
    run_id = handle.first_execution_run_id
    assert run_id is not None
    return an_execution(execution_id=run_id, run_id=run_id, workflow_id=handle.id)


def history_of(address: str, execution_id: str) -> list[HistoryEvent]:
    workflow_id = Execution.objects.get(pk=execution_id).workflow_id

    async def read() -> list[HistoryEvent]:
        client = await TemporalClient.connect(address)
        run = client.get_workflow_handle(workflow_id, run_id=execution_id)
        return list((await run.fetch_history()).events)

    return asyncio.run(read())


def told(events: list[HistoryEvent], kind: "EventType.ValueType") -> list[HistoryEvent]:
    return [event for event in events if event.event_type == kind]


def test_cancelling_requests_it_of_temporal_with_the_reason(
    temporal: str, operator: Client
) -> None:
    execution_id = a_run(temporal)
    response = ask(operator, execution_id, CANCEL)
    assert response.status_code == 202
    assert set(response.json()) == {"detail"}
    assert "asked to cancel" in response.json()["detail"]
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    (event,) = told(history_of(temporal, execution_id), kind)
    requested = event.workflow_execution_cancel_requested_event_attributes
    assert (requested.cause, requested.identity) == (REASON["reason"], "olga (Nexus)")
    assert Execution.objects.get().status == ExecutionStatus.RUNNING, "nothing is recorded here"


def test_cancelling_again_while_it_is_under_way_is_the_same_request(
    temporal: str, operator: Client
) -> None:
    execution_id = a_run(temporal)
    answers = [ask(operator, execution_id, CANCEL, body) for body in (REASON, {}, REASON)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.content for answer in answers}) == 1
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    assert len(told(history_of(temporal, execution_id), kind)) == 1


@pytest.mark.parametrize("slash", ["", "/"])
def test_cancelling_needs_no_body(temporal: str, operator: Client, slash: str) -> None:
    execution_id = a_run(temporal)
    address = f"/api/v1/executions/{execution_id}/cancel{slash}"
    response = operator.generic("POST", address, b"", content_type="")
    assert response.status_code == 202, response.content


def test_terminating_ends_the_run_with_the_reason_and_may_be_repeated(
    temporal: str, operator: Client
) -> None:
    execution_id = a_run(temporal)
    answers = [ask(operator, execution_id, TERMINATE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202] * 2
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED
    (event,) = told(history_of(temporal, execution_id), kind)
    terminated = event.workflow_execution_terminated_event_attributes
    assert (terminated.reason, terminated.identity) == (REASON["reason"], "olga (Nexus)")
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.TERMINATED
    assert "status terminated" in refusal(ask(operator, execution_id, TERMINATE), 409)


@pytest.mark.parametrize("was_cancelled_before", [True, False])
def test_what_temporal_says_has_ended_otherwise_is_409_with_that_status(
    temporal: str, operator: Client, was_cancelled_before: bool
) -> None:
    execution_id = a_run(temporal)
    if was_cancelled_before:
        # of such a run, Temporal itself accepts another request after its end
        assert ask(operator, execution_id, CANCEL).status_code == 202
    assert ask(operator, execution_id, TERMINATE).status_code == 202
    assert "status terminated" in refusal(ask(operator, execution_id, CANCEL), 409)


@pytest.mark.parametrize("verb", BOTH)
@pytest.mark.parametrize("status", [each for each in ExecutionStatus if each.is_final])
def test_what_has_ended_is_409_without_asking_temporal(
    operator: Client, settings: Settings, verb: str, status: ExecutionStatus
) -> None:
    del settings.TEMPORAL_ADDRESS
    execution_id = an_execution(run_id=str(uuid4()), status=status)
    assert f"status {status}:" in refusal(ask(operator, execution_id, verb), 409)


@pytest.mark.parametrize("verb", BOTH)
@pytest.mark.parametrize("run_id", [None, "simulated-run", "00000000-0000-4000-8000-000000000000"])
def test_what_is_no_run_of_temporals_is_409(
    temporal: str, operator: Client, verb: str, run_id: str | None
) -> None:
    latest = Execution.objects.get(pk=a_run(temporal))
    execution_id = an_execution(run_id=run_id, workflow_id=latest.workflow_id)
    assert "no run that Temporal has" in refusal(ask(operator, execution_id, verb), 409)
    assert len(history_of(temporal, latest.pk)) == 2, "the latest run of that id is left alone"


def test_a_run_in_another_namespace_is_409(
    temporal: str, operator: Client, settings: Settings
) -> None:
    execution_id = a_run(temporal)
    settings.TEMPORAL_NAMESPACE = "elsewhere"
    assert "no run that Temporal has" in refusal(ask(operator, execution_id, CANCEL), 409)


@pytest.mark.parametrize("verb", BOTH)
@pytest.mark.parametrize("listens", [True, False])
def test_while_temporal_is_away_it_is_503_with_retry_after(
    operator: Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    listens: bool,
) -> None:
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.3)
    execution_id = an_execution(run_id=str(uuid4()))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        settings.TEMPORAL_ADDRESS = f"127.0.0.1:{silent.getsockname()[1]}"
        response = ask(operator, execution_id, verb)
    detail = refusal(response, 503)
    assert "Temporal did not answer within 0.3 s" in detail
    assert "127.0.0.1" not in detail
    assert response["Retry-After"] == "5"


@pytest.mark.parametrize("open_reading", [False, True])
@pytest.mark.parametrize(
    ("may", "cancel", "terminate", "open_cancel", "open_terminate"),
    [
        (None, 401, 401, 401, 401),
        ([], 404, 404, 403, 403),
        (["view"], 403, 403, 403, 403),
        (["change", "add", "delete", "view"], 403, 403, 403, 403),
        (["view", "cancel"], 409, 403, 409, 403),
        (["view", "terminate"], 403, 409, 403, 409),
        (["cancel", "terminate"], 404, 404, 409, 409),
        (["view", "cancel", "terminate"], 409, 409, 409, 409),
    ],
)
def test_acting_needs_its_permission_on_top_of_viewing(
    settings: Settings,
    open_reading: bool,
    may: list[str] | None,
    cancel: int,
    terminate: int,
    open_cancel: int,
    open_terminate: int,
) -> None:
    settings.NEXUS_OPEN_READING = open_reading
    ended = an_execution(status=ExecutionStatus.COMPLETED, workflow_id="secret")
    client = client_of(None if may is None else a_user("someone", may=may))
    expected = {CANCEL: cancel, TERMINATE: terminate}
    if open_reading:
        expected = {CANCEL: open_cancel, TERMINATE: open_terminate}
    for verb, status in expected.items():
        response = ask(client, ended, verb)
        detail = refusal(response, status)
        assert ("WWW-Authenticate" in response) == (status == 401)
        assert (f"executions.{verb}_execution" in detail) == (status == 403)
        unknown = ask(client, "nobody", verb)
        refusal(unknown, 404 if status == 409 else status)
        if status in (401, 404):
            assert response.content == unknown.content.replace(b"nobody", ended.encode())


def test_a_superuser_may_act_and_one_who_is_not_active_may_not() -> None:
    ended = an_execution(status=ExecutionStatus.COMPLETED)
    root = a_user("root")
    root.is_superuser = True
    client = Client(headers=with_token(a_token(root)))
    for is_active, status in ((True, 409), (False, 401)):
        root.is_active = is_active
        root.save()
        refusal(ask(client, ended, CANCEL), status)


def test_a_session_needs_its_csrf_token_and_a_token_does_not() -> None:
    ended = an_execution(status=ExecutionStatus.COMPLETED)
    user = a_user("olga", may=["view", "cancel"])
    with_session = Client(enforce_csrf_checks=True)
    with_session.force_login(user)
    assert "CSRF" in refusal(ask(with_session, ended, CANCEL), 403)
    with_session.cookies["csrftoken"] = "t" * 32
    headers = {"X-CSRFToken": "t" * 32}
    address = f"/api/v1/executions/{ended}/cancel"
    response = with_session.post(address, {}, content_type="application/json", headers=headers)
    refusal(response, 409)
    program = Client(enforce_csrf_checks=True, headers=with_token(a_token(user)))
    refusal(ask(program, ended, CANCEL), 409)


@pytest.mark.parametrize(
    ("verb", "body", "problem"),
    [
        (TERMINATE, b"", "A reason is needed"),
        (TERMINATE, b"{}", "A reason is needed"),
        (TERMINATE, b'{"reason": ""}', "A reason is needed"),
        (TERMINATE, b'{"reason": " \\n"}', "A reason is needed"),
        *(
            (verb, body, problem)
            for verb in BOTH
            for body, problem in [
                (b'{"reason": "why", "force": true}', "unknown field `force`"),
                (b'{"' + b"x" * 5000 + b'": 1}', "unknown field"),
                (b'{"reason": 7}', "Expected `str`"),
                (b'{"reason": null}', "Expected `str`"),
                (json.dumps({"reason": "x" * 1001}).encode(), "length <= 1000"),
                (b'["why"]', "Expected `object`"),
                (b"null", "Expected `object`"),
                (b'{"reason": "why"', "truncated"),
                (b"reason=why", "malformed"),
                (b'{"reason": "\xff"}', "utf-8"),
                (b'{"reason": "\\ud800"}', "at most 1,000 characters"),
                (b"[" * 100_000, "Expected `object`"),
            ]
        ),
    ],
)
def test_a_bad_body_is_400_with_what_is_accepted(
    operator: Client, verb: str, body: bytes, problem: str
) -> None:
    execution_id = an_execution(run_id=str(uuid4()))
    address = f"/api/v1/executions/{execution_id}/{verb}"
    response = operator.generic("POST", address, body, content_type="application/json")
    detail = refusal(response, 400)
    assert problem in detail
    assert "reason" in detail
    assert len(detail) < 400


def test_a_reason_of_the_greatest_length_is_accepted(temporal: str, operator: Client) -> None:
    assert ask(operator, a_run(temporal), TERMINATE, {"reason": "🏃" * 1000}).status_code == 202


def test_a_body_larger_than_django_accepts_is_400(operator: Client) -> None:
    refusal(ask(operator, an_execution(), CANCEL, {"reason": "x" * 3_000_000}), 400)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "x"],
)
@pytest.mark.parametrize("checks", [True, False])
def test_a_body_that_says_it_is_not_json_is_415(content_type: str, checks: bool) -> None:
    client = Client(enforce_csrf_checks=checks)
    client.force_login(a_user("olga", may=["view", "cancel"]))
    client.cookies["csrftoken"] = "t" * 32
    response = client.generic(
        "POST",
        f"/api/v1/executions/{an_execution()}/cancel",
        b'{"reason": "why"}',
        content_type=content_type,
        headers={"X-CSRFToken": "t" * 32},
    )
    assert content_type.split(";")[0] in refusal(response, 415)


@pytest.mark.parametrize("verb", BOTH)
def test_other_methods_malformed_ids_and_parameters_are_refused(
    operator: Client, verb: str
) -> None:
    address = f"/api/v1/executions/{an_execution()}/{verb}"
    for method in ("get", "head", "put", "patch", "delete", "options"):
        response = getattr(operator, method)(address)
        assert response.status_code == 405
        assert response["Allow"] == "POST"
    assert "has the form" in refusal(ask(operator, "-x", verb), 400)
    response = operator.post(f"{address}?force=1", REASON, content_type="application/json")
    assert response.status_code == 400
    assert set(response.json()["parameters"]) == {"force"}


def test_what_temporal_refuses_otherwise_is_500_without_its_words(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        raise ZeroDivisionError("the secret of this place")

    monkeypatch.setattr(acting, "ask", fail)
    execution_id = an_execution(run_id=str(uuid4()))
    assert "secret" not in refusal(ask(operator, execution_id, CANCEL), 500)
