"""What to do with an offered event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.identifiers import EventId
from streaming.tail import Tail, Verdict


def at(sequence: int) -> EventId:
    return EventId(1_700_000_000_000 + sequence, sequence)


def test_before_the_first_event_only_the_first_is_sent() -> None:
    tail = Tail(None)
    assert tail.sequence == -1
    assert tail.offer(at(1)) is Verdict.SOMETHING_IS_MISSING
    assert tail.cursor is None
    assert tail.offer(at(0)) is Verdict.SEND
    assert tail.cursor == at(0)


@pytest.mark.parametrize(
    ("offered", "verdict", "cursor"),
    [
        (4, Verdict.ALREADY_SENT, 5),
        (5, Verdict.ALREADY_SENT, 5),
        (6, Verdict.SEND, 6),
        (7, Verdict.SOMETHING_IS_MISSING, 5),
    ],
)
def test_only_the_cursors_successor_is_sent_and_moves_it(
    offered: int, verdict: Verdict, cursor: int
) -> None:
    tail = Tail(at(5))
    assert tail.offer(at(offered)) is verdict
    assert tail.cursor == at(cursor)
    assert tail.sequence == cursor


@pytest.mark.parametrize(
    "offered",
    [EventId(2_001, 5), EventId(1_999, 5), EventId(2_001, 4), EventId(1_999, 6), EventId(0, 99)],
)
def test_event_that_cannot_be_of_the_cursors_log_is_a_contradiction(offered: EventId) -> None:
    tail = Tail(EventId(2_000, 5))
    assert tail.offer(offered) is Verdict.CONTRADICTION
    assert tail.cursor == EventId(2_000, 5)


@pytest.mark.parametrize(
    ("offered", "verdict"),
    [
        (EventId(2_000, 4), Verdict.ALREADY_SENT),
        (EventId(1, 4), Verdict.ALREADY_SENT),
        (EventId(2_000, 6), Verdict.SEND),
        (EventId(9_000, 6), Verdict.SEND),
        (EventId(2_000, 7), Verdict.SOMETHING_IS_MISSING),
    ],
)
def test_milliseconds_that_are_possible_do_not_decide(offered: EventId, verdict: Verdict) -> None:
    assert Tail(EventId(2_000, 5)).offer(offered) is verdict


@pytest.mark.parametrize(
    ("cursor", "event_id", "lacks"),
    [(None, at(0), True), (at(5), at(6), True), (at(5), at(5), False), (at(5), None, False)],
)
def test_what_is_above_the_cursor_is_lacking(
    cursor: EventId | None, event_id: EventId | None, lacks: bool
) -> None:
    assert Tail(cursor).lacks(event_id) is lacks


@given(st.lists(st.integers(0, 12)), st.integers(-1, 5))
def test_whatever_is_offered_what_is_sent_is_dense(offered: list[int], start: int) -> None:
    tail = Tail(None if start < 0 else at(start))
    sent = [number for number in offered if tail.offer(at(number)) is Verdict.SEND]
    assert sent == list(range(start + 1, start + 1 + len(sent)))


@given(st.data())
def test_duplicated_dropped_and_reordered_announcements_are_each_sent_once_in_order(
    data: st.DataObject,
) -> None:
    """As a reader uses it: what is missing is read from a source, from its cursor on."""
    log = [at(sequence) for sequence in range(data.draw(st.integers(1, 12)))]
    announced = data.draw(st.lists(st.sampled_from(log), max_size=40))
    tail = Tail(None)
    sent: list[EventId] = []
    for event_id in [*announced, log[-1]]:
        verdict = tail.offer(event_id)
        if verdict is Verdict.SEND:
            sent.append(event_id)
        elif verdict is Verdict.SOMETHING_IS_MISSING:
            while tail.lacks(event_id):
                missing = log[tail.sequence + 1]
                assert tail.offer(missing) is Verdict.SEND
                sent.append(missing)
    assert sent == log
