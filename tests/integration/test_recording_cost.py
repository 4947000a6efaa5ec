"""The cost of a change follows what changed, never the size of the execution."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from executions.recording import Change, NewActivity, changing
from executions.snapshots import read_snapshot
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MANY = [f"activity-{number}" for number in range(2_000)]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


def begin_the_last(change: Change) -> None:
    change.activity("activity-1999").status = ActivityStatus.RUNNING


def add_one(change: Change) -> None:
    change.add_activity(NewActivity(activity_id="added", activity_name="added"))


def change_the_execution(change: Change) -> None:
    change.execution.run_id = "run"


def change_nothing(change: Change) -> None:
    change.activity("activity-1999")


def begin_many_loaded_at_once(change: Change) -> None:
    change.load_activities([f"activity-{number}" for number in range(1_950, 2_050)])
    assert change.find_activity("activity-2049") is None
    change.activity("activity-1998").status = ActivityStatus.RUNNING
    change.activity("activity-1999").status = ActivityStatus.RUNNING


def close(change: Change) -> None:
    change.execution.status = ExecutionStatus.COMPLETED


class Cost(NamedTuple):
    statements: int
    round_trips: int
    """What they come to where the database takes several at once."""


COSTS: dict[Callable[[Change], None], Cost] = {
    # lock the execution; find the activity; write it, the execution and the event
    begin_the_last: Cost(5, 3),
    # … find them at once, and write one more
    begin_many_loaded_at_once: Cost(6, 3),
    # … the last position instead, and an insert, whose refusal is to be told from others
    add_one: Cost(5, 4),
    change_the_execution: Cost(3, 2),
    change_nothing: Cost(2, 2),
    # … and read the activities for the final snapshot, another event
    close: Cost(5, 4),
}


def queries_of(execution_id: str, make: Callable[[Change], None]) -> list[str]:
    """What one change asks of the database, without opening and ending its transaction."""
    with (
        CaptureQueriesContext(
            connection,
        ) as captured,
        changing(execution_id) as change,
    ):
        make(change)
    told = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in told if not sql.startswith(("BEGIN", "COMMIT"))]


@pytest.mark.parametrize("make", COSTS)
def test_the_number_of_statements_does_not_depend_on_the_number_of_activities(
    make: Callable[[Change], None],
) -> None:
    large, small = an_execution(*MANY), an_execution("activity-1998", "activity-1999")
    takes_several = connection.vendor == "postgresql"
    expected = COSTS[make].round_trips if takes_several else COSTS[make].statements
    assert len(queries_of(small, make)) == expected
    assert len(queries_of(large, make)) == expected
    assert_log_is_whole(large)


@pytest.mark.parametrize("make", [begin_the_last, add_one, change_the_execution])
def test_no_statement_and_no_event_of_a_change_grows_with_the_execution(
    make: Callable[[Change], None],
) -> None:
    execution_id = an_execution(*MANY)
    with assert_patches_tell_the_truth(execution_id) as told:
        statements = queries_of(execution_id, make)
    assert sum(map(len, statements)) < 5_000
    assert len(told.events[0].message) < 1_000


def test_a_snapshot_is_one_query_whatever_the_number_of_activities(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for execution_id in (an_execution(*MANY), an_execution()):
        with django_assert_num_queries(1):
            assert read_snapshot(execution_id) is not None
