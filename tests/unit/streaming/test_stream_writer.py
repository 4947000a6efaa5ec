"""An execution's stream: its name, what fills it up, and its top."""

import pytest
import redis

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import stream as stream_module
from streaming.stream import EVENTS_PER_FILL, stream_key
from tests.unit.streaming.fake_client import FakeClient, events, writer_of


def test_stream_key_is_that_of_the_story() -> None:
    assert stream_key("abc-123-def-456") == "execution:abc-123-def-456:events"


class TestFilling:
    """Against a log that is read in steps of two."""

    @pytest.fixture
    def log(self, monkeypatch: pytest.MonkeyPatch) -> list[CommittedEvent]:
        log = events(0, 5)

        def read(execution_id: str, after: int, limit: int) -> list[CommittedEvent]:
            assert limit == EVENTS_PER_FILL
            return [each for each in log if each.event_id.sequence > after][:2]

        monkeypatch.setattr(stream_module, "read_events", read)
        return log

    def test_everything_after_the_streams_last_is_appended(self, log: list[CommittedEvent]) -> None:
        client = FakeClient([1, 0], [3, 0], [4, 0])
        writer_of(client).fill("a")
        assert [args[::2] for _, args in client.calls] == [[], ["1002-2", "1003-3"], ["1004-4"]]

    def test_stream_that_was_lost_meanwhile_is_begun_again(self, log: list[CommittedEvent]) -> None:
        client = FakeClient([1, 0], [-1, 1], [1, 0], [3, 0], [4, 0])
        writer_of(client).fill("a")
        assert [args[::2][:1] for _, args in client.calls] == [
            [], ["1002-2"], ["1000-0"], ["1002-2"], ["1004-4"],
        ]  # fmt: skip

    def test_log_that_no_longer_keeps_what_comes_next_ends_it(
        self, log: list[CommittedEvent]
    ) -> None:
        del log[:3]
        client = FakeClient([-1, 0], [-1, 1])
        writer_of(client).fill("a")
        assert len(client.calls) == 1


def test_tops_are_ids_where_there_is_one() -> None:
    client = FakeClient([["1001-1", {}]], [], redis.ResponseError("WRONGTYPE"), [["x-y", {}]])
    assert writer_of(client).tops(["a", "b", "c", "d"]) == [EventId(1001, 1), None, None, None]
    assert client.commands[0] == ("execution:a:events", 1)
