"""The AsyncAPI document: valid by its standard, and true of what the server does."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from django.core.management import call_command
from django.utils import timezone
from jsonschema import Draft7Validator

from executions.document import JsonObject
from executions.event_log import read_events
from executions.identifiers import EVENT_ID_FORM, EXECUTION_ID_FORM, EventId
from executions.models import Execution
from executions.recording import changing
from executions.snapshots import read_snapshot
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from streaming.close_codes import ClientAction, CloseCode
from streaming.discovery import channels_of_module
from streaming.schemas import visualization
from streaming.schemas.visualization import Heartbeat, ResyncReason, decode, encode
from streaming.snapshot import snapshot_text
from streaming.start import MalformedReplayError, parse_replay
from streaming.ws import execution_streaming
from tests.document_fields import ACTIVITY_FIELDS, EXECUTION_FIELDS
from tests.integration.asyncapi.installing import official_schema
from tests.samples import an_execution
from tests.truth import nobody_listening

Json = Any


@pytest.fixture(scope="module")
def document() -> Json:
    return yaml.safe_load(execution_streaming.SPEC_PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schemas(document: Json) -> Json:
    return document["components"]["schemas"]


@pytest.fixture(scope="module")
def channel(document: Json) -> Json:
    return document["channels"]["activityUpdates"]


@pytest.fixture(scope="module")
def standard() -> Draft7Validator:
    return Draft7Validator(official_schema())


class TestItsStandard:
    def test_document_is_valid(self, standard: Draft7Validator, document: Json) -> None:
        assert [error.message for error in standard.iter_errors(document)] == []

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("asyncapi",), "2.6.0"),
            (("info", "version"), None),
            (("channels", "activityUpdates", "adress"), "/ws"),
            (("channels", "activityUpdates", "bindings", "ws", "method"), "PATCH"),
            (("operations", "sendActivityUpdates", "action"), "shout"),
            (("components", "messages", "heartbeat", "payload", "type"), "thing"),
        ],
    )
    def test_standard_is_one_that_can_refuse(
        self, standard: Draft7Validator, document: Json, place: tuple[str, ...], value: Json
    ) -> None:
        wrong = deepcopy(document)
        *path, last = place
        inner = wrong
        for name in path:
            inner = inner[name]
        inner[last] = value
        assert not standard.is_valid(wrong)

    def test_every_reference_leads_somewhere(self, document: Json) -> None:
        references = list(references_in(document))
        assert references
        for reference in references:
            inner = document
            for name in reference.removeprefix("#/").split("/"):
                inner = inner[name]

    def test_pinned_package_is_locked_by_its_content_and_names_no_address(self) -> None:
        folder = Path(__file__).parent / "asyncapi"
        text = (folder / "package-lock.json").read_text()
        assert "://" not in text
        assert "resolved" not in text
        packages = json.loads(text)["packages"]
        assert all(package["integrity"] for name, package in packages.items() if name)


def references_in(value: Json) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)


class TestItsChannel:
    def test_address_is_the_route_and_its_parameters_are_the_handlers(self, channel: Json) -> None:
        (found,) = channels_of_module(execution_streaming)
        assert found.address == channel["address"] == "/api/v1/ws/executions/{executionId}"
        match = found.route().resolve("api/v1/ws/executions/abc-123")
        assert match is not None
        assert match.kwargs.keys() == channel["parameters"].keys() == {"executionId"}

    def test_execution_ids_have_the_form_that_is_said(self, channel: Json, schemas: Json) -> None:
        assert schemas["executionId"]["pattern"] == f"^{EXECUTION_ID_FORM}$"
        assert schemas["executionLink"]["pattern"] == f"^{EXECUTION_ID_FORM}$"
        assert f"`{EXECUTION_ID_FORM}`" in channel["parameters"]["executionId"]["description"]
        for example in channel["parameters"]["executionId"]["examples"]:
            assert re.fullmatch(EXECUTION_ID_FORM, example)

    def test_event_ids_have_the_form_that_is_said(self, schemas: Json) -> None:
        assert f"`{EVENT_ID_FORM}`" in schemas["eventId"]["description"]

    @pytest.mark.parametrize(
        "text",
        ["0", "1-1", "0-0", "01-1", "1-01", "", "-", "1", "00", "x", "1-2-3", "9" * 16 + "-0",
         "9" * 17 + "-0", "0-" + "9" * 17],
    )  # fmt: skip
    def test_replay_is_accepted_where_the_document_says_so(
        self, channel: Json, schemas: Json, text: str
    ) -> None:
        replay = channel["bindings"]["ws"]["query"]["properties"]["replay"]
        try:
            wanted = parse_replay([text])
        except MalformedReplayError:
            wanted = None
        assert (re.search(replay["pattern"], text) is not None) == (wanted is not None)
        is_event_id = re.search(schemas["eventId"]["pattern"], text) is not None
        assert is_event_id == isinstance(wanted, EventId)

    def test_messages_are_those_of_the_schemas(self, document: Json, channel: Json) -> None:
        tags = {kind.__struct_config__.tag for kind in get_args(visualization.Message)}
        payloads = [message["payload"] for message in document["components"]["messages"].values()]
        assert {payload["properties"]["type"]["const"] for payload in payloads} == tags
        assert channel["messages"].keys() == document["components"]["messages"].keys()
        sent = document["operations"]["sendActivityUpdates"]["messages"]
        assert len(sent) == len(tags)

    def test_reasons_and_operations_are_those_of_the_schemas(self, document: Json) -> None:
        messages = document["components"]["messages"]
        resync = messages["initialSnapshot"]["payload"]["properties"]["resync"]
        assert resync["properties"]["reason"]["enum"] == list(get_args(ResyncReason))
        operation = messages["activityPatch"]["payload"]["properties"]["ops"]["items"]
        assert set(operation["properties"]["op"]["enum"]) == set(visualization._OPERATIONS)


class TestItsCloseCodes:
    WORDS = {  # noqa: RUF012 - read only
        "is done": ClientAction.DONE,
        "reconnects with its cursor": ClientAction.RECONNECT,
        "stops": ClientAction.STOP,
    }

    def test_table_is_that_of_the_code(self, document: Json) -> None:
        rows = re.findall(r"^\| (\d+) \| .+ \| (.+?) \|$", document["info"]["description"], re.M)
        assert {(int(code), self.WORDS[words]) for code, words in rows} == {
            (each.code, each.action) for each in CloseCode
        }
        assert len(rows) == len(CloseCode)

    def test_limit_of_messages_is_that_of_the_code(self, document: Json) -> None:
        limit = f"past {execution_streaming.CLIENT_MESSAGES_ACCEPTED} messages it is closed"
        assert limit in document["info"]["description"]


class TestItsDocuments:
    def test_statuses_are_those_of_the_code(self, schemas: Json) -> None:
        assert schemas["execution"]["properties"]["status"]["enum"] == list(ExecutionStatus)
        assert schemas["activity"]["properties"]["status"]["enum"] == list(ActivityStatus)
        pending_state = schemas["activity"]["properties"]["pending_state"]
        assert pending_state["enum"] == [*PendingState, None]

    def test_fields_are_those_of_the_code_all_required_in_their_order(self, schemas: Json) -> None:
        assert tuple(schemas["execution"]["properties"]) == EXECUTION_FIELDS
        assert tuple(schemas["execution"]["required"]) == EXECUTION_FIELDS
        assert tuple(schemas["activity"]["properties"]) == ACTIVITY_FIELDS
        assert tuple(schemas["activity"]["required"]) == ACTIVITY_FIELDS


@pytest.fixture(scope="module")
def payloads(document: Json) -> Draft7Validator:
    """Accepts what exactly one of the document's messages describes."""
    messages = document["components"]["messages"].values()
    return Draft7Validator(
        {
            "oneOf": [message["payload"] for message in messages],
            "components": document["components"],
        }
    )


@pytest.fixture
def sent(transactional_db: None) -> list[JsonObject]:
    """Every message of simulated executions' streams, and all that a connection adds."""
    with nobody_listening():
        call_command("simulate", executions=12, activities=4, changes_per_second=0.0, seed=11)
        # What no simulated execution has at its end.
        linked = an_execution("child", parent_execution_id="p", previous_execution_id="q")
        with changing(linked) as change:
            activity = change.activity("child")
            activity.status = ActivityStatus.RETRYING
            activity.pending_state = PendingState.PAUSE_REQUESTED
            activity.next_attempt_at = timezone.now()
            activity.progress = 0.5
            activity.child_execution_id = "c"
            change.execution.run_id = "run"
            change.execution.next_execution_id = "r"
            change.execution.status = ExecutionStatus.CONTINUED_AS_NEW
    texts = []
    for execution_id in Execution.objects.values_list("pk", flat=True):
        texts += [event.message for event in read_events(execution_id, -1, 1_000)]
        snapshot = read_snapshot(execution_id)
        assert snapshot is not None
        texts += [
            snapshot_text(execution_id, snapshot.event_id, snapshot.document, reason)
            for reason in (None, *get_args(ResyncReason))
        ]
        texts.append(encode(Heartbeat(timestamp="2026-01-02T03:04:05.000006Z")))
        texts.append(encode(Heartbeat(timestamp="2026-01-02T03:04:05Z", event_id="1-2")))
    return [json.loads(text) for text in texts]


@pytest.mark.database
class TestItsMessages:
    def test_every_message_that_is_sent_is_described(
        self, payloads: Draft7Validator, sent: list[JsonObject]
    ) -> None:
        assert {message["type"] for message in sent} == {
            "initial_snapshot", "activity_patch", "final_snapshot", "heartbeat",
        }  # fmt: skip
        executions = [message["execution"] for message in sent if "execution" in message]
        assert {each["status"] for each in executions} >= {"completed", "failed", "cancelled"}
        for name in EXECUTION_FIELDS:
            assert any(each[name] for each in executions), f"no execution has {name}"
        activities = [activity for each in executions for activity in each["activities"]]
        for name in ACTIVITY_FIELDS:
            assert any(activity[name] for activity in activities), f"no activity has {name}"
        for message in sent:
            errors = [error.message for error in payloads.iter_errors(message)]
            assert errors == [], message
            decode(json.dumps(message))

    def test_message_that_was_tampered_with_is_not(
        self, payloads: Draft7Validator, sent: list[JsonObject]
    ) -> None:
        tried = set()
        for message in sent:
            for name, wrong in tampered(message):
                if (message["type"], name) not in tried:
                    tried.add((message["type"], name))
                    assert not payloads.is_valid(wrong), f"{name}: {wrong}"
        assert len(tried) > 200


def tampered(message: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Messages that are wrong in one place each, with what was done to them."""
    optional = {"resync"} | ({"event_id"} if message["type"] == "heartbeat" else set())
    for place in places_in(message):
        what = "/".join("#" if isinstance(step, int) else step for step in place)
        # a patch's values may be anything
        if "value" in place:
            continue
        if not isinstance(place[-1], int) and place[-1] not in optional:
            yield f"without {what}", changed(message, place, remove=True)
        yield f"a foreign {what}", changed(message, place, value={"x": [1]})
        strict = place[-1] in STRICT_TEXTS and "error_details" not in place
        if strict and isinstance(value_at(message, place), str):
            yield f"a malformed {what}", changed(message, place, value="Not One!")


STRICT_TEXTS = {
    "type", "execution_id", "event_id", "timestamp", "status", "op", "path", "reason",
    "created_at", "scheduled_at", "started_at", "completed_at", "next_attempt_at", "at",
    "pending_state", "parent_execution_id", "previous_execution_id", "next_execution_id",
    "child_execution_id",
}  # fmt: skip
Place = tuple[str | int, ...]


def places_in(value: Json, *above: str | int) -> Iterator[Place]:
    if above:
        yield above
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in items:
        if isinstance(inner, dict | list):
            yield from places_in(inner, *above, step)
        else:
            yield (*above, step)


def value_at(value: Json, place: Place) -> Json:
    for step in place:
        value = value[step]
    return value


def changed(
    message: JsonObject, place: Place, *, value: Json = None, remove: bool = False
) -> JsonObject:
    copied = deepcopy(message)
    inner = value_at(copied, place[:-1])
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copied
