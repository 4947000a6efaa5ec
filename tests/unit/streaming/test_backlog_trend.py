"""When a backlog counts as growing."""

from streaming.health import GROWTH_SECONDS, BacklogTrend


def looks(*sizes_at: tuple[int, float]) -> list[bool]:
    trend = BacklogTrend()
    return [trend.grows(size, seconds) for size, seconds in sizes_at]


def test_a_backlog_that_is_new_does_not_grow() -> None:
    assert looks((5, 100.0), (9, 100.0 + GROWTH_SECONDS / 2)) == [False, False]


def test_a_backlog_that_has_not_shrunk_for_so_long_grows_until_it_does() -> None:
    soon, later, last = (100.0 + GROWTH_SECONDS * times for times in (1, 1.5, 2))
    assert looks((5, 100.0), (5, soon), (4, later), (4, last)) == [False, True, True, False]


def test_a_backlog_that_shrinks_slowly_does_not_grow() -> None:
    assert looks(*((9 - each, each * GROWTH_SECONDS) for each in range(9))) == [False] * 9


def test_an_empty_backlog_ends_it_at_once() -> None:
    assert looks((5, 0.0), (7, GROWTH_SECONDS), (0, GROWTH_SECONDS + 1)) == [False, True, False]
