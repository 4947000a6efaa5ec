"""Whatever a history says, well-formed, the fold never raises and tells what can be recorded."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal.history.changes import (
    ActivityChange,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    PointReached,
    RunClosed,
    RunLinked,
    RunStarted,
)
from executions.temporal.history.fold import HistoryFold
from executions.temporal.history.plan import PlannedActivity
from executions.values import (
    clean_depends_on,
    clean_error_details,
    clean_link,
    clean_moment,
    clean_name,
)

EVENTS = 12
NESTING = 4
PLAN = [PlannedActivity("a", "core_local_activity"), PlannedActivity("planned", "a")]

TEXTS = st.sampled_from(
    ["", "a", "a~2", "planned", "\x00", "ä" * 600, "run", "core_local_activity", "LocalActivity"]
)
KEYS = st.sampled_from(["data", "type", "activityId", "time", "meta", "nexus_workflow_definition"])
JSON_VALUES = st.recursive(
    st.sampled_from([None, True, -1, 2**70, 1e300, "", "a", "\ud800", "2026-01-02T03:04:05Z"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                [
                    *("seq", "attempt", "activity_id", "activity_type", "complete_time"),
                    *("original_schedule_time", "backoff", "seconds", "nanos", "ActivityType"),
                    *("ReplayTime", "Attempt", "firstSkd", "atpt"),
                ]
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=6,
)
BYTES = st.one_of(
    st.sampled_from([b"", b"json/plain", b"binary/null", b"\xff", b"NaN", b"{"]),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    # Small numbers are those of the history's own events.
    FieldDescriptor.TYPE_INT64: st.integers(-1, EVENTS),
    FieldDescriptor.TYPE_INT32: st.one_of(st.integers(-1, 3), st.just(2**31 - 1)),
    FieldDescriptor.TYPE_ENUM: st.one_of(st.integers(0, 5), st.sampled_from([18, 99])),
}


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, nesting: int = NESTING) -> Message:
    """Any message of that kind, with a few of its fields set."""
    message = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        seconds = draw(st.one_of(st.integers(0, 99), st.sampled_from([-62135596800, 253402300799])))
        return GetMessageClass(descriptor)(seconds=seconds, nanos=draw(st.integers(0, 999_999_999)))
    fields = [field for field in descriptor.fields if nesting or not field.message_type]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=id)) if fields else []
    for field in chosen:
        draw_into(draw, message, field, nesting - 1)
    return message


def draw_into(draw: st.DrawFn, message: Message, field: FieldDescriptor, nesting: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        held = getattr(message, field.name)
        for key in draw(st.lists(KEYS, max_size=2, unique=True)):
            if value.message_type is None:
                held[key] = draw(SCALARS[value.type])
            else:
                held[key].CopyFrom(draw(messages(value.message_type, nesting)))
    elif field.is_repeated:
        one = SCALARS.get(field.type) if kind is None else messages(kind, nesting)
        if one is not None:
            getattr(message, field.name).extend(draw(st.lists(one, max_size=2)))
    elif kind is not None:
        getattr(message, field.name).CopyFrom(draw(messages(kind, nesting)))
    elif field.type in SCALARS:
        setattr(message, field.name, draw(SCALARS[field.type]))


ATTRIBUTES = tuple(HistoryEvent.DESCRIPTOR.oneofs_by_name["attributes"].fields)
OF_STEPS = tuple(
    field
    for field in ATTRIBUTES
    if field.name.startswith(("activity", "child", "marker", "nexus", "start_child", "timer"))
)


@st.composite
def histories(draw: st.DrawFn) -> list[HistoryEvent]:
    events = []
    for event_id in range(1, draw(st.integers(2, EVENTS))):
        event = draw(messages(HistoryEvent.DESCRIPTOR, 1))
        assert isinstance(event, HistoryEvent)
        event.event_id = event_id
        kinds = st.one_of(st.sampled_from(OF_STEPS), st.sampled_from(ATTRIBUTES))
        draw_into(draw, event, draw(kinds), NESTING)
        events.append(event)
    return events


@settings(deadline=None, max_examples=200)
@given(events=histories(), cuts=st.lists(st.integers(0, EVENTS), max_size=3))
def test_any_history_is_told_as_something_that_can_be_recorded(
    events: Sequence[HistoryEvent], cuts: list[int]
) -> None:
    changes = folded(events, [])
    assert_recordable(changes)
    assert folded(events, sorted(cuts)) == changes


def folded(events: Sequence[HistoryEvent], cuts: list[int]) -> list[Change]:
    fold = HistoryFold("workflow", "run")
    fold.adopt(PLAN)
    told: list[Change] = []
    for begin, end in pairwise([0, *cuts, len(events)]):
        told += fold.feed(events[begin:end])
    return told


def assert_recordable(changes: Sequence[Change]) -> None:
    known = {planned.activity_id for planned in PLAN}
    scheduled: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    for told in changes:
        if isinstance(told, ActivityScheduled):
            scheduled[told.activity_id] += 1
            known.add(told.activity_id)
            assert_scheduled(told, closed)
        elif isinstance(told, ActivityChange):
            assert told.activity_id in known
            assert not closed[told.activity_id]
            if isinstance(told, ActivityClosed):
                closed[told.activity_id] += 1
                assert told.status.is_final
                assert_ended(told)
            elif isinstance(told, ActivityStarted):
                assert_started(told)
        else:
            assert_of_the_run(told)
    assert not [name for name, count in scheduled.items() if count > 1]
    ended = [told for told in changes if isinstance(told, RunClosed)]
    assert ended in ([], [changes[-1]] if changes else [])
    if ended:
        assert set(closed) == known


def assert_scheduled(told: ActivityScheduled, closed: Counter[str]) -> None:
    for name in (told.activity_id, told.activity_name, told.activity_type):
        assert clean_name("name", name) == name
    assert clean_depends_on("depends_on", told.depends_on) == list(told.depends_on)
    assert set(told.depends_on) <= set(closed)
    assert clean_moment("scheduled_at", told.scheduled_at) == told.scheduled_at
    assert_storable(told.engine_activity_id, told.task_queue, told.options, told.input)


def assert_started(told: ActivityStarted) -> None:
    assert 1 <= told.attempt < 2**31
    assert clean_moment("started_at", told.started_at) == told.started_at
    assert clean_link("child", told.child_run_id) == told.child_run_id
    error = told.last_failure
    assert_storable(told.worker_identity, error and [error.type, error.message, error.stack_trace])


def assert_ended(told: ActivityClosed | RunClosed) -> None:
    assert clean_moment("completed_at", told.completed_at) == told.completed_at
    if told.error is not None:
        error = {"type": told.error.type, "message": told.error.message}
        assert clean_error_details("error", error) is not None
        assert told.error.type != ""
    if isinstance(told, ActivityClosed):
        assert_storable(told.output)


def assert_of_the_run(told: Change) -> None:
    match told:
        case RunStarted():
            for name in (told.workflow_id, told.workflow_type):
                assert clean_name("name", name) == name
            for link in (told.parent_run_id, told.previous_run_id):
                assert clean_link("link", link) == link
        case RunLinked():
            assert clean_link("link", told.previous_run_id)
        case RunClosed():
            assert_ended(told)
            assert clean_link("link", told.next_run_id) == told.next_run_id
        case PointReached():
            assert clean_name("kind", told.kind) == told.kind
            assert clean_moment("at", told.at) == told.at
            assert_storable(told.name, told.details)


def assert_storable(*values: Any) -> None:
    """Text and JSON that every database holds as they are."""
    text = json.dumps(values, allow_nan=False)
    assert "\\u0000" not in text
    json.dumps(values, ensure_ascii=False).encode()
