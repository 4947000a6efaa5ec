"""What of a run's story is a point in it, and what is told of each."""

from typing import Any

import pytest

from executions.temporal.history.changes import PointReached
from executions.temporal.history.points import Points
from tests.histories.reading import (
    Kind,
    at,
    changes_in,
    declined,
    failure,
    history,
    payload,
    payloads,
    points_in,
    shown,
    started,
)

CALLER = {"workflow_id": "caller", "run_id": "their run"}


def points_of(*kinds: Kind) -> list[PointReached]:
    points = Points()
    reached = [points.reached(event) for event in history(*kinds)]
    return [point for point in reached if point is not None]


@pytest.mark.parametrize(
    ("attributes", "kind", "details"),
    [
        ({"initiator": 1}, "continued_as_new", None),
        (
            {"initiator": 1, "cron_schedule": "@daily", "attempt": 4},
            "continued_as_new",
            {"cron_schedule": "@daily"},
        ),
        (
            {"initiator": 2, "attempt": 3, "continued_failure": declined()},
            "retried",
            {"attempt": 3, "failure": {"type": "CardDeclined", "message": "declined"}},
        ),
        (
            {"cron_schedule": "@daily", "first_workflow_task_backoff": {"nanos": 500_000_000}},
            "cron",
            {"cron_schedule": "@daily", "backoff_seconds": 0.5},
        ),
    ],
)
def test_run_that_did_not_just_start_tells_how_it_came_about(
    attributes: dict[str, Any], kind: str, details: dict[str, Any] | None
) -> None:
    assert points_of(started(**attributes)) == [PointReached(1, at(1), kind, "", details)]


def test_run_that_just_started_has_no_point() -> None:
    assert points_of(started(attempt=1)) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("continued-from", "continued_as_new"), ("retried-from", "retried"), ("cron-from", "cron")],
)
def test_following_runs_tell_what_they_are(name: str, kind: str) -> None:
    assert [point.kind for point in points_in(changes_in(name))] == [kind]


def test_conversation_with_a_run_is_told_in_order() -> None:
    told = points_in(changes_in("talking"))
    assert [(point.kind, point.name) for point in told] == [
        ("signal", "say"),
        ("update_accepted", "ask"),
        ("update_completed", "ask"),
        ("update_accepted", "ask"),
        ("update_completed", "ask"),
        ("signal", "finish"),
    ]
    said, accepted, completed, unlucky, refused, _ = [point.details or {} for point in told]
    assert said == {"identity": "worker@example", "input": [shown("said")]}
    assert (accepted["identity"], accepted["input"]) == ("worker@example", [shown(1)])
    assert completed == {"update_id": accepted["update_id"], "output": [shown(2)]}
    assert refused == {
        "update_id": unlucky["update_id"],
        "failure": {"type": "Unlucky", "message": "Not that number"},
    }


def test_run_that_reaches_for_others_tells_what_it_sent_and_what_failed() -> None:
    told = points_in(changes_in("reaching"))
    assert [(point.kind, point.name) for point in told] == [
        ("memo", ""),
        ("signal_sent", "say"),
        ("external_cancel_requested", "other"),
        ("signal_sent", "say"),
        ("signal_failed", "say"),
        ("external_cancel_requested", "other-missing"),
        ("external_cancel_failed", "other-missing"),
    ]
    missing = {"workflow_id": "other-missing", "cause": "external workflow execution not found"}
    assert told[0].details == {"memo": {"reached": shown("other")}}
    assert told[1].details == {"workflow_id": "other", "input": [shown("hello")]}
    assert told[4].details == missing
    assert told[6].details == missing


def test_run_that_is_reached_for_tells_by_whom_and_why() -> None:
    signal, cancel, task_failed = points_in(changes_in("reached"))
    assert (signal.kind, signal.name) == ("signal", "say")
    assert (signal.details or {})["workflow_id"] == "reaching"
    assert (cancel.kind, cancel.name) == ("cancel_requested", "")
    assert (cancel.details or {})["reason"].startswith("Cancel requested by workflow")
    assert (task_failed.kind, task_failed.name) == ("workflow_task_failed", "unhandled command")


UPDATE_REQUEST: dict[str, Any] = {
    "meta": {"update_id": "u", "identity": "ops"},
    "input": {"name": "ask", "args": payloads(1)},
}


def test_rejected_update_tells_what_was_asked_and_why_not() -> None:
    rejected = {
        "protocol_instance_id": "u",
        "rejected_request": UPDATE_REQUEST,
        "failure": declined(),
    }
    assert points_of(("workflow_execution_update_rejected", rejected)) == [
        PointReached(
            1,
            at(1),
            "update_rejected",
            "ask",
            {
                "update_id": "u",
                "identity": "ops",
                "input": [shown(1)],
                "failure": {"type": "CardDeclined", "message": "declined"},
            },
        )
    ]


def test_update_that_was_admitted_before_is_accepted_with_what_was_asked_then() -> None:
    accepted = "workflow_execution_update_accepted", {"protocol_instance_id": "u"}
    admitted = "workflow_execution_update_admitted", {"request": UPDATE_REQUEST}
    told = points_of(admitted, accepted)
    details = {"update_id": "u", "identity": "ops", "input": [shown(1)]}
    assert told == [PointReached(2, at(2), "update_accepted", "ask", details)]
    assert points_of(accepted)[0].name == "(unnamed)"


def test_update_whose_acceptance_is_not_known_completes_without_a_name() -> None:
    completed = "workflow_execution_update_completed", {"accepted_event_id": 77}
    assert points_of(completed) == [PointReached(1, at(1), "update_completed")]


@pytest.mark.parametrize(
    ("event", "point"),
    [
        (
            ("workflow_execution_signaled", {"external_workflow_execution": CALLER}),
            ("signal", "(unnamed)", CALLER),
        ),
        (
            ("workflow_execution_cancel_requested", {"identity": "ops", "cause": "late"}),
            ("cancel_requested", "", {"identity": "ops", "reason": "late"}),
        ),
        (
            ("workflow_task_failed", {"cause": 6, "failure": declined(), "identity": "w"}),
            (
                "workflow_task_failed",
                "bad record marker attributes",
                {
                    "cause": "bad record marker attributes",
                    "identity": "w",
                    "failure": {"type": "CardDeclined", "message": "declined"},
                },
            ),
        ),
        (
            ("workflow_task_failed", {}),
            ("workflow_task_failed", "unspecified", {"cause": "unspecified"}),
        ),
        (
            (
                "workflow_task_failed",
                {
                    "cause": "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW",
                    "base_run_id": "base",
                    "identity": "ops",
                    "failure": failure("again"),
                },
            ),
            ("reset", "", {"identity": "ops", "reason": "again", "run_id": "base"}),
        ),
        (
            ("workflow_task_timed_out", {"timeout_type": 1}),
            ("workflow_task_timed_out", "start to close", None),
        ),
        (
            (
                "upsert_workflow_search_attributes",
                {"search_attributes": {"indexed_fields": {"b": payload(2), "a": payload("x")}}},
            ),
            ("search_attributes", "", {"attributes": {"a": shown("x"), "b": shown(2)}}),
        ),
        (
            ("workflow_execution_paused", {"identity": "ops", "reason": "lunch"}),
            ("paused", "", {"identity": "ops", "reason": "lunch"}),
        ),
        (
            ("workflow_execution_unpaused", {"identity": "ops"}),
            ("unpaused", "", {"identity": "ops"}),
        ),
        (
            (
                "workflow_execution_options_updated",
                {"identity": "ops", "unset_versioning_override": True},
            ),
            ("options_updated", "", {"identity": "ops", "changed": ["unset_versioning_override"]}),
        ),
        (
            ("signal_external_workflow_execution_failed", {"initiated_event_id": 77, "cause": 99}),
            ("signal_failed", "", {"cause": "99"}),
        ),
    ],
)
def test_event_is_a_point_of_its_kind(
    event: Kind, point: tuple[str, str, dict[str, Any] | None]
) -> None:
    assert points_of(event) == [PointReached(1, at(1), *point)]


@pytest.mark.parametrize(
    "kind",
    ["workflow_task_started", "external_workflow_execution_signaled", "activity_task_scheduled"],
)
def test_other_events_are_no_points(kind: str) -> None:
    assert points_of((kind, {})) == []


def test_names_and_texts_are_storable_and_cut() -> None:
    told = points_of(
        ("workflow_execution_signaled", {"signal_name": "a\x00" + "b" * 5_000, "identity": "\x00"})
    )
    assert told[0].name.startswith("a\ufffdb")
    assert len(told[0].name.encode()) == 1_000
    assert told[0].details == {"identity": "\ufffd"}
