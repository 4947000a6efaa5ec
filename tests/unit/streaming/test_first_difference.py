"""What makes a stream's entries differ from the event log."""

import pytest

from streaming.verification import Entry, first_difference
from tests.unit.streaming.fake_client import events

LOG = events(0, 3)
ENTRIES: list[Entry] = [(str(each.event_id), {"message": each.message}) for each in LOG]


def test_same_events_do_not_differ() -> None:
    assert first_difference(ENTRIES, LOG) is None
    assert first_difference([], []) is None


@pytest.mark.parametrize(
    ("entries", "difference"),
    [
        ([*ENTRIES, ("1003-3", {})], "the entry 1003-3 is not in the event log"),
        (ENTRIES[:2], "the event 1002-2 is missing"),
        ([ENTRIES[0], ENTRIES[2]], "the entry 1002-2 is in the place of the event 1001-1"),
        ([*ENTRIES[:2], ("1002-2", {"message": "x"})],
         "the entry 1002-2 says something else than the event log"),
        ([*ENTRIES[:2], ("1002-2", {"text": LOG[2].message})],
         "the entry 1002-2 says something else than the event log"),
        ([*ENTRIES[:2], ("1002-2", {"message": LOG[2].message, "more": "1"})],
         "the entry 1002-2 says something else than the event log"),
    ],
)  # fmt: skip
def test_first_difference_is_named(entries: list[Entry], difference: str) -> None:
    assert first_difference(entries, LOG) == difference
