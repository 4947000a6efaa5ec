"""What is made of each state that a description of a run may tell of a pending activity."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import PendingActivityState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo

from executions.attempts import AttemptNote, AttemptOutcome
from executions.statuses import ActivityStatus, PendingState
from executions.temporal.history.changes import ErrorDetails
from executions.temporal.live.descriptions import DescribedActivity, described
from executions.temporal.live.precedence import Standing
from executions.values import NAME_BYTES

START = datetime(2026, 1, 2, tzinfo=UTC)
MOMENTS = {
    "scheduled": "scheduled_time",
    "started": "last_started_time",
    "completed": "last_attempt_complete_time",
    "next": "next_attempt_schedule_time",
    "beat": "last_heartbeat_time",
}
DECLINED = Failure(message="declined", stack_trace="in pay")
DECLINED.application_failure_info.type = "Declined"
LATE = Failure(message="activity StartToClose timeout")
LATE.timeout_failure_info.timeout_type = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
ERROR = ErrorDetails("Declined", "declined", "in pay")
FAILURE = {"type": "Declined", "message": "declined", "stack_trace": "in pay"}
HALF = Payload(metadata={"encoding": b"json/plain"}, data=b'{"progress": 0.5}')


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def pending(
    state: str,
    attempt: int = 1,
    *,
    failure: Failure | None = None,
    details: Payload | None = None,
    activity_id: str = "pay",
    **seconds: float,
) -> PendingActivityInfo:
    told = PendingActivityInfo(
        activity_id=activity_id,
        state=PendingActivityState.Value(f"PENDING_ACTIVITY_STATE_{state}"),
        attempt=attempt,
        last_worker_identity="worker",
        last_failure=failure,
    )
    for name, second in seconds.items():
        getattr(told, MOMENTS[name]).FromDatetime(at(second))
    if details is not None:
        told.heartbeat_details.payloads.append(details)
    return told


def note(number: int, **told: Any) -> AttemptNote:
    return AttemptNote(activity_id="pay", number=number, **told)


def failed(number: int, **told: Any) -> AttemptNote:
    return note(number, outcome=AttemptOutcome.FAILED, failure=FAILURE, **told)


def test_queued() -> None:
    assert described(pending("SCHEDULED", scheduled=1)) == DescribedActivity(
        engine_activity_id="pay",
        scheduled_at=at(1),
        standing=Standing(1, ActivityStatus.PENDING),
        started_at=None,
        error=None,
        progress=None,
        notes=(),
    )


def test_running() -> None:
    assert described(pending("STARTED", scheduled=1, started=2)) == DescribedActivity(
        engine_activity_id="pay",
        scheduled_at=at(1),
        standing=Standing(1, ActivityStatus.RUNNING),
        started_at=at(2),
        error=None,
        progress=None,
        notes=(note(1, worker_identity="worker", scheduled_at=at(1), started_at=at(2)),),
    )


def test_running_again_tells_of_the_attempt_that_failed_too() -> None:
    told = described(
        pending("STARTED", 3, scheduled=8, started=9, completed=5, failure=DECLINED, beat=4)
    )
    assert told.standing == Standing(3, ActivityStatus.RUNNING)
    assert told.error == ERROR
    assert told.notes == (
        failed(2, ended_at=at(5), next_attempt_at=at(8)),
        note(3, worker_identity="worker", scheduled_at=at(8), started_at=at(9)),
    )


def test_backing_off() -> None:
    told = described(
        pending("SCHEDULED", 3, scheduled=8, next=8, completed=5, failure=DECLINED, started=4)
    )
    assert told.standing == Standing(2, ActivityStatus.RETRYING, next_attempt_at=at(8))
    assert (told.started_at, told.error) == (None, ERROR)
    assert told.notes == (
        failed(2, worker_identity="worker", ended_at=at(5), next_attempt_at=at(8)),
    )


def test_queued_for_its_retry() -> None:
    told = described(pending("SCHEDULED", 2, scheduled=8, completed=5, failure=DECLINED))
    assert told.standing == Standing(1, ActivityStatus.RETRYING)
    assert told.notes == (
        failed(1, worker_identity="worker", ended_at=at(5), next_attempt_at=at(8)),
    )


def test_time_of_an_earlier_end_is_not_taken_for_that_of_a_timeout() -> None:
    told = described(pending("SCHEDULED", 3, next=8, completed=5, failure=LATE))
    assert told.error is not None
    assert told.error.is_timeout
    [timed_out] = told.notes
    assert (timed_out.number, timed_out.outcome) == (2, AttemptOutcome.TIMED_OUT)
    assert timed_out.ended_at is None


def test_retry_whose_failure_was_forgotten_tells_nothing_of_the_earlier_attempt() -> None:
    told = described(pending("SCHEDULED", 3, completed=5))
    assert told.standing == Standing(2, ActivityStatus.RETRYING)
    assert (told.error, told.notes) == (None, ())


def test_reset_activity_is_at_its_first_attempt_and_tells_of_no_earlier_one() -> None:
    told = described(pending("STARTED", started=9, failure=DECLINED, details=HALF, beat=5))
    assert told.standing == Standing(1, ActivityStatus.RUNNING)
    assert (told.error, told.progress) == (ERROR, None)
    assert told.notes == (note(1, worker_identity="worker", started_at=at(9)),)


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ("CANCEL_REQUESTED", PendingState.CANCEL_REQUESTED),
        ("PAUSE_REQUESTED", PendingState.PAUSE_REQUESTED),
    ],
)
@pytest.mark.parametrize(
    ("attempt", "seconds", "status", "number"),
    [
        (1, {"started": 2}, ActivityStatus.RUNNING, 1),
        (2, {"completed": 3, "started": 4}, ActivityStatus.RUNNING, 2),
        (2, {"completed": 4, "started": 4}, ActivityStatus.RUNNING, 2),
        (1, {}, ActivityStatus.PENDING, 1),
        (2, {"completed": 3}, ActivityStatus.RETRYING, 1),
        (3, {"completed": 3, "started": 2}, ActivityStatus.RETRYING, 2),
    ],
)
def test_what_is_asked_of_it_stands_beside_what_it_does(
    state: str,
    asked: PendingState,
    attempt: int,
    seconds: dict[str, Any],
    status: ActivityStatus,
    number: int,
) -> None:
    told = described(pending(state, attempt, **seconds))
    assert told.standing == Standing(number, status, asked)
    assert told.started_at == (at(seconds["started"]) if status == "running" else None)


def test_asked_to_pause_while_running_again_tells_of_the_attempt_that_failed_too() -> None:
    told = described(pending("PAUSE_REQUESTED", 2, scheduled=8, started=9, failure=DECLINED))
    assert told.notes == (
        failed(1, next_attempt_at=at(8)),
        note(2, worker_identity="worker", scheduled_at=at(8), started_at=at(9)),
    )


def test_asked_to_cancel_while_it_backs_off_still_tells_when_it_is_due() -> None:
    told = described(pending("CANCEL_REQUESTED", 2, next=8, completed=5, failure=DECLINED))
    assert told.standing.next_attempt_at == at(8)


def test_paused_before_it_began() -> None:
    told = described(pending("PAUSED", scheduled=1))
    assert told.standing == Standing(1, ActivityStatus.PENDING, PendingState.PAUSED)
    assert told.notes == ()


def test_paused_after_an_attempt_failed_is_not_due() -> None:
    told = described(
        pending("PAUSED", 2, scheduled=1, started=2, completed=5, next=8, failure=DECLINED)
    )
    assert told.standing == Standing(1, ActivityStatus.RETRYING, PendingState.PAUSED)
    assert told.started_at is None
    assert told.notes == (failed(1, worker_identity="worker", ended_at=at(5)),)


def test_state_that_is_not_known_is_one_that_waits() -> None:
    told = described(pending("UNSPECIFIED", 0))
    assert told.standing == Standing(1, ActivityStatus.PENDING)


@pytest.mark.parametrize("beat", [2, 3])
def test_heartbeat_of_the_running_attempt_tells_progress(beat: float) -> None:
    told = described(pending("STARTED", 2, started=2, beat=beat, details=HALF, failure=DECLINED))
    assert told.progress == 0.5
    earlier, running = told.notes
    assert (earlier.heartbeat_at, earlier.heartbeat_details) == (None, None)
    assert running.heartbeat_at == at(beat)
    assert running.heartbeat_details is not None
    [shown] = running.heartbeat_details
    assert shown["value"] == {"progress": 0.5}


def test_heartbeat_of_the_first_attempt_is_not_the_second_ones() -> None:
    told = described(pending("STARTED", 2, started=2, beat=1, details=HALF, failure=DECLINED))
    assert told.progress is None
    earlier, running = told.notes
    assert (earlier.heartbeat_at, running.heartbeat_at) == (at(1), None)


@pytest.mark.parametrize(("attempt", "beat"), [(2, at(1)), (3, None)])
def test_heartbeat_after_a_failure_is_the_failed_ones_only_if_there_was_no_other(
    attempt: int, beat: datetime | None
) -> None:
    told = described(pending("SCHEDULED", attempt, beat=1, details=HALF, failure=DECLINED))
    assert told.progress is None
    [note_of_failed] = told.notes
    assert note_of_failed.heartbeat_at == beat
    assert bool(note_of_failed.heartbeat_details) == (beat is not None)


def test_heartbeat_of_an_attempt_that_nobody_saw_begin_is_no_ones() -> None:
    [running] = described(pending("STARTED", beat=1, details=HALF)).notes
    assert running.heartbeat_at is None


def test_details_that_are_not_to_be_kept_tell_progress_alone() -> None:
    told = described(pending("STARTED", started=2, beat=3, details=HALF), keep_payloads=False)
    assert told.progress == 0.5
    [running] = told.notes
    assert (running.heartbeat_at, running.heartbeat_details) == (at(3), None)


def test_names_are_fitted() -> None:
    told = described(pending("STARTED", activity_id="é" * NAME_BYTES, started=1))
    assert told.engine_activity_id == "é" * (NAME_BYTES // 2)
    assert told.notes[0].activity_id == told.engine_activity_id
