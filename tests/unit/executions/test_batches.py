"""Taking many items a few at a time."""

import pytest

from executions.batches import IDS_PER_QUERY, batches


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [[0]]), (3, [[0, 1, 2]]), (4, [[0, 1, 2], [3]]), (6, [[0, 1, 2], [3, 4, 5]])],
)
def test_every_item_comes_once_in_order(count: int, expected: list[list[int]]) -> None:
    assert [list(batch) for batch in batches(range(count), 3)] == expected


def test_as_many_as_a_query_takes_where_nothing_else_is_asked() -> None:
    sizes = [len(batch) for batch in batches(range(IDS_PER_QUERY + 1))]
    assert sizes == [IDS_PER_QUERY, 1]
