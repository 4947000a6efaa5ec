"""Making patches: applying what was made gives what is."""

import json
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from executions.patches import activity_path, append_activity, replace_changed

texts = st.text(max_size=5)
details = st.none() | st.fixed_dictionaries({"type": st.none() | texts, "message": texts})
moments = st.none() | st.sampled_from(
    ["2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:06.000000Z"]
)

EXECUTION_FIELDS = {
    "workflow_id": texts,
    "run_id": st.none() | texts,
    "status": st.sampled_from(["pending", "running", "failed"]),
    "started_at": moments,
    "completed_at": moments,
    "error_details": details,
}
ACTIVITY_FIELDS = {
    "activity_name": texts,
    "status": st.sampled_from(["pending", "running", "retrying", "completed"]),
    "started_at": moments,
    "error_details": details,
    "retry_count": st.integers(0, 3),
    "depends_on": st.lists(texts, max_size=3),
    "progress": st.none() | st.floats(0, 1),
}
activities = st.lists(st.fixed_dictionaries(ACTIVITY_FIELDS), max_size=4)


@st.composite
def documents_before_and_after(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two states of an execution: any fields changed, activities changed and appended."""

    def changed(one: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        names = draw(st.sets(st.sampled_from(sorted(fields))))
        return one | {name: draw(fields[name]) for name in names}

    before = draw(st.fixed_dictionaries(EXECUTION_FIELDS))
    rows = draw(activities)
    after = changed(before, EXECUTION_FIELDS)
    after_rows = [changed(row, ACTIVITY_FIELDS) for row in rows] + draw(activities)
    return before | {"activities": rows}, after | {"activities": after_rows}


def made_patch(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """The patch as the write path makes it: of touched objects, never of the document."""

    def own(document: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in document.items() if name != "activities"}

    operations = []
    rows = before["activities"]
    for position, (was, now) in enumerate(zip(rows, after["activities"], strict=False)):
        operations += replace_changed(activity_path(position), was, now)
    for position, now in list(enumerate(after["activities"]))[len(rows) :]:
        operations.append(append_activity(position, now))
    return operations + replace_changed("", own(before), own(after))


@given(documents_before_and_after())
def test_applying_a_made_patch_gives_the_document_it_was_made_for(
    states: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    before, after = states
    untouched = json.dumps(before)
    operations = made_patch(before, after)
    assert jsonpatch.apply_patch(before, json.loads(json.dumps(operations))) == after
    assert json.dumps(before) == untouched


@given(documents_before_and_after())
def test_a_made_patch_is_empty_exactly_if_an_independent_one_is(
    states: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    before, after = states
    assert bool(made_patch(before, after)) == bool(list(jsonpatch.make_patch(before, after)))
    assert made_patch(after, after) == []


@given(documents_before_and_after())
def test_each_changed_field_is_one_operation_and_no_other_field_is_touched(
    states: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    before, after = states
    operations = made_patch(before, after)
    document = before
    for operation in operations:
        changed = jsonpatch.apply_patch(document, [operation])
        assert changed != document
        document = changed
    paths = [operation["path"] for operation in operations]
    assert len(set(paths)) == len(paths)


def test_a_changed_field_is_replaced_at_its_path() -> None:
    before = {"status": "pending", "progress": None, "depends_on": ["a"]}
    after = {"status": "running", "progress": None, "depends_on": ["a", "b"]}
    assert replace_changed(activity_path(2), before, after) == [
        {"op": "replace", "path": "/activities/2/status", "value": "running"},
        {"op": "replace", "path": "/activities/2/depends_on", "value": ["a", "b"]},
    ]
    assert replace_changed("", {"status": "a"}, {"status": "b"}) == [
        {"op": "replace", "path": "/status", "value": "b"}
    ]


def test_an_activity_is_added_at_its_position() -> None:
    assert append_activity(7, {"activity_id": "a"}) == {
        "op": "add",
        "path": "/activities/7",
        "value": {"activity_id": "a"},
    }
