"""The reference server's messages, as it prints them, obey the protocol."""

import json
import re
import subprocess
import sys
from typing import Any

import jsonpatch
import jsonschema
import pytest

from tests.document_fields import ACTIVITY_FIELDS, EXECUTION_FIELDS
from tests.specs_scripts import DEMO, viewer
from tests.unit.specs import data_model

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def messages() -> list[dict[str, Any]]:
    command = [sys.executable, str(DEMO), "--stdout", "--speed", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_snapshot_then_patches_then_the_final_snapshot(messages: list[dict[str, Any]]) -> None:
    kinds = [message["type"] for message in messages]
    assert kinds[0] == "initial_snapshot"
    assert kinds[-1] == "final_snapshot"
    assert set(kinds[1:-1]) == {"activity_patch"}


def test_event_ids_are_dense_and_milliseconds_never_go_back(messages: list[dict[str, Any]]) -> None:
    ids = [tuple(map(int, message["event_id"].split("-"))) for message in messages]
    assert [sequence for _, sequence in ids] == list(range(len(messages)))
    assert [milliseconds for milliseconds, _ in ids] == sorted(ms for ms, _ in ids)


def test_every_message_carries_its_execution_and_a_timestamp(
    messages: list[dict[str, Any]],
) -> None:
    for message in messages:
        assert message["execution_id"] == "demo-1"
        assert TIMESTAMP.fullmatch(message["timestamp"])


def test_the_patches_fold_to_the_final_snapshot(messages: list[dict[str, Any]]) -> None:
    first, *patches, final = messages
    document = first["execution"]
    for message in patches:
        assert message["ops"]
        for op in message["ops"]:
            folded = jsonpatch.apply_patch(document, [op])
            assert folded != document, "an operation that changes nothing is none"
            document = folded
    assert document == final["execution"]
    assert document["status"] == "completed"


def test_every_message_has_the_form_that_the_data_model_gives(
    messages: list[dict[str, Any]],
) -> None:
    schema = data_model.message_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for message in messages:
        validator.validate(message)
        for missing in ("type", "event_id", "timestamp", "execution_id"):
            without = {name: value for name, value in message.items() if name != missing}
            assert not validator.is_valid(without)
    assert validator.is_valid({"type": "heartbeat", "timestamp": messages[0]["timestamp"]})


def test_process_data_fails_once_and_is_retried(messages: list[dict[str, Any]]) -> None:
    document = messages[0]["execution"]
    assert [activity["activity_name"] for activity in document["activities"]] == [
        "fetch_data",
        "validate_input",
        "process_data",
        "send_notification",
        "cleanup",
    ]
    seen = []
    for message in messages[1:-1]:
        document = jsonpatch.apply_patch(document, message["ops"])
        activity = document["activities"][2]
        step = (
            viewer.standing(activity),
            activity["retry_count"],
            activity["error_details"] is not None,
        )
        if step not in seen:
            seen.append(step)
        if activity["next_attempt_at"] is not None:
            assert activity["next_attempt_at"] > activity["started_at"] > activity["scheduled_at"]
    assert seen == [
        ("planned", 0, False),
        ("queued", 0, False),
        ("running", 0, False),
        ("backing off", 0, True),
        ("retry queued", 0, True),
        ("running", 1, True),
        ("completed", 1, False),
    ]


def test_a_signal_is_the_latest_point_of_the_run(messages: list[dict[str, Any]]) -> None:
    points = [
        op["value"]
        for message in messages[1:-1]
        for op in message["ops"]
        if op["path"] == "/latest_point"
    ]
    assert [(point["kind"], point["name"]) for point in points] == [("signal", "approve")]
    assert messages[-1]["execution"]["latest_point"] == points[0]


def test_its_document_has_the_fields_of_the_servers_in_their_order(
    messages: list[dict[str, Any]],
) -> None:
    shown = messages[0]["execution"]
    assert tuple(shown) == EXECUTION_FIELDS
    assert {tuple(activity) for activity in shown["activities"]} == {ACTIVITY_FIELDS}


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = [sys.executable, str(DEMO), "--stdout", "--speed", "20"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 0


@pytest.mark.parametrize("option", ["--speed=0", "--heartbeat-seconds=-1", "--port=x"])
def test_options_that_make_no_sense_are_refused(option: str) -> None:
    done = subprocess.run([sys.executable, str(DEMO), option], capture_output=True, timeout=30)
    assert done.returncode == 2
