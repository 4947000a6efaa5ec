"""The messages of an execution's stream: the story's examples, and what is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from executions.events import activity_patch, final_snapshot, initial_snapshot
from executions.identifiers import EventId
from streaming.schemas.visualization import (
    ActivityPatch,
    FinalSnapshot,
    Heartbeat,
    InitialSnapshot,
    InvalidMessageError,
    Message,
    Resync,
    ResyncReason,
    decode,
    encode,
    is_event_of,
    read_envelope,
    validate,
)
from streaming.snapshot import snapshot_text

EXECUTION_ID = "abc-123-def-456"

STORY: dict[str, dict[str, Any]] = {
    "initial_snapshot": {
        "type": "initial_snapshot",
        "execution_id": EXECUTION_ID,
        "event_id": "1691431234000-0",
        "timestamp": "2025-12-10T15:30:00Z",
        "execution": {
            "execution_id": EXECUTION_ID,
            "workflow_id": "test-workflow-001",
            "status": "pending",
            "activities": [{"activity_name": "fetch_data", "status": "pending"}],
        },
    },
    "activity_patch": {
        "type": "activity_patch",
        "execution_id": EXECUTION_ID,
        "event_id": "1691431234100-1",
        "timestamp": "2025-12-10T15:30:01Z",
        "ops": [{"op": "replace", "path": "/activities/0/status", "value": "running"}],
    },
    "final_snapshot": {
        "type": "final_snapshot",
        "execution_id": EXECUTION_ID,
        "event_id": "1691431234100-15",
        "timestamp": "2025-12-10T15:31:00Z",
        "execution": {
            "execution_id": EXECUTION_ID,
            "workflow_id": "test-workflow-001",
            "status": "completed",
            "activities": [{"activity_name": "fetch_data", "status": "completed"}],
        },
    },
    "heartbeat": {"type": "heartbeat", "timestamp": "2025-12-10T15:30:00Z"},
}
REASONS: tuple[ResyncReason, ...] = ("trimmed", "unknown", "slow")
EVENT_TYPES = ("initial_snapshot", "activity_patch", "final_snapshot")


def changed(message_type: str, **fields: Any) -> str:
    return json.dumps(STORY[message_type] | fields)


def without(message_type: str, field: str) -> str:
    return json.dumps({name: v for name, v in STORY[message_type].items() if name != field})


class TestTheStorysMessages:
    @pytest.mark.parametrize("message_type", STORY)
    def test_each_is_understood_and_written_as_it_stands(self, message_type: str) -> None:
        message = decode(json.dumps(STORY[message_type]))
        assert json.loads(encode(message)) == STORY[message_type]
        assert encode(message).startswith(f'{{"type":"{message_type}"')

    @pytest.mark.parametrize(
        ("message_type", "kind"),
        list(zip(STORY, [InitialSnapshot, ActivityPatch, FinalSnapshot, Heartbeat], strict=True)),
    )
    def test_each_has_its_class(self, message_type: str, kind: type) -> None:
        assert type(decode(json.dumps(STORY[message_type]))) is kind

    def test_what_the_event_log_writes_is_understood(self) -> None:
        document = STORY["initial_snapshot"]["execution"]
        operations = STORY["activity_patch"]["ops"]
        event_id = EventId(1_691_431_234_000, 3)
        for written in (
            initial_snapshot(EXECUTION_ID, event_id, document),
            activity_patch(EXECUTION_ID, event_id, operations),
            final_snapshot(EXECUTION_ID, event_id, document),
        ):
            text = encode(written)
            assert encode(decode(text)) == text
            assert read_envelope(text) == (EXECUTION_ID, event_id)

    @pytest.mark.parametrize("reason", [None, *REASONS])
    def test_a_snapshot_says_why_it_was_sent_only_if_it_stands_for_missed_events(
        self, reason: ResyncReason | None
    ) -> None:
        document = STORY["initial_snapshot"]["execution"]
        text = snapshot_text(EXECUTION_ID, EventId(1_691_431_234_000, 4), document, reason)
        decoded = decode(text)
        assert isinstance(decoded, InitialSnapshot)
        assert decoded.execution == document
        assert decoded.event_id == "1691431234000-4"
        assert decoded.timestamp == "2023-08-07T18:00:34.000Z"
        assert decoded.resync == (msgspec.UNSET if reason is None else Resync(reason))
        assert ("resync" in json.loads(text)) == (reason is not None)

    def test_heartbeat_names_the_cursor_only_if_it_has_one(self) -> None:
        assert encode(Heartbeat(timestamp="2025-12-10T15:30:00Z")) == (
            '{"type":"heartbeat","timestamp":"2025-12-10T15:30:00Z"}'
        )
        with_cursor = Heartbeat(timestamp="2025-12-10T15:30:00Z", event_id="1-2")
        assert json.loads(encode(with_cursor))["event_id"] == "1-2"
        assert decode(encode(with_cursor)) == with_cursor

    def test_unknown_fields_are_ignored(self) -> None:
        assert decode(changed("heartbeat", colour="red")) == decode(json.dumps(STORY["heartbeat"]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("message_type", "field"),
        [(name, field) for name, message in STORY.items() for field in message],
    )
    def test_missing_field(self, message_type: str, field: str) -> None:
        with pytest.raises(InvalidMessageError, match=rf"\b{field}\b|status"):
            decode(without(message_type, field))

    @pytest.mark.parametrize("message_type", EVENT_TYPES)
    @pytest.mark.parametrize("execution_id", ["", "-a", "a b", "x" * 65, "a/b", "é", "a\n"])
    def test_malformed_execution_id(self, message_type: str, execution_id: str) -> None:
        with pytest.raises(InvalidMessageError, match="execution id"):
            decode(changed(message_type, execution_id=execution_id))

    @pytest.mark.parametrize("message_type", STORY)
    @pytest.mark.parametrize("event_id", ["", "0", "1-", "-1", "01-1", "1-1-1", "1-1 ", "\u0661-1"])
    def test_malformed_event_id(self, message_type: str, event_id: str) -> None:
        with pytest.raises(InvalidMessageError, match="event id"):
            decode(changed(message_type, event_id=event_id))

    @pytest.mark.parametrize("message_type", STORY)
    @pytest.mark.parametrize(
        "timestamp",
        ["", "now", "2025-12-10", "2025-12-10T15:30:00", "2025-12-10 15:30:00Z",
         "2025-12-10T15:30:00+00:00", "2025-12-10T15:30:00Z ", "2025-13-40T99:99:99Z"],
    )  # fmt: skip
    def test_timestamp_that_is_not_rfc_3339_in_utc(self, message_type: str, timestamp: str) -> None:
        with pytest.raises(InvalidMessageError, match="timestamp"):
            decode(changed(message_type, timestamp=timestamp))

    @pytest.mark.parametrize(
        "operation",
        [
            {},
            {"op": "replace"},
            {"op": "replace", "path": "/status"},
            {"op": "add", "path": "/activities/0"},
            {"op": "test", "path": "/status"},
            {"op": "replace", "path": "status", "value": 1},
            {"op": "replace", "path": None, "value": 1},
            {"op": "replace", "path": ["status"], "value": 1},
            {"op": "merge", "path": "/status", "value": 1},
            {"op": "move", "path": "/a"},
            {"op": "copy", "path": "/a", "from": 3},
            {"op": None, "path": "/a"},
            {"op": [], "path": "/a"},
            {"op": {"op": "add"}, "path": "/a", "value": 1},
        ],
    )
    def test_operation_that_is_not_of_rfc_6902(self, operation: dict[str, Any]) -> None:
        good = {"op": "replace", "path": "/status", "value": "running"}
        with pytest.raises(InvalidMessageError):
            decode(changed("activity_patch", ops=[good, operation]))

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "remove", "path": "/activities/0"},
            {"op": "add", "path": "", "value": None},
            {"op": "test", "path": "/a~1b", "value": []},
            {"op": "move", "path": "/a", "from": "/b"},
            {"op": "copy", "path": "/a", "from": ""},
        ],
    )
    def test_every_operation_of_rfc_6902_is_accepted(self, operation: dict[str, Any]) -> None:
        decoded = decode(changed("activity_patch", ops=[operation]))
        assert isinstance(decoded, ActivityPatch)
        assert decoded.ops == [operation]

    def test_patch_without_operations(self) -> None:
        with pytest.raises(InvalidMessageError, match="at least one"):
            decode(changed("activity_patch", ops=[]))

    @pytest.mark.parametrize("message_type", ["initial_snapshot", "final_snapshot"])
    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("execution_id", "other", "another execution"),
            ("status", None, "status"),
            ("activities", None, "activities"),
            ("activities", {"0": {}}, "activities"),
        ],
    )
    def test_document_that_is_none(
        self, message_type: str, field: str, value: object, told: str
    ) -> None:
        document = STORY[message_type]["execution"] | {field: value}
        with pytest.raises(InvalidMessageError, match=told):
            decode(changed(message_type, execution=document))

    @pytest.mark.parametrize(
        "resync", [None, {}, "slow", {"reason": "bored"}, {"reason": None}, ["slow"]]
    )
    def test_resync_without_a_known_reason(self, resync: object) -> None:
        with pytest.raises(InvalidMessageError):
            decode(changed("initial_snapshot", resync=resync))

    @pytest.mark.parametrize(
        "text",
        ["", "null", "[]", "3", '"heartbeat"', "{", '{"type":"farewell"}', '{"type":3}',
         b"\xff\xfe", "\ud800", '{"type":"heartbeat","timestamp":3}'],
    )  # fmt: skip
    def test_text_that_is_no_message(self, text: str | bytes) -> None:
        with pytest.raises(InvalidMessageError, match="not a message"):
            decode(text)

    def test_message_of_the_wrong_kind_for_validate_is_refused_by_its_content(self) -> None:
        with pytest.raises(InvalidMessageError):
            validate(ActivityPatch(execution_id="", event_id="1-1", timestamp="", ops=[]))


class TestEnvelope:
    @pytest.mark.parametrize(
        "text",
        ["", "null", "[]", '{"type":"heartbeat","timestamp":"x"}', '{"event_id":"1-1"}',
         '{"type":"activity_patch","execution_id":"e","event_id":"x"}',
         '{"type":"activity_patch","execution_id":"e","event_id":3}',
         '{"type":"activity_patch","event_id":"1-1"}',
         '{"type":"heartbeat","execution_id":"e","event_id":"1-1"}', b"\xff", "\ud800",
         '{"type":"activity_patch","execution_id":"e","event_id":"1-1","x":' + "[" * 2_000],
    )  # fmt: skip
    def test_text_without_one(self, text: str | bytes) -> None:
        with pytest.raises(InvalidMessageError, match="not an event message"):
            read_envelope(text)
        if isinstance(text, str):
            assert not is_event_of(text, "e", "1-1")

    def test_event_is_told_by_both_its_ids(self) -> None:
        text = '{"type":"activity_patch","ops":17,"execution_id":"e","event_id":"5-6"}'
        assert is_event_of(text, "e", "5-6")
        assert not is_event_of(text, "f", "5-6")
        assert not is_event_of(text, "e", "5-7")

    def test_rest_is_not_looked_at(self) -> None:
        text = '{"type":"activity_patch","ops":17,"execution_id":"e","event_id":"5-6"}'
        assert read_envelope(text) == ("e", EventId(5, 6))


texts = st.text(st.characters(exclude_categories=["Cs"]))
nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
event_ids = st.builds(
    EventId, st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1)
).map(str)  # fmt: skip
timestamps = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
operations = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "replace", "test", "remove", "move", "copy"]),
        "path": st.just("") | texts.map("/{}".format),
        "value": nested,
        "from": st.just("/activities/0"),
    }
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from([InitialSnapshot, ActivityPatch, FinalSnapshot, Heartbeat]))
    if kind is Heartbeat:
        event_id = draw(event_ids | st.just(msgspec.UNSET))
        return Heartbeat(timestamp=draw(timestamps), event_id=event_id)
    execution_id = draw(names)
    common: dict[str, Any] = {
        "execution_id": execution_id,
        "event_id": draw(event_ids),
        "timestamp": draw(timestamps),
    }
    if kind is ActivityPatch:
        return ActivityPatch(**common, ops=draw(st.lists(operations, min_size=1)))
    document = draw(st.dictionaries(names, nested)) | {
        "execution_id": execution_id,
        "status": draw(names),
        "activities": draw(st.lists(nested)),
    }
    if kind is FinalSnapshot:
        return FinalSnapshot(**common, execution=document)
    resync = draw(st.just(msgspec.UNSET) | st.sampled_from([*map(Resync, REASONS)]))
    return InitialSnapshot(**common, execution=document, resync=resync)


@given(messages())
def test_decoding_what_was_encoded_gives_the_message(message: Message) -> None:
    text = encode(message)
    assert decode(text) == message
    assert decode(text.encode()) == message
    if not isinstance(message, Heartbeat):
        assert str(read_envelope(text)[1]) == message.event_id


@given(st.binary() | st.text() | nested.map(json.dumps))
@example('{"type":"heartbeat","timestamp":' + "[" * 2_000)
@example('{"type":"heartbeat","x":' + "[" * 2_000)
def test_arbitrary_bytes_are_refused_in_one_way_only(text: str | bytes) -> None:
    with pytest.raises(InvalidMessageError):
        decode(text)
    with pytest.raises(InvalidMessageError):
        read_envelope(text)


@given(st.sampled_from(list(STORY)), st.data())
def test_any_field_replaced_by_anything_is_understood_or_refused(
    message_type: str, data: st.DataObject
) -> None:
    message = STORY[message_type]
    field = data.draw(st.sampled_from(list(message)))
    target: dict[str, Any] = {**message}
    if field in ("execution", "ops") and data.draw(st.booleans()):
        inner = dict(message["execution"] if field == "execution" else message["ops"][0])
        inner[data.draw(st.sampled_from(list(inner)))] = data.draw(nested)
        target[field] = inner if field == "execution" else [inner]
    else:
        target[field] = data.draw(nested)
    try:
        understood = decode(json.dumps(target))
    except InvalidMessageError:
        return
    assert decode(encode(understood)) == understood
