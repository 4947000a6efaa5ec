"""How long to wait before trying again. Pure but for chance."""

import random
from collections.abc import Iterator


def backoff_seconds(shortest: float, longest: float) -> Iterator[float]:
    """Endless waits that double from `shortest` to `longest`, each shortened by up to half.

    The chance in it keeps many that failed together from trying again together.
    """
    wait = shortest
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(longest, wait * 2)
