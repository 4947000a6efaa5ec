"""P6 is seen broken when memory grows, slow clients are kept, or others wait."""

from dataclasses import replace

import pytest

from tests.prove.records import Fault, FaultKind, Habit, Records, Sample
from tests.prove.validators import bounded
from tests.unit.prove.good_history import (
    MIB,
    closed,
    connection_of,
    event,
    live,
    snapshot,
)
from tests.unit.prove.judging import Alteration, Altering, assert_judged, judged

altering = Altering("P6")


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every buffer between a server and its client held a few events."""
    monkeypatch.setattr(bounded, "UNREAD_BYTES", 400)


def test_good_history_is_bounded_when_who_does_not_read_is_dropped() -> None:
    verdict = judged(never_is_dropped)["P6"]
    assert verdict.passed
    assert verdict.covered["clients that overflowed"] == 2


def never_is_dropped(records: Records) -> None:
    never = connection_of(records, "never")
    never.left_by_client = False
    closed(never, 39.0, None)


@altering.breaks("it was neither resynced nor closed")
def a_client_that_never_reads_is_kept(records: Records) -> None:
    assert connection_of(records, "never").left_by_client


@altering.breaks("it was neither resynced nor closed")
def a_client_that_stalls_is_served_as_if_it_read(records: Records) -> None:
    never_is_dropped(records)
    stalls = connection_of(records, "stalls")
    stalls.frames[2:3] = [(20.1, text) for _, text in live("two", (2, 3))]


@altering.keeps
def a_client_that_stalls_misses_little(records: Records) -> None:
    never_is_dropped(records)
    stalls = connection_of(records, "stalls")
    stalls.not_reading = [(12.5, 13.5)]
    stalls.frames[2:3] = [*live("two", (2, 3)), (20.1, snapshot("two", 3, "slow"))]


@altering.breaks("web-0 took 400 MiB at 20.000 s; with 8 connections at most 272 MiB are allowed")
def memory_has_a_peak(records: Records) -> None:
    never_is_dropped(records)
    records.samples.append(Sample(20.0, "web-0", 400 * MIB))


@altering.breaks("web-1 grew by 69 MiB from the run's first half to its second")
def memory_grows(records: Records) -> None:
    never_is_dropped(records)
    records.samples = [
        replace(each, resident_bytes=int((100 + 3 * each.at) * MIB))
        if each.process == "web-1"
        else each
        for each in records.samples
    ]


@altering.breaks("the memory of web-1 was never looked at")
def memory_was_not_looked_at(records: Records) -> None:
    never_is_dropped(records)
    records.samples = [each for each in records.samples if each.process == "web-0"]


@altering.breaks("the p50 from commit to client is 1.60 s, at most 1 s are allowed")
def events_come_late(records: Records) -> None:
    never_is_dropped(records)
    for connection in records.connections:
        connection.frames = [
            (at + 1.5 if text == event("two", 4) else at, text) for at, text in connection.frames
        ]


@altering.keeps
def events_come_late_near_a_fault(records: Records) -> None:
    never_is_dropped(records)
    records.faults.append(Fault(10.0, 22.0, FaultKind.VALKEY_STOPPED, "stopped"))
    records.faults.append(Fault(30.0, 31.0, FaultKind.VALKEY_STOPPED, "stopped"))


def test_run_without_a_calm_moment_proves_nothing_of_latency() -> None:
    def faults_everywhere(records: Records) -> None:
        records.faults.append(Fault(5.0, 25.0, FaultKind.VALKEY_STOPPED, "stopped"))
        never_is_dropped(records)

    verdict = judged(faults_everywhere)["P6"]
    assert not verdict.violations
    assert verdict.uncovered == ["latencies"]


def test_slow_clients_latencies_are_not_the_others() -> None:
    def all_stall(records: Records) -> None:
        never_is_dropped(records)
        for connection in records.connections:
            if connection.habit is not Habit.NEVER_READS:
                connection.habit = Habit.STALLS

    assert judged(all_stall)["P6"].uncovered == ["latencies"]


@pytest.mark.parametrize(("alteration", "promise", "broken", "what"), altering.cases)
def test_alteration_is_judged_rightly(
    alteration: Alteration, promise: str, broken: set[str] | None, what: str
) -> None:
    assert_judged(alteration, promise, broken, what)
