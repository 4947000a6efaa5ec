"""Counting connections against their limits."""

import pytest

from streaming.access.limits import (
    DEFAULT_LIMITS,
    ConnectionLimits,
    ConnectionPlaces,
    Holder,
    TooManyConnectionsError,
)

LIMITS = ConnectionLimits(process=3, user=2, execution=1)


@pytest.mark.parametrize(
    ("holder", "limit"),
    [(Holder.PROCESS, 3), (Holder.USER, 2), (Holder.ADDRESS, 2), (Holder.EXECUTION, 1)],
)
def test_each_holder_has_its_limit_and_the_refusal_names_it(holder: Holder, limit: int) -> None:
    places = ConnectionPlaces(LIMITS)
    taken = [places.take(holder, "key") for _ in range(limit)]
    with pytest.raises(TooManyConnectionsError) as refusal:
        places.take(holder, "key")
    assert str(refusal.value) == f"too many connections: {holder} may have {limit}"
    assert places.held(holder, "key") == limit
    # another's place is another's
    places.take(holder, "other")
    places.give_back(taken.pop())
    assert places.held(holder, "key") == limit - 1
    places.take(holder, "key")
    assert places.held(holder, "key") == limit


def test_holders_of_the_same_key_are_counted_apart() -> None:
    places = ConnectionPlaces(LIMITS)
    places.take(Holder.USER, "7")
    places.take(Holder.EXECUTION, "7")
    assert places.held(Holder.USER, "7") == places.held(Holder.EXECUTION, "7") == 1
    assert places.held(Holder.ADDRESS, "7") == 0


def test_nobody_who_has_left_is_remembered() -> None:
    places = ConnectionPlaces(LIMITS)
    for number in range(100):
        places.give_back(places.take(Holder.USER, number))
        places.held(Holder.USER, number)
    assert not places._held


def test_reasons_fit_a_close_frame() -> None:
    for holder in Holder:
        assert len(str(TooManyConnectionsError(holder, 10**9)).encode()) <= 123


def test_defaults_let_one_execution_fill_no_process_and_one_user_no_execution() -> None:
    assert DEFAULT_LIMITS.user < DEFAULT_LIMITS.execution < DEFAULT_LIMITS.process
