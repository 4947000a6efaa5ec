"""The plan of a proving run: the same from the same seed, whole, and bounded."""

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise, product

import pytest

from tests.prove.plan import (
    ANONYMOUS,
    CLIENT_PROCESSES,
    FAULTS,
    REVOCABLE,
    STRANGER,
    Act,
    Deed,
    Plan,
    Topology,
    Undoing,
    acts,
    plan_for,
)
from tests.prove.records import FaultKind, Habit

LENGTHS = (24.0, 60.0, 240.0, 1200.0)


@pytest.fixture(params=product(LENGTHS, Topology), ids=str)
def plan(request: pytest.FixtureRequest) -> Plan:
    seconds, topology = request.param
    return plan_for(7, seconds, topology)


def test_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert plan_for(7, 240) == plan_for(7, 240)
    assert plan_for(7, 240) != plan_for(8, 240)


def test_same_seed_gives_a_writer_the_same_acts_and_its_next_start_others() -> None:
    plan = plan_for(7, 240)

    def first_acts(writer: str, incarnation: int) -> list[Act]:
        return list(islice(acts(plan, writer, incarnation), 500))

    assert first_acts("writer-0", 0) == first_acts("writer-0", 0)
    assert first_acts("writer-0", 0) != first_acts("writer-0", 1)
    assert first_acts("writer-0", 0) != first_acts("writer-1", 0)


def test_every_kind_of_fault_comes_equally_often_and_is_gone_before_the_end(plan: Plan) -> None:
    counts = Counter(fault.kind for fault in plan.faults)
    assert set(counts) == set(FAULTS[plan.topology])
    assert len(set(counts.values())) == 1
    assert all(fault.at > 5 for fault in plan.faults)
    assert all(fault.at + fault.seconds < plan.seconds for fault in plan.faults)


def test_faults_of_a_long_run_leave_calm_spans_between_them() -> None:
    plan = plan_for(7, 240)
    gaps = [later.at - fault.at for fault, later in pairwise(plan.faults)]
    assert len(plan.faults) == 5 * len(FAULTS[Topology.SINGLE])
    assert sum(gap > 5 for gap in gaps) >= 4


def test_every_kind_of_fault_comes_on_some_topology() -> None:
    assert {kind for kinds in FAULTS.values() for kind in kinds} == set(FaultKind)


def test_another_topology_has_other_faults_and_all_else_is_the_same() -> None:
    single, cluster = plan_for(7, 240), plan_for(7, 240, Topology.CLUSTER)
    assert single.faults != cluster.faults
    assert replace(cluster, topology=single.topology, faults=single.faults) == single


def test_every_habit_has_a_client_that_may_view_and_every_caller_a_client(plan: Plan) -> None:
    assert {each.habit for each in plan.clients if each.caller.startswith("viewer")} == set(Habit)
    assert {STRANGER, ANONYMOUS, *REVOCABLE} <= set(plan.callers)
    assert {each.process for each in plan.clients} == set(range(CLIENT_PROCESSES))
    assert len({each.name for each in plan.clients}) == len(plan.clients) <= 240


def test_executions_of_a_slot_follow_one_another_without_a_gap(plan: Plan) -> None:
    for slot in plan.slots:
        assert slot.lives[0].begins_at == 0
        for life, following in pairwise(slot.lives):
            assert life.ends_at == following.begins_at
        for life in slot.lives:
            assert slot.life_at(life.begins_at) is life
        assert slot.life_at(-1) is slot.lives[0]
        assert slot.life_at(plan.seconds) is slot.lives[-1]
    ids = [life.execution_id for life in plan.lives]
    secrets = {life.secret for life in plan.lives}
    assert len(ids) == len(set(ids)) == len(secrets)


def test_some_executions_end_with_the_traffic_and_others_outlive_it(plan: Plan) -> None:
    last_ends = {slot.lives[-1].ends_at for slot in plan.slots}
    assert last_ends == {None, plan.seconds - 2}
    slot = plan.slots[1]
    assert slot.ended_at(plan.seconds) == list(slot.lives)
    assert slot.ended_at(slot.lives[0].begins_at) == []


def test_clocks_of_two_writers_are_seconds_apart() -> None:
    for seed in range(20):
        shifts = [writer.clock_shift_seconds for writer in plan_for(seed, 240).writers]
        assert max(shifts) - min(shifts) >= 3


def test_rights_are_given_back_before_the_traffic_ends_and_do_not_overlap(plan: Plan) -> None:
    for caller in REVOCABLE:
        absences = [each for each in plan.absences if each.caller == caller]
        assert absences
        for absence, following in pairwise(absences):
            assert absence.at + absence.seconds < following.at
        assert absences[-1].at + absences[-1].seconds < plan.seconds
    assert {each.by_deactivating for each in plan.absences} == {True, False}


def test_writers_do_every_deed_and_take_back_in_every_way() -> None:
    plan = plan_for(7, 240)
    done = list(islice(acts(plan, "writer-0", 0), 20_000))
    assert {act.deed for act in done} == set(Deed)
    assert {act.undoing for act in done} == set(Undoing)
    assert all(len(act.slots) == 1 + (act.deed is Deed.TWO_EXECUTIONS) for act in done)
    assert all(len(set(act.slots)) == len(act.slots) for act in done)
    fat = {number for number, slot in enumerate(plan.slots) if slot.is_fat}
    assert {act.slots[0] for act in done if act.deed is Deed.MANY_ACTIVITIES} == fat


def test_pace_of_writers_together_is_the_planned_one() -> None:
    plan = plan_for(7, 240)
    done = list(islice(acts(plan, "writer-0", 0), 20_000))
    pauses = [act.pause_seconds for act in done if act.pause_seconds]
    mean = sum(pauses) / len(pauses)
    assert mean == pytest.approx(len(plan.writers) / plan.changes_per_second, rel=0.1)


def test_herds_leave_while_there_is_traffic(plan: Plan) -> None:
    assert plan.herds_at
    assert list(plan.herds_at) == sorted(plan.herds_at)
    assert all(0 < at < plan.seconds for at in plan.herds_at)
