"""What a workflow definition plans, and how one of no accepted form is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.temporal.history.plan import (
    PLANNED_ACTIVITIES,
    MalformedPlanError,
    PlannedActivity,
    planned_activities,
)


def plan(*activities: Any) -> tuple[PlannedActivity, ...]:
    return planned_activities({"activities": list(activities)})


def test_activities_are_planned_in_the_definitions_order() -> None:
    assert plan(
        {"activity_id": "pay", "activity_name": "charge_card", "depends_on": ["reserve"]},
        {"activity_id": "reserve", "colour": "kept and shown elsewhere"},
    ) == (
        PlannedActivity("pay", "charge_card", ("reserve",)),
        PlannedActivity("reserve", "reserve"),
    )


@pytest.mark.parametrize("definition", [None, 7, "activities", ["activities"], {}, {"nodes": []}])
def test_definition_without_activities_plans_nothing(definition: Any) -> None:
    assert planned_activities(definition) == ()


def test_dependency_named_twice_is_one() -> None:
    planned = plan({"activity_id": "a"}, {"activity_id": "b", "depends_on": ["a", "a"]})
    assert planned[1].depends_on == ("a",)


def test_text_that_cannot_be_stored_is_made_storable() -> None:
    assert plan({"activity_id": "a\x00", "activity_name": "\ud800"}) == (
        PlannedActivity("a\ufffd", "\ufffd"),
    )


@pytest.mark.parametrize("activities", [None, {}, "a", 7, [{}] * (PLANNED_ACTIVITIES + 1)])
def test_activities_that_are_no_list_or_too_many_are_refused(activities: Any) -> None:
    with pytest.raises(MalformedPlanError, match="activities must be a list of at most 5000"):
        planned_activities({"activities": activities})


@pytest.mark.parametrize(
    ("activities", "problem"),
    [
        ([{"activity_id": "a"}, 7], r"activities\[1\] must be an object"),
        ([{}], r"activities\[0\]\.activity_id must be text that is not empty"),
        ([{"activity_id": ""}], r"activities\[0\]\.activity_id must be text that is not empty"),
        ([{"activity_id": 7}], r"activities\[0\]\.activity_id must be text that is not empty"),
        (
            [{"activity_id": "a", "activity_name": None}],
            r"activities\[0\]\.activity_name must be text that is not empty",
        ),
        (
            [{"activity_id": "ä" * 501}],
            r"activities\[0\]\.activity_id has more than 1000 bytes",
        ),
        (
            [{"activity_id": "a", "depends_on": "b"}],
            r"activities\[0\]\.depends_on must be a list of activity_ids",
        ),
        (
            [{"activity_id": "a", "depends_on": [7]}],
            r"activities\[0\]\.depends_on must be text that is not empty",
        ),
        (
            [{"activity_id": "a", "depends_on": ["z", "b"]}],
            "depends_on names 'b', which is not planned",
        ),
        ([{"activity_id": "a"}, {"activity_id": "a"}], "an activity_id is planned twice"),
        ([{"activity_id": "\x00"}, {"activity_id": "\ufffd"}], "an activity_id is planned twice"),
    ],
)
def test_malformed_plan_is_refused_with_what_is_wrong(activities: list[Any], problem: str) -> None:
    with pytest.raises(MalformedPlanError, match=f"^{problem}$"):
        planned_activities({"activities": activities})


def test_as_many_as_are_accepted_are_planned() -> None:
    many = [{"activity_id": str(n)} for n in range(PLANNED_ACTIVITIES)]
    assert len(plan(*many)) == PLANNED_ACTIVITIES


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["", "a", "b", "\x00"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["activities", "activity_id", "activity_name", "depends_on"]),
            inner,
            max_size=4,
        ),
    ),
)


@given(definition=st.one_of(JSON, st.builds(lambda listed: {"activities": listed}, JSON)))
def test_any_definition_is_a_plan_or_refused(definition: Any) -> None:
    try:
        planned = planned_activities(definition)
    except MalformedPlanError:
        return
    ids = {activity.activity_id for activity in planned}
    assert len(ids) == len(planned)
    assert all(set(activity.depends_on) <= ids for activity in planned)
