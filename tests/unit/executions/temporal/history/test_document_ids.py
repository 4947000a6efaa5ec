"""Ids of the document: those of a plan, and those that nothing else has."""

from typing import ClassVar

from executions.temporal.history.document_ids import DocumentIds
from executions.temporal.history.plan import PlannedActivity


def ids_of(*plan: tuple[str, str]) -> DocumentIds:
    ids = DocumentIds()
    ids.adopt([PlannedActivity(activity_id, name) for activity_id, name in plan])
    return ids


def test_planned_id_is_taken_before_a_planned_name() -> None:
    ids = ids_of(("first", "do"), ("a", "other"))
    assert ids.planned("a", "do") == "a"
    assert ids.planned("a", "do") == "first"
    assert ids.planned("a", "do") is None


def test_planned_of_one_name_are_taken_in_the_plans_order() -> None:
    ids = ids_of(("first", "do"), ("second", "do"), ("third", "do"))
    assert ids.planned("second", "do") == "second"
    assert [ids.planned(str(n), "do") for n in range(3)] == ["first", "third", None]


def test_what_is_not_planned_takes_nothing() -> None:
    ids = ids_of(("first", "do"))
    assert ids.planned("1", "other") is None
    assert ids.never_taken() == ["first"]
    assert DocumentIds().planned("1", "do") is None


def test_ids_given_out_are_none_of_the_planned_ones() -> None:
    ids = ids_of(("a", "do"), ("a~2", "do"))
    assert ids.unplanned("a") == "a~3"
    assert ids.unplanned("b") == "b"
    assert ids.unplanned("b") == "b~2"


def test_name_too_long_is_found_in_the_plan_by_what_fits() -> None:
    ids = ids_of(("a", "n" * 1_000))
    assert ids.planned("1", "n" * 2_000) == "a"


class CountedText(str):
    """Text that counts how often it is looked at."""

    looks: ClassVar[int] = 0

    def __hash__(self) -> int:
        CountedText.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedText.looks += 1
        return super().__eq__(other)


def test_five_thousand_planned_activities_are_each_looked_at_a_few_times() -> None:
    count = 5_000
    plan = [(CountedText(f"planned-{n}"), "do") for n in range(count)]
    ids = ids_of(*plan)
    CountedText.looks = 0
    # Half by id, from the end, so that those that wait by name are taken already.
    for n in reversed(range(count // 2, count)):
        assert ids.planned(f"planned-{n}", "other") is not None
    for n in range(count // 2):
        assert ids.planned(str(n), "do") == f"planned-{n}"
    assert ids.planned("one more", "do") is None
    assert CountedText.looks < 10 * count
