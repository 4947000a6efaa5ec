"""Recording of arbitrary values: a RecordingError that says why, or a true event; never else."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.recording import NewActivity, RecordingError, changing, create_execution
from executions.statuses import PendingState
from tests.fuzzing.effort import examples
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.builds(lambda text, times: text * times, st.text(max_size=3), st.integers(0, 5_000)),
    st.sampled_from(
        ["", "\0", "\ud800", "\ud83d\ude00", "\ufffe", "\u2028", "' OR 1=1", "../..", "\\u0000"]
    ),
)
huge_numbers = st.integers(4_000, 6_000).map(lambda digits: int(10**digits))
numbers = huge_numbers | (
    st.integers() | st.floats() | st.sampled_from([-0.0, 2**31, 2**63, 10**400, True, 1e-320])
)
moments = st.datetimes(timezones=st.none() | st.timezones()) | st.sampled_from(
    [
        datetime.fromisoformat(text)
        for text in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31")
    ]
)
values = st.recursive(
    st.none() | texts | numbers | moments | st.binary(max_size=3) | st.just(float),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.integers() | st.none(), inner, max_size=3)
        | st.fixed_dictionaries({"type": inner, "message": inner})
        | st.fixed_dictionaries({"kind": inner, "name": inner, "at": inner})
        | st.frozensets(texts, max_size=2)
    ),
    max_leaves=6,
)
nested = st.integers(1, 3_000).map(lambda depth: _nested(depth))


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


EXECUTION_FIELDS: Final = (
    *("workflow_id", "workflow_type", "run_id", "status", "started_at", "completed_at"),
    *("error_details", "parent_execution_id", "previous_execution_id", "next_execution_id"),
    "latest_point",
)
ACTIVITY_FIELDS: Final = (
    *("activity_name", "activity_type", "status", "pending_state", "attempt", "next_attempt_at"),
    *("scheduled_at", "started_at", "completed_at", "error_details", "depends_on", "progress"),
    "child_execution_id",
)
FITTING: Final[dict[str, st.SearchStrategy[Any]]] = {
    "pending_state": st.sampled_from(PendingState),
    "error_details": st.fixed_dictionaries({"type": st.none() | texts, "message": texts}),
    "depends_on": st.lists(texts, max_size=3),
    "progress": st.floats(0, 1),
    "attempt": st.integers(1, 2**31),
    "workflow_type": texts,
}
anything = values | nested | numbers | texts | moments


def fields_of(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """One field of any value, among others of mostly acceptable ones."""
    fitting = {name: FITTING[name] for name in names if name in FITTING}
    suspect = st.sampled_from(names).flatmap(
        lambda name: (anything | FITTING.get(name, texts)).map(lambda value: {name: value})
    )
    return st.builds(
        lambda others, chosen: others | chosen,
        st.fixed_dictionaries({}, optional=fitting),
        suspect,
    )


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@examples(100)
@given(
    execution=fields_of(EXECUTION_FIELDS), activity=fields_of(ACTIVITY_FIELDS), split=st.booleans()
)
def test_any_values_assigned_are_refused_or_told_as_they_are_held(
    execution: dict[str, Any], activity: dict[str, Any], split: bool
) -> None:
    execution_id = an_execution("step", execution_id=f"e-{uuid4()}")
    for assigned in [(execution, {}), ({}, activity)] if split else [(execution, activity)]:
        try:
            with changing(execution_id) as change:
                for row, fields in zip(
                    (change.execution, change.activity("step")), assigned, strict=True
                ):
                    for name, value in fields.items():
                        setattr(row, name, value)
        except RecordingError as refusal:
            assert_says_why(refusal)
    assert_log_is_whole(execution_id)


NASTY: Final = [
    *("", "\0", "\ud800", "x" * 100_000, b"x", 0, -1, 2**31, 2**64, 10**400, 10**5_000, True, -0.0),
    *(float("nan"), float("inf"), 5e-324, 1j, [], {}, (), set(), [None], {"type": None}, object),
    *(float, _nested(3_000), {"type": _nested(3_000), "message": ""}, {"type": 10**5_000}),
    {"type": "x" * 100_000, "message": "x" * 100_000},
    {"kind": "x", "name": "", "at": ""},
    ["x" * 100_000],
    ["a", "\ud800", "a", "\ufffd"],
    [str(number) for number in range(6_000)],
]


def test_each_field_takes_or_refuses_each_nasty_value() -> None:
    execution_id = an_execution("step", execution_id="nasty")
    for name in (*EXECUTION_FIELDS, *ACTIVITY_FIELDS):
        for value in NASTY:
            try:
                with changing(execution_id) as change:
                    row = change.execution if name in EXECUTION_FIELDS else change.activity("step")
                    setattr(row, name, value)
            except RecordingError as refusal:
                assert_says_why(refusal)
    assert_log_is_whole(execution_id)


@examples(40)
@given(
    execution=fields_of((*EXECUTION_FIELDS, "created_at", "workflow_definition")),
    activities=st.lists(st.tuples(texts, st.just({}) | fields_of(ACTIVITY_FIELDS[1:])), max_size=3),
    execution_id=st.none() | texts,
)
def test_any_values_created_are_refused_or_told_as_they_are_held(
    execution: dict[str, Any],
    activities: list[tuple[Any, dict[str, Any]]],
    execution_id: str | None,
) -> None:
    new = [
        NewActivity(activity_id=name, activity_name=name or "none", **fields)
        for name, fields in activities
    ]
    required = {"workflow_id": "w", "workflow_type": "W"}
    try:
        made = create_execution(execution_id=execution_id, activities=new, **(required | execution))
    except RecordingError as refusal:
        assert_says_why(refusal)
    else:
        assert_log_is_whole(made.execution_id)


@examples(30)
@given(names=st.lists(texts, min_size=1, max_size=3))
def test_any_name_finds_the_activity_that_was_added_under_it(names: list[str]) -> None:
    execution_id = an_execution(execution_id=f"e-{uuid4()}")
    try:
        with changing(execution_id) as change:
            for name in names:
                change.add_activity(NewActivity(activity_id=name, activity_name="x"))
    except RecordingError as refusal:
        assert_says_why(refusal)
    else:
        with changing(execution_id) as change:
            assert all(change.find_activity(name) is not None for name in names)
    assert_log_is_whole(execution_id)


def assert_says_why(refusal: RecordingError) -> None:
    """In words that any log can hold, and not at the length of what was refused."""
    told = str(refusal)
    assert told
    assert len(told) < 10_000
    assert told.encode("utf-8", "backslashreplace")
