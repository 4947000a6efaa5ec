"""Any history, and anything told live of it, through the whole mirror into the database.

The pure fold is held to any well-formed history by its unit tests. Here histories are in any
order, with events twice and ids anyhow, and what they become is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.history.v1 import HistoryEvent

from executions.statuses import ActivityStatus, PendingState
from executions.temporal.history.changes import ActivityScheduled
from executions.temporal.history.fold import HistoryFold
from executions.temporal.live.precedence import Standing
from executions.temporal.mirroring.histories import record_history
from executions.temporal.mirroring.live_states import record_descriptions, record_hints
from tests.fuzzing.effort import WITHOUT_SHRINKING, examples
from tests.integration.telling import LATER, NOW, START, began, description, failed, progress
from tests.truth import assert_log_is_whole, nobody_listening
from tests.unit.executions.temporal.history.test_any_history import histories

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

NAMES: Final = ["", "a", "a~2", "planned", "\0", "ä" * 600, "none"]
event_numbers = st.sampled_from([-1, 0, 1, 2, 3, 2**63 - 1])
attempts = st.sampled_from([-1, 0, 1, 2, 3, 2**31])


@st.composite
def disordered(draw: st.DrawFn) -> list[HistoryEvent]:
    """A history's events in any order, some twice, some of another's id."""
    events = draw(histories())
    order = draw(st.lists(st.integers(0, len(events) - 1), max_size=15)) if events else []
    told = []
    for place in [*range(len(events)), *order] if draw(st.booleans()) else order:
        event = HistoryEvent()
        event.CopyFrom(events[place])
        if draw(st.integers(0, 4)) == 0:
            event.event_id = draw(event_numbers)
        told.append(event)
    return told


def hints(names: Sequence[str]) -> st.SearchStrategy[Any]:
    """Of attempts that there were or were not, told at any time."""
    made = st.builds(
        lambda make, attempt, name: make(attempt, name),
        st.sampled_from([began, failed, lambda attempt, name: progress(0.5, attempt, name)]),
        attempts,
        st.sampled_from(names),
    )
    moments = st.sampled_from([NOW, LATER])
    return st.builds(lambda hint, at: replace(hint, scheduled_at=at), made, moments)


standings = st.builds(
    Standing,
    st.sampled_from([1, 2, 3, 2**31 - 1]),
    st.sampled_from(ActivityStatus),
    st.none() | st.sampled_from(PendingState),
    st.none() | st.just(LATER),
)


@examples(30, phases=WITHOUT_SHRINKING)
@given(events=disordered(), cut=st.integers(0, 15), data=st.data())
def test_any_history_and_anything_told_live_leave_a_log_that_is_whole(
    events: list[HistoryEvent], cut: int, data: st.DataObject
) -> None:
    execution_id = str(uuid4())
    fold = HistoryFold("workflow", "run")
    with nobody_listening():
        record_history(execution_id, [START])
        for part in (events[:cut], events[cut:]):
            changes = fold.feed(part)
            record_history(execution_id, changes)
            engine_ids = [
                told.engine_activity_id for told in changes if type(told) is ActivityScheduled
            ]
            names = [*NAMES, *engine_ids]
            record_hints(execution_id, data.draw(st.lists(hints(names), max_size=5)))
            described = st.dictionaries(st.sampled_from(names), standings, max_size=3)
            record_descriptions(
                execution_id,
                {
                    name: description(standing, name)
                    for name, standing in data.draw(described).items()
                },
            )
            record_history(execution_id, changes)
    assert_log_is_whole(execution_id)
