"""Reading pages from a Temporal that answers well, badly, or not at all."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import (
    DataConverter,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal.following import history_reader
from executions.temporal.following.call_pace import CallPace
from executions.temporal.following.history_reader import HistoryReader, RunGoneError

Answer = Sequence[int | HistoryEvent] | RPCStatusCode


class Temporal:
    """Answers, in order, with events or their ids (a page) or a status (an error)."""

    namespace = "ns"

    def __init__(self, *answers: Answer, converter: DataConverter = DataConverter.default) -> None:
        self._answers = iter(answers)
        self.starts = 0
        self.data_converter = converter

    def get_workflow_handle(self, workflow_id: str, run_id: str) -> "Temporal":
        return self

    def fetch_history_events(self, **options: Any) -> "Pages":
        self.starts += 1
        return Pages(self._answers)


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


def reader_of(temporal: Any, pace: CallPace | None = None, **options: Any) -> HistoryReader:
    return HistoryReader(temporal, "w", "r", asyncio.Semaphore(1), pace or Pace(), **options)


async def ids(reader: HistoryReader, pages: int) -> list[list[int]]:
    return [[event.event_id for event in await reader.next_page()] for _ in range(pages)]


async def test_pages_come_in_order_and_may_be_empty() -> None:
    temporal = Temporal([1, 2], [], [3, 9])
    assert await ids(reader_of(temporal), 3) == [[1, 2], [], [3, 9]]
    assert temporal.starts == 1


async def test_reading_goes_on_after_errors_where_it_was() -> None:
    temporal = Temporal([1], RPCStatusCode.UNAVAILABLE, RPCStatusCode.INTERNAL, [2])
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


class Codec(PayloadCodec, WithSerializationContext):
    """Undoes nothing but that a message was said backwards, if it can."""

    def __init__(self, works: bool) -> None:
        self._works = works
        self.context: Any = None

    def with_context(self, context: SerializationContext) -> "Codec":
        self.context = context
        return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise NotImplementedError

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if not self._works:
            raise ValueError("no key")
        return [
            Payload(metadata={"encoding": b"json/plain"}, data=payload.data[::-1])
            for payload in payloads
        ]


def event_with_payload(data: bytes) -> HistoryEvent:
    event = HistoryEvent(event_id=1)
    event.activity_task_completed_event_attributes.result.payloads.add(data=data)
    return event


async def data_read(temporal: Temporal, **options: Any) -> list[bytes]:
    [event] = await reader_of(temporal, **options).next_page()
    payloads = event.activity_task_completed_event_attributes.result.payloads
    return [payload.data for payload in payloads]


async def test_payloads_are_decoded_for_the_runs_own_workflow() -> None:
    codec = Codec(works=True)
    temporal = Temporal([event_with_payload(b"]1[")], converter=DataConverter(payload_codec=codec))
    assert await data_read(temporal) == [b"[1]"]
    assert codec.context == WorkflowSerializationContext(namespace="ns", workflow_id="w")


async def test_codec_that_fails_is_told_once_and_stops_nothing() -> None:
    pages = [[event_with_payload(b"]1[")], [event_with_payload(b"]2[")]]
    converter = DataConverter(payload_codec=Codec(works=False))
    reader = reader_of(Temporal(*pages, converter=converter))
    with capture_logs() as logs:
        assert [await reader.next_page(), await reader.next_page()] == pages
    [told] = logs
    assert (told["event"], told["execution_id"]) == ("payloads_not_decoded", "r")


async def test_payloads_that_are_not_to_be_kept_are_gone_undecoded() -> None:
    converter = DataConverter(payload_codec=Codec(works=False))
    temporal = Temporal([event_with_payload(b"]1[")], converter=converter)
    with capture_logs() as logs:
        assert await data_read(temporal, keep_payloads=False) == []
    assert logs == []


class Pace(CallPace):
    """Notes what it is told, and never pauses."""

    def __init__(self) -> None:
        super().__init__(1)
        self.told: list[str] = []

    def exhausted(self) -> None:
        self.told.append("exhausted")

    async def resumed(self) -> None:
        self.told.append("resumed")

    def answered(self) -> None:
        self.told.append("answered")


async def test_refusal_for_the_rate_pauses_all_and_is_waited_out() -> None:
    exhausted = RPCStatusCode.RESOURCE_EXHAUSTED
    pace = Pace()
    reader = reader_of(Temporal(exhausted, exhausted, [1], RPCStatusCode.UNAVAILABLE, [2]), pace)
    with capture_logs() as logs:
        assert await ids(reader, 2) == [[1], [2]]
    assert [told["status"] for told in logs] == ["UNAVAILABLE"]
    assert pace.told == ["exhausted", "resumed"] * 2 + ["answered"] * 2
