"""The events' texts: each decodes to what went in, and says what and when it is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions import events
from executions.events import EventMessage
from executions.identifiers import EventId
from executions.values import storable_text

any_text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\x00\ud800\udfff😀\u2028")
)
stored_text = any_text.map(storable_text)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(0, 1) | stored_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(stored_text, inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(stored_text, json_values, max_size=5)
event_ids = st.builds(EventId, st.integers(0, 253_402_300_799_999), st.integers(0, 10**15))

ID = EventId(1_691_431_234_100, 1)
TIME = "2023-08-07T18:00:34.100Z"


def test_an_initial_snapshot_has_the_storys_fields() -> None:
    text = events.encode(events.initial_snapshot("e", ID, {"status": "pending"}))
    assert json.loads(text) == {
        "type": "initial_snapshot",
        "execution_id": "e",
        "event_id": "1691431234100-1",
        "timestamp": TIME,
        "execution": {"status": "pending"},
    }


def test_a_patch_has_the_storys_fields() -> None:
    operations = ({"op": "replace", "path": "/status", "value": "running"},)
    text = events.encode(events.activity_patch("e", ID, operations))
    assert json.loads(text) == {
        "type": "activity_patch",
        "execution_id": "e",
        "event_id": "1691431234100-1",
        "timestamp": TIME,
        "ops": list(operations),
    }


def test_a_final_snapshot_has_the_storys_fields() -> None:
    text = events.encode(events.final_snapshot("e", ID, {"status": "failed"}))
    assert json.loads(text) == {
        "type": "final_snapshot",
        "execution_id": "e",
        "event_id": "1691431234100-1",
        "timestamp": TIME,
        "execution": {"status": "failed"},
    }


@given(documents)
def test_every_text_decodes_to_what_went_in(document: dict[str, Any]) -> None:
    for message, content in (
        (events.initial_snapshot("e", ID, document), "execution"),
        (events.final_snapshot("e", ID, document), "execution"),
    ):
        assert json.loads(events.encode(message))[content] == document
    patch = events.activity_patch("e", ID, [{"op": "replace", "path": "/a", "value": document}])
    assert json.loads(events.encode(patch))["ops"][0]["value"] == document


@given(documents)
def test_every_text_is_one_line_that_every_transport_holds(document: dict[str, Any]) -> None:
    text = events.encode(events.initial_snapshot("e", ID, document))
    assert text.encode().decode() == text
    assert not set(text) & set("\n\r\x00")


@given(event_ids)
def test_the_timestamp_is_the_event_ids_to_the_millisecond(event_id: EventId) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    text = events.event_timestamp(event_id)
    assert datetime.fromisoformat(text) == epoch + timedelta(milliseconds=event_id.milliseconds)
    assert len(text) == len(TIME)


@pytest.mark.parametrize(
    ("message", "final"),
    [
        (events.initial_snapshot("e", ID, {"type": "final_snapshot"}), False),
        (events.activity_patch("e", ID, []), False),
        (events.final_snapshot("e", ID, {"type": "initial_snapshot"}), True),
    ],
)
def test_the_closing_event_is_told_by_its_text(message: EventMessage, final: bool) -> None:
    assert events.is_final(events.encode(message)) is final
