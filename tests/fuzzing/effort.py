"""How much is tried: a fixed, small set of examples in `make test`, fresh ones in `make fuzz`."""

import os
from collections.abc import Collection
from typing import Final

from hypothesis import HealthCheck, Phase, settings

TIMES: Final = int(os.environ.get("NEXUS_FUZZ_TIMES", "0"))
"""So many times the examples, with fresh seeds; 0: the same examples at every run."""

WITHOUT_SHRINKING: Final = frozenset({Phase.explicit, Phase.generate})
"""For what fails by taking long: the first example that does is told as it is."""


def examples(count: int, steps: int = 20, phases: Collection[Phase] = tuple(Phase)) -> settings:
    """Settings for about `count` examples; a state machine takes at most `steps` steps each."""
    return settings(
        max_examples=count * max(TIMES, 1),
        stateful_step_count=steps,
        phases=phases,
        derandomize=TIMES == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
