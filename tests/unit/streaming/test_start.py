"""Where a connection's stream begins."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.identifiers import EventId
from streaming.start import (
    EventsAfter,
    MalformedReplayError,
    SnapshotOfNow,
    Start,
    Wanted,
    decide_start,
    first_sequence_needed,
    parse_replay,
)

EVENT = EventId(1_700_000_000_123, 7)
HEAD = EventId(1_700_000_000_500, 9)

event_ids = st.builds(EventId, st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1))


@pytest.mark.parametrize(
    ("given_values", "wanted"),
    [
        ([], Wanted.NOW),
        (["0"], Wanted.FROM_THE_BEGINNING),
        (["0-0"], EventId(0, 0)),
        (["1700000000123-7"], EVENT),
    ],
)
def test_replay_is_nothing_zero_or_an_event_id(
    given_values: list[str], wanted: Wanted | EventId
) -> None:
    assert parse_replay(given_values) == wanted


@pytest.mark.parametrize(
    "given_values",
    [
        [""], ["1"], ["00"], ["-0"], ["0 "], [" 0"], ["0\n"], ["1-"], ["-1"], ["1-2-3"],
        ["01-2"], ["1-02"], ["\u0660"], ["1-\u0662"], ["1.0-2"], ["$"], ["+"], ["-"], ["latest"],
        ["99999999999999999-1"], ["1-99999999999999999"], ["0", "0"], ["1-2", "1-2"], ["x" * 5000],
    ],
)  # fmt: skip
def test_other_replay_is_refused_with_what_is_accepted(given_values: list[str]) -> None:
    with pytest.raises(MalformedReplayError) as refusal:
        parse_replay(given_values)
    assert len(str(refusal.value).encode()) <= 123  # it travels in a close frame
    assert str(refusal.value) == "replay must be 0 or one event_id (<milliseconds>-<sequence>)"


@given(st.lists(st.text()))
def test_any_replay_is_understood_or_refused(given_values: list[str]) -> None:
    with suppress(MalformedReplayError):
        assert isinstance(parse_replay(given_values), Wanted | EventId)


@given(event_ids)
def test_every_event_id_is_a_replay(event_id: EventId) -> None:
    assert parse_replay([str(event_id)]) == event_id


@pytest.mark.parametrize(
    ("wanted", "sequence"), [(Wanted.NOW, None), (Wanted.FROM_THE_BEGINNING, 0), (EVENT, 7)]
)
def test_event_that_must_still_be_kept(wanted: Wanted | EventId, sequence: int | None) -> None:
    assert first_sequence_needed(wanted) == sequence


@pytest.mark.parametrize(
    ("wanted", "kept", "start"),
    [
        (Wanted.NOW, None, SnapshotOfNow()),
        (Wanted.NOW, EVENT, SnapshotOfNow()),
        (Wanted.FROM_THE_BEGINNING, EventId(1, 0), EventsAfter(None)),
        (Wanted.FROM_THE_BEGINNING, None, SnapshotOfNow("trimmed")),
        (EVENT, EVENT, EventsAfter(EVENT)),
        (HEAD, HEAD, EventsAfter(HEAD)),
        (EVENT, None, SnapshotOfNow("trimmed")),
        (EVENT, EventId(EVENT.milliseconds + 1, EVENT.sequence), SnapshotOfNow("unknown")),
        (EventId(0, 9), HEAD, SnapshotOfNow("unknown")),
        (EventId(HEAD.milliseconds, 10), None, SnapshotOfNow("unknown")),
        # committed between the reading of the head and of the cursor's event
        (EventId(HEAD.milliseconds, 10), EventId(HEAD.milliseconds, 10),
         EventsAfter(EventId(HEAD.milliseconds, 10))),
    ],
)  # fmt: skip
def test_where_to_begin(wanted: Wanted | EventId, kept: EventId | None, start: Start) -> None:
    assert decide_start(wanted, HEAD, kept) == start


@given(event_ids, event_ids, st.none() | event_ids)
def test_only_an_event_of_this_execution_is_resumed_after(
    wanted: EventId, head: EventId, kept: EventId | None
) -> None:
    start = decide_start(wanted, head, kept)
    if isinstance(start, EventsAfter):
        assert start.cursor == wanted == kept
    else:
        assert kept != wanted
        assert start.resync in ("trimmed", "unknown")
