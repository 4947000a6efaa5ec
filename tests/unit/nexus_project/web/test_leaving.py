"""Over how long clients leave."""

import pytest

from nexus_project.web.leaving import spread_seconds


@pytest.mark.parametrize(
    ("clients", "seconds"), [(0, 0), (1, 0.01), (100, 1), (1_000, 10), (50_000, 10)]
)
def test_few_leave_at_once_and_many_over_the_chosen_time(clients: int, seconds: float) -> None:
    assert spread_seconds(clients, drain_seconds=10) == seconds
