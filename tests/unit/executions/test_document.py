"""The document: its fields, and how each is written."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.document import (
    activity_document,
    execution_document,
    execution_fields,
    rfc3339,
)
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
POINT = {"kind": "signal", "name": "approve", "at": "2026-01-02T03:04:05.000000Z"}


def execution(**changed: Any) -> Any:
    fields = {
        "execution_id": "e",
        "workflow_id": "w",
        "workflow_type": "t",
        "run_id": None,
        "status": ExecutionStatus.RUNNING,
        "created_at": MOMENT,
        "started_at": None,
        "completed_at": None,
        "error_details": None,
        "parent_execution_id": None,
        "previous_execution_id": None,
        "next_execution_id": None,
        "latest_point": None,
        "head_sequence": 7,
    }
    return SimpleNamespace(**(fields | changed))


def activity(**changed: Any) -> Any:
    fields = {
        "activity_id": "a",
        "activity_name": "fetch",
        "activity_type": "t",
        "status": ActivityStatus.RETRYING,
        "pending_state": PendingState.PAUSED,
        "attempt": 3,
        "next_attempt_at": MOMENT,
        "scheduled_at": MOMENT,
        "started_at": MOMENT,
        "completed_at": None,
        "error_details": None,
        "depends_on": ["b"],
        "progress": 0.5,
        "child_execution_id": "c",
        "position": 4,
    }
    return SimpleNamespace(**(fields | changed))


def test_an_execution_shows_these_fields() -> None:
    details = {"type": "E", "message": "m"}
    shown = execution_fields(
        execution(
            run_id="r",
            started_at=MOMENT,
            completed_at=MOMENT,
            error_details=details,
            parent_execution_id="p",
            previous_execution_id="q",
            next_execution_id="n",
            latest_point=POINT,
        )
    )
    assert shown == {
        "execution_id": "e",
        "workflow_id": "w",
        "workflow_type": "t",
        "run_id": "r",
        "status": "running",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "started_at": "2026-01-02T03:04:05.678901Z",
        "completed_at": "2026-01-02T03:04:05.678901Z",
        "error_details": details,
        "parent_execution_id": "p",
        "previous_execution_id": "q",
        "next_execution_id": "n",
        "latest_point": POINT,
    }
    assert type(shown["status"]) is str


def test_an_activity_shows_these_fields() -> None:
    shown = activity_document(activity())
    assert shown == {
        "activity_id": "a",
        "activity_name": "fetch",
        "activity_type": "t",
        "status": "retrying",
        "pending_state": "paused",
        "scheduled_at": "2026-01-02T03:04:05.678901Z",
        "started_at": "2026-01-02T03:04:05.678901Z",
        "completed_at": None,
        "error_details": None,
        "retry_count": 2,
        "next_attempt_at": "2026-01-02T03:04:05.678901Z",
        "depends_on": ["b"],
        "progress": 0.5,
        "child_execution_id": "c",
    }
    assert type(shown["status"]) is type(shown["pending_state"]) is str


def test_what_is_not_known_is_null() -> None:
    shown = activity_document(
        activity(
            pending_state=None, next_attempt_at=None, scheduled_at=None, child_execution_id=None
        )
    )
    names = ("pending_state", "next_attempt_at", "scheduled_at", "child_execution_id")
    assert [shown[name] for name in names] == [None] * 4
    of = execution_fields(execution())
    names = ("parent_execution_id", "previous_execution_id", "next_execution_id", "latest_point")
    assert [of[name] for name in names] == [None] * 4


def test_the_document_has_the_activities_in_the_order_given() -> None:
    rows = [activity(activity_id=name) for name in "cab"]
    whole = execution_document(execution(), iter(rows))
    assert whole == execution_fields(execution()) | {
        "activities": [activity_document(row) for row in rows]
    }
    assert execution_document(execution(), ())["activities"] == []


def test_a_document_keeps_what_was_when_the_object_is_changed_in_place() -> None:
    row = activity(error_details={"type": None, "message": "first"})
    of = execution(error_details={"type": None, "message": "first"}, latest_point=dict(POINT))
    before = execution_document(of, [row])
    row.depends_on.append("c")
    row.error_details["message"] = of.error_details["message"] = "second"
    of.latest_point["name"] = "reject"
    assert before["activities"][0]["depends_on"] == ["b"]
    assert before["activities"][0]["error_details"]["message"] == "first"
    assert before["error_details"]["message"] == "first"
    assert before["latest_point"]["name"] == "approve"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, None),
        (MOMENT, "2026-01-02T03:04:05.678901Z"),
        (MOMENT.replace(microsecond=0), "2026-01-02T03:04:05.000000Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=-8))), "2026-01-02T03:04:05.678901Z"),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_moment_is_written_as_rfc_3339_in_utc(moment: datetime | None, text: str | None) -> None:
    assert rfc3339(moment) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_has_one_text_that_reads_back_and_sorts_in_time(moment: datetime) -> None:
    text = rfc3339(moment)
    assert text is not None
    assert len(text) == len("2026-01-02T03:04:05.678901Z")
    assert datetime.fromisoformat(text) == moment
