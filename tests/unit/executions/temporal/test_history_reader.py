"""Reading pages from a Temporal that answers well, badly, or not at all."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal import history_reader
from executions.temporal.history_reader import HistoryReader, RunGoneError

Answer = Sequence[int | HistoryEvent] | RPCStatusCode


class Temporal:
    """Answers, in order, with events or their ids (a page) or a status (an error)."""

    def __init__(self, *answers: Answer, decoded: BaseException | None = None) -> None:
        self._answers = iter(answers)
        self._decoded = decoded
        self.starts = 0
        self.data_converter = self

    def get_workflow_handle(self, workflow_id: str, run_id: str) -> "Temporal":
        return self

    def fetch_history_events(self, **options: Any) -> "Pages":
        self.starts += 1
        return Pages(self._answers)

    async def decode_failure(self, failure: object) -> BaseException:
        if self._decoded is None:
            raise ValueError("no key")
        return self._decoded


class Pages:
    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self.current_page: list[HistoryEvent] | None = None
        self.next_page_token: bytes | None = None

    async def fetch_next_page(self) -> None:
        answer = next(self._answers)
        if isinstance(answer, RPCStatusCode):
            raise RPCError("no", answer, b"")
        self.current_page = [
            HistoryEvent(event_id=told) if isinstance(told, int) else told for told in answer
        ]
        # The last event of a history is 9 here: nothing follows it.
        self.next_page_token = None if 9 in answer else b"more"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_reader, "RETRY_SECONDS", (0.0, 0.0))


def reader_of(temporal: Any) -> HistoryReader:
    return HistoryReader(temporal, "w", "r", asyncio.Semaphore(1))


async def ids(reader: HistoryReader, pages: int) -> list[list[int]]:
    return [[event.event_id for event in await reader.next_page()] for _ in range(pages)]


async def test_pages_come_in_order_and_may_be_empty() -> None:
    temporal = Temporal([1, 2], [], [3, 9])
    assert await ids(reader_of(temporal), 3) == [[1, 2], [], [3, 9]]
    assert temporal.starts == 1


async def test_reading_goes_on_after_errors_where_it_was() -> None:
    temporal = Temporal([1], RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED, [2])
    assert await ids(reader_of(temporal), 2) == [[1], [2]]
    assert temporal.starts == 1


async def test_page_token_that_is_refused_leads_back_to_the_start() -> None:
    temporal = Temporal([1, 2], RPCStatusCode.INVALID_ARGUMENT, [1, 2, 3])
    assert await ids(reader_of(temporal), 2) == [[1, 2], [1, 2, 3]]
    assert temporal.starts == 2


async def test_history_that_ends_without_the_runs_end_is_read_again() -> None:
    temporal = Temporal([1, 9], [1, 9])
    assert await ids(reader_of(temporal), 2) == [[1, 9], [1, 9]]
    assert temporal.starts == 2


async def test_missing_run_is_gone() -> None:
    with pytest.raises(RunGoneError, match="Temporal has no run r"):
        await reader_of(Temporal(RPCStatusCode.NOT_FOUND)).next_page()


def encoded_failure() -> HistoryEvent:
    event = HistoryEvent(event_id=1)
    failure = event.activity_task_failed_event_attributes.failure
    for link in (failure, failure.cause):
        link.message = "Encoded failure"
        link.encoded_attributes.data = b"{}"
    return event


async def messages_read(decoded: BaseException | None) -> list[str]:
    temporal = Temporal([encoded_failure()], decoded=decoded)
    [read] = await reader_of(temporal).next_page()
    failure = read.activity_task_failed_event_attributes.failure
    return [failure.message, failure.cause.message]


async def test_encoded_messages_are_decoded_along_the_chain_of_causes() -> None:
    outer = ActivityError(
        "Activity failed", scheduled_event_id=1, started_event_id=2, identity="",
        activity_type="t", activity_id="a", retry_state=None,
    )  # fmt: skip
    outer.__cause__ = ApplicationError("declined")
    assert await messages_read(outer) == ["Activity failed", "declined"]


async def test_messages_that_cannot_be_decoded_stay_as_they_are() -> None:
    assert await messages_read(None) == ["Encoded failure", "Encoded failure"]
    assert await messages_read(KeyError("not Temporal's")) == ["Encoded failure"] * 2
