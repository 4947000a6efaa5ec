"""Which telling of an activity's state stands: every recorded state, told state and source.

The tables say what is expected, cell by cell; the product of all states is held against
them, so that no pair is left out.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Final

import pytest

from executions.statuses import ActivityStatus, PendingState
from executions.temporal.live.precedence import Source, Standing, standing_after

SOON: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER: Final = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)

# How far what is told is, seen from what is recorded: behind it, the same, ahead of it, or
# an end. "o" is recorded to have ended: nothing is heard any more.
PROGRESS: Final = """
recorded\\told  1-pending 1-running 1-retrying 2-pending 2-running 2-retrying final
1-pending      same      ahead     ahead      ahead     ahead     ahead      end
1-running      behind    same      ahead      ahead     ahead     ahead      end
1-retrying     behind    behind    same       ahead     ahead     ahead      end
2-pending      behind    behind    behind     same      ahead     ahead      end
2-running      behind    behind    behind     behind    same      ahead      end
2-retrying     behind    behind    behind     behind    behind    same       end
final          o         o         o          o         o         o          o
"""

# What was asked of it then, by source and by how far what is told is.
ASKED: Final = {
    "a description that is not behind": """
recorded\\told     -                 cancel_requested  pause_requested   paused
-                 -                 cancel_requested  pause_requested   paused
cancel_requested  cancel_requested  cancel_requested  cancel_requested  cancel_requested
pause_requested   -                 cancel_requested  pause_requested   paused
paused            -                 cancel_requested  pause_requested   paused
""",
    "an attempt that begins, by others": """
recorded\\told     -                 cancel_requested  pause_requested   paused
-                 -                 cancel_requested  -                 -
cancel_requested  cancel_requested  cancel_requested  cancel_requested  cancel_requested
pause_requested   -                 cancel_requested  -                 -
paused            -                 cancel_requested  -                 -
""",
    "anything else": """
recorded\\told     -                 cancel_requested  pause_requested   paused
-                 -                 cancel_requested  -                 -
cancel_requested  cancel_requested  cancel_requested  cancel_requested  cancel_requested
pause_requested   pause_requested   cancel_requested  pause_requested   pause_requested
paused            paused            cancel_requested  paused            paused
""",
}

# When the next attempt is due, where both tell of the same state.
NEXT_ATTEMPT: Final = {
    Source.DESCRIPTION: """
recorded\\told  -      soon   later
-              -      soon   later
soon           -      soon   later
later          -      soon   later
""",
    Source.HISTORY: """
recorded\\told  -      soon   later
-              -      soon   later
soon           soon   soon   soon
later          later  later  later
""",
    Source.INTERCEPTOR: """
recorded\\told  -      soon   later
-              -      soon   later
soon           soon   soon   soon
later          later  later  later
""",
}

MOMENTS: Final = {"-": None, "soon": SOON, "later": LATER}


@cache
def cells(table: str) -> dict[tuple[str, str], str]:
    """The table's cells by the names of their rows and columns."""
    (_, *columns), *rows = [line.split() for line in table.strip().splitlines()]
    assert all(len(row) == 1 + len(columns) for row in rows)
    return {
        (name, column): cell
        for name, *row in rows
        for column, cell in zip(columns, row, strict=True)
    }


def name_of(standing: Standing) -> str:
    return "final" if standing.status.is_final else f"{standing.attempt}-{standing.status}"


def asked_of(standing: Standing) -> str:
    return standing.pending_state or "-"


def moment_name(moment: datetime | None) -> str:
    return next(name for name, value in MOMENTS.items() if value == moment)


def expected(recorded: Standing, told: Standing, source: Source) -> Standing:
    """What the tables say."""
    progress = cells(PROGRESS)[name_of(recorded), name_of(told)]
    if progress == "o" or (progress == "end" and source is not Source.HISTORY):
        return recorded
    if progress == "end":
        return Standing(max(recorded.attempt, told.attempt), told.status)
    if source is Source.DESCRIPTION and progress != "behind":
        asked = ASKED["a description that is not behind"]
    elif progress == "ahead" and told.status == "running":
        asked = ASKED["an attempt that begins, by others"]
    else:
        asked = ASKED["anything else"]
    cell = cells(asked)[asked_of(recorded), asked_of(told)]
    further = told if progress == "ahead" else recorded
    due = further.next_attempt_at
    if progress == "same":
        names = moment_name(recorded.next_attempt_at), moment_name(told.next_attempt_at)
        due = MOMENTS[cells(NEXT_ATTEMPT[source])[names]]
    return Standing(
        further.attempt, further.status, None if cell == "-" else PendingState(cell), due
    )


STATES: Final = [
    *(
        Standing(attempt, status, asked, due)
        for attempt, status, asked, due in product(
            (1, 2),
            (ActivityStatus.PENDING, ActivityStatus.RUNNING, ActivityStatus.RETRYING),
            (None, *PendingState),
            MOMENTS.values(),
        )
    ),
    *(
        Standing(attempt, status)
        for attempt, status in product((1, 2), ActivityStatus)
        if status.is_final
    ),
]


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("name", sorted({name_of(state) for state in STATES}))
def test_every_pair_of_states_stands_as_the_tables_say(name: str, source: Source) -> None:
    for recorded, told in product(STATES, STATES):
        if name_of(recorded) == name:
            stands = standing_after(recorded, told, source)
            assert stands == expected(recorded, told, source), (recorded, told)


def test_tables_hold_every_state_there_is() -> None:
    names = {name_of(state) for state in STATES}
    assert set(cells(PROGRESS)) == set(product(names, names))
    asked = {"-", *PendingState}
    for table in ASKED.values():
        assert set(cells(table)) == set(product(asked, asked))
    for table in NEXT_ATTEMPT.values():
        assert set(cells(table)) == set(product(MOMENTS, MOMENTS))


@pytest.mark.parametrize("source", Source)
def test_telling_again_changes_nothing(source: Source) -> None:
    for recorded, told in product(STATES, STATES):
        stands = standing_after(recorded, told, source)
        assert standing_after(stands, told, source) == stands


@pytest.mark.parametrize(
    ("recorded", "told", "source", "stands"),
    [
        pytest.param(
            Standing(1, ActivityStatus.RUNNING),
            Standing(2, ActivityStatus.RUNNING),
            Source.INTERCEPTOR,
            Standing(2, ActivityStatus.RUNNING),
            id="a worker begins the next attempt",
        ),
        pytest.param(
            Standing(2, ActivityStatus.RUNNING),
            Standing(1, ActivityStatus.RETRYING, None, SOON),
            Source.DESCRIPTION,
            Standing(2, ActivityStatus.RUNNING),
            id="a description comes after the attempt it waited for",
        ),
        pytest.param(
            Standing(1, ActivityStatus.RETRYING, None, SOON),
            Standing(1, ActivityStatus.RETRYING),
            Source.DESCRIPTION,
            Standing(1, ActivityStatus.RETRYING),
            id="a backoff is over and the retry queued",
        ),
        pytest.param(
            Standing(2, ActivityStatus.RUNNING),
            Standing(1, ActivityStatus.FAILED),
            Source.HISTORY,
            Standing(2, ActivityStatus.FAILED),
            id="history ends what was told to be further",
        ),
        pytest.param(
            Standing(1, ActivityStatus.PENDING, PendingState.PAUSED),
            Standing(1, ActivityStatus.RUNNING),
            Source.INTERCEPTOR,
            Standing(1, ActivityStatus.RUNNING),
            id="what was paused begins",
        ),
        pytest.param(
            Standing(1, ActivityStatus.RUNNING),
            Standing(1, ActivityStatus.RUNNING, PendingState.CANCEL_REQUESTED),
            Source.HISTORY,
            Standing(1, ActivityStatus.RUNNING, PendingState.CANCEL_REQUESTED),
            id="a workflow asks for cancellation",
        ),
        pytest.param(
            Standing(1, ActivityStatus.COMPLETED),
            Standing(2, ActivityStatus.CANCELLED),
            Source.HISTORY,
            Standing(1, ActivityStatus.COMPLETED),
            id="what has ended stays ended",
        ),
    ],
)
def test_what_happens_in_practice_stands_as_it_should(
    recorded: Standing, told: Standing, source: Source, stands: Standing
) -> None:
    assert standing_after(recorded, told, source) == stands


@pytest.mark.parametrize(("seconds_apart", "stands"), [(0.4, "known"), (0.6, "described")])
def test_estimate_that_is_near_enough_is_no_news(seconds_apart: float, stands: str) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    for apart in (timedelta(seconds=seconds_apart), timedelta(seconds=-seconds_apart)):
        known = Standing(1, ActivityStatus.RETRYING, None, at)
        told = Standing(1, ActivityStatus.RETRYING, None, at + apart)
        expected_one = known if stands == "known" else told
        assert standing_after(known, told, Source.DESCRIPTION) == expected_one
