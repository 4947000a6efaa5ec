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

    def appended(self, client: FakeClient) -> list[list[str]]:
        """What each call of the script said comes before, and the ids that it gave."""
        return [[args[0], *args[1::2]] for _, args in client.calls]

    def test_everything_after_the_streams_last_is_appended(self, log: list[CommittedEvent]) -> None:
        client = FakeClient(["1001-1", 0, 0], ["1002-2", 0, 0], ["1003-3", 0, 0],
                            ["1004-4", 0, 0], ["1004-4", 0, 0])  # fmt: skip
        writer_of(client).fill("a")
        assert self.appended(client) == [
            ["none"], ["1001-1", "1002-2"], ["1002-2", "1003-3"], ["1003-3", "1004-4"], ["1004-4"],
        ]  # fmt: skip

    def test_stream_that_was_lost_meanwhile_is_begun_again(self, log: list[CommittedEvent]) -> None:
        del log[2:]
        client = FakeClient(["1001-1", 0, 0], ["", 1, 0], ["1001-1", 0, 0], ["1001-1", 0, 0])
        writer_of(client).fill("a")
        assert self.appended(client) == [
            ["none"], ["1001-1"], ["none", "1000-0", "1001-1"], ["1001-1"],
        ]  # fmt: skip

    def test_stream_that_was_no_copy_is_begun_again(self, log: list[CommittedEvent]) -> None:
        del log[2:]
        client = FakeClient(["2-1", 0, 0], ["", 1, 1], ["1001-1", 0, 0], ["1001-1", 0, 0])
        writer_of(client).fill("a")
        assert self.appended(client)[1:3] == [["1001-1"], ["none", "1000-0", "1001-1"]]

    @pytest.mark.parametrize("last_id", ["", "1000-0"])
    def test_stream_that_ends_before_what_is_kept_begins_with_that(
        self, log: list[CommittedEvent], last_id: str
    ) -> None:
        del log[:3]
        client = FakeClient([last_id, 0, 0], ["1004-4", 0, 0], ["1004-4", 0, 0])
        writer_of(client).fill("a")
        assert self.appended(client) == [["none"], ["none", "1003-3", "1004-4"], ["1004-4"]]

    @pytest.mark.parametrize("last_id", ["1005-5", f"{2**64 - 1}-{2**64 - 1}"])
    def test_stream_ahead_of_the_log_is_deleted_first(
        self, log: list[CommittedEvent], last_id: str
    ) -> None:
        del log[1:]
        client = FakeClient([last_id, 0, 0], ["", 0, 0], ["1000-0", 0, 0], ["1000-0", 0, 0])
        writer_of(client).fill("a")
        assert client.deleted == ["execution:a:events"]
        assert self.appended(client)[2:] == [["none", "1000-0"], ["1000-0"]]

    @pytest.mark.parametrize("at_once", [True, False])
    def test_gap_in_the_log_itself_ends_it(self, log: list[CommittedEvent], at_once: bool) -> None:
        del log[3 if at_once else 2]
        client = FakeClient(["1001-1", 0, 0], *[["1001-1" if not at_once else "1002-2", 1, 0]] * 2)
        writer_of(client).fill("a")
        assert len(client.calls) == (3 if at_once else 2)

    def test_stream_of_no_execution_is_deleted(self, log: list[CommittedEvent]) -> None:
        log.clear()
        client = FakeClient(["1000-0", 0, 0], ["", 0, 0])
        writer_of(client).fill("a")
        assert client.deleted == ["execution:a:events"]


def test_tops_are_ids_where_there_is_one() -> None:
    client = FakeClient([["1001-1", {}]], [], redis.ResponseError("WRONGTYPE"), [["x-y", {}]])
    assert writer_of(client).tops(["a", "b", "c", "d"]) == [EventId(1001, 1), None, None, None]
    assert client.commands[0] == ("execution:a:events", 1)
