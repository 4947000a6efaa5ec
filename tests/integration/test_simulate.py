"""manage.py simulate: what it writes, its pace, what it tells, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any

import jsonpatch
import pytest
from django.core.management import CommandError, call_command

from executions import simulation
from executions.management.commands import simulate
from executions.models import Activity, Event, Execution
from executions.statuses import ExecutionStatus
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


class FakeTime:
    """A clock that only sleeping moves, and what is done with it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(simulate, "time", clock)
    return clock


def run(**options: Any) -> tuple[str, str]:
    """Run as fast as it can unless told otherwise; what it said on stdout and stderr."""
    out, err = StringIO(), StringIO()
    call_command("simulate", **{"changes_per_second": 0, **options}, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_every_execution_is_lived_to_its_end_through_the_write_path(clock: FakeTime) -> None:
    out, err = run(executions=8, activities=6, seed=5)
    ids = set(simulation.execution_ids(5, 8))
    assert set(Execution.objects.values_list("pk", flat=True)) == ids
    changes = 0
    for execution_id in ids:
        log = assert_log_is_whole(execution_id)
        changes += len(log) - 1  # the final snapshot comes with the last change
    for execution in Execution.objects.all():
        assert ExecutionStatus(execution.status).is_final
        assert execution.started_at is not None
        assert execution.completed_at is not None
        assert execution.started_at <= execution.completed_at
        assert execution.activities.count() == 6
    assert changes == sum(1 for _ in simulation.steps(5, 8, 6))
    (line,) = out.splitlines()
    assert line.startswith(f"executions: 8 created, 8 ended; changes: {changes} in ")
    assert line.endswith(" a second")
    assert err == ""


def test_activities_have_the_times_of_what_happened_to_them() -> None:
    run(executions=6, activities=8, seed=2)
    for activity in Activity.objects.all():
        skipped = activity.status == "skipped"
        assert (activity.completed_at is None) == skipped
        assert (activity.scheduled_at is None) == skipped
        never_begun = skipped or activity.status == "cancelled"
        assert activity.started_at is not None or never_begun
        moments = [activity.scheduled_at, activity.started_at, activity.completed_at]
        happened = [moment for moment in moments if moment is not None]
        assert happened == sorted(happened)
        assert activity.next_attempt_at is None
        assert activity.status != "failed" or activity.error_details is not None
        assert activity.status not in ("completed", "skipped") or activity.error_details is None


def test_what_backs_off_is_due_again_after_its_backoff_and_keeps_its_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr(simulate, "timezone", SimpleNamespace(now=lambda: now))
    run(executions=12, activities=8, seed=2)
    backoffs, failures_kept, pending_states, points = set(), 0, set(), set()
    for execution in Execution.objects.all():
        documents: list[dict[str, Any]] = []
        for event in assert_log_is_whole(execution.pk):
            message = json.loads(event.message)
            if message["type"] == "activity_patch":
                told = jsonpatch.apply_patch(documents[-1], message["ops"])
            else:
                told = message["execution"]
            documents.append(told)
            point = told["latest_point"]
            points.add(point and (point["kind"], point["name"] is not None))
            for activity in told["activities"]:
                if activity["next_attempt_at"] is not None:
                    due = datetime.fromisoformat(activity["next_attempt_at"])
                    backoffs.add((due - now).total_seconds())
                pending_states.add(activity["pending_state"])
                failures_kept += activity["status"] == "running" and bool(activity["error_details"])
    assert backoffs == {1, 2}
    assert failures_kept > 0
    assert pending_states == {None, "paused", "cancel_requested"}
    assert points == {None, ("signal", True), ("cancel_requested", False)}


def test_a_given_execution_id_is_that_of_the_only_execution() -> None:
    run(execution_id="my-demo", activities=2, seed=1)
    assert [row.pk for row in Execution.objects.all()] == ["my-demo"]
    assert_log_is_whole("my-demo")


def test_without_activities_an_execution_still_begins_and_ends() -> None:
    run(execution_id="empty", activities=0, seed=1)
    assert len(assert_log_is_whole("empty")) == 4


def test_without_a_seed_one_is_chosen_and_told_so_that_it_can_be_repeated(
    clock: FakeTime,
) -> None:
    _, err = run(executions=2, activities=1)
    (line,) = err.splitlines()
    seed = int(line.removeprefix("the seed is "))
    ids = set(Execution.objects.values_list("pk", flat=True))
    assert ids == set(simulation.execution_ids(seed, 2))
    _, again = run(executions=1, activities=1)
    assert again != err


@pytest.mark.parametrize("options", [{"seed": 3, "executions": 3}, {"execution_id": "taken"}])
def test_an_execution_that_is_there_already_is_refused_before_anything_is_written(
    options: dict[str, Any],
) -> None:
    (last,) = list(simulation.execution_ids(3, 3))[2:]
    an_execution(execution_id=last)
    an_execution(execution_id="taken")
    with pytest.raises(CommandError, match="choose another --seed or --execution-id"):
        run(**options)
    assert Execution.objects.count() == 2


def test_an_execution_that_appears_meanwhile_is_refused_as_clearly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate, "_refuse_existing", lambda ids: None)
    an_execution(execution_id="taken")
    with pytest.raises(CommandError, match="taken already: choose another --seed"):
        run(execution_id="taken")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--executions", "0"], "--executions: '0' is not a whole number from 1"),
        (["--executions", "2.5"], "--executions: '2.5' is not a whole number from 1"),
        (["--activities", "-1"], "--activities"),
        (["--activities", "x"], "--activities: 'x' is not a whole number from 0"),
        (
            ["--changes-per-second=-1"],
            "--changes-per-second: '-1' is not a number from 0.001, nor 0",
        ),
        (
            ["--changes-per-second", "nan"],
            "--changes-per-second: 'nan' is not a number from 0.001, nor 0",
        ),
        (
            ["--changes-per-second", "inf"],
            "--changes-per-second: 'inf' is not a number from 0.001, nor 0",
        ),
        (
            ["--changes-per-second", "x"],
            "--changes-per-second: 'x' is not a number from 0.001, nor 0",
        ),
        (["--changes-per-second", "1e-320"], "--changes-per-second: '1e-320' is not a number"),
        (["--seed", "x"], "--seed"),
        (["--execution-id", "a/b"], "'a/b' is not an execution id: it has the form"),
        (["--execution-id", "a", "--executions", "2"], "leave out --executions"),
    ],
)
def test_bad_arguments_are_told_with_what_is_accepted(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("simulate", *arguments, stdout=StringIO(), stderr=StringIO())
    assert told in str(caught.value)
    assert not Execution.objects.exists()


def slowly(clock: FakeTime, seconds: float) -> Callable[[simulation.Step], None]:
    def record(step: simulation.Step) -> None:
        clock.now += seconds
        RECORD(step)

    return record


RECORD = simulate._record


def test_the_pace_is_kept_without_drift_however_long_a_change_takes(
    clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "_record", slowly(clock, 0.15))
    began = clock.now
    out, err = run(executions=3, activities=4, seed=1, changes_per_second=5)
    changes = sum(1 for _ in simulation.steps(1, 3, 4))
    took = clock.now - began
    assert took == pytest.approx((changes - 1) / 5 + 0.15)
    assert f"{changes} in {took:.1f} s" in out
    assert len(err.splitlines()) == int(took)


def test_it_catches_up_after_a_change_that_took_long(
    clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = iter([3.0])
    monkeypatch.setattr(simulate, "_record", lambda step: slowly(clock, next(waits, 0.0))(step))
    began = clock.now
    run(executions=3, activities=4, seed=1, changes_per_second=5)
    changes = sum(1 for _ in simulation.steps(1, 3, 4))
    assert changes > 20
    assert clock.now - began == pytest.approx((changes - 1) / 5)


def test_progress_is_told_once_a_second_also_while_it_waits(clock: FakeTime) -> None:
    began = clock.now
    _, err = run(execution_id="slow", activities=0, seed=1, changes_per_second=0.25)
    assert clock.now - began == pytest.approx(8)
    lines = err.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("executions: 1 created, 0 ended; changes: 1 in 1.0 s")
    assert lines[-1].startswith("executions: 1 created, 0 ended; changes: 2 in 8.0 s")


def test_as_fast_as_it_can_never_waits(clock: FakeTime) -> None:
    began = clock.now
    run(executions=2, activities=3, seed=1, changes_per_second=0)
    assert clock.now == began


def test_an_interrupt_ends_it_cleanly_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    steps_left = iter(range(6))

    def record(step: simulation.Step) -> None:
        if next(steps_left, None) is None:
            raise KeyboardInterrupt
        RECORD(step)

    monkeypatch.setattr(simulate, "_record", record)
    out = StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("simulate", execution_id="cut", changes_per_second=0, seed=1, stdout=out)
    assert caught.value.code == 130
    assert out.getvalue().startswith("interrupted; executions: 1 created, 0 ended; changes: 6 in ")
    assert Event.objects.filter(execution_id="cut").count() == 6
    assert_log_is_whole("cut")
