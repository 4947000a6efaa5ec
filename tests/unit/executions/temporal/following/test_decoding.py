"""Decoding payloads and failures in place, by converters that work, fail, hang or surprise."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    PayloadCodec,
)

from executions.temporal.following.decoding import DECODING_SECONDS, decode, drop_payloads
from tests.unit import virtual_time


def plain(value: Any) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


def sealed(value: Any) -> Payload:
    return Payload(
        metadata={"encoding": b"binary/encrypted"}, data=plain(value).SerializeToString()[::-1]
    )


class Sealing(PayloadCodec):
    """What it sealed it opens; payloads of others it lets be; counts its calls."""

    def __init__(self, refused: Callable[[Sequence[Payload]], bool] = lambda _: False) -> None:
        self._refused = refused
        self.calls = 0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise NotImplementedError

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.calls += 1
        if self._refused(payloads):
            raise LookupError("no key")
        return [self._opened(payload) for payload in payloads]

    @staticmethod
    def _opened(payload: Payload) -> Payload:
        if payload.metadata["encoding"] != b"binary/encrypted":
            return payload
        return Payload.FromString(payload.data[::-1])


def event_with(payload: Callable[[Any], Payload], event_id: int = 1) -> HistoryEvent:
    """Holds payloads in every way that an event can."""
    event = HistoryEvent(event_id=event_id)
    event.user_metadata.summary.CopyFrom(payload("title"))
    started = event.workflow_execution_started_event_attributes
    started.input.payloads.extend([payload("first"), payload(2)])
    started.memo.fields["nexus_workflow_definition"].CopyFrom(payload({"activities": []}))
    started.memo.fields["other"].CopyFrom(payload("kept"))
    started.header.fields["trace"].CopyFrom(sealed("header"))
    started.search_attributes.indexed_fields["Keyword"].CopyFrom(plain("found"))
    details = started.continued_failure.cause.timeout_failure_info.last_heartbeat_details
    details.payloads.extend([payload(0.5)])
    return event


def failed_event(payload: Callable[[Any], Payload]) -> HistoryEvent:
    event = HistoryEvent()
    failure = event.activity_task_failed_event_attributes.failure
    for link, name in ((failure, "Outer"), (failure.cause, "Inner")):
        link.message = "Encoded failure"
        link.encoded_attributes.CopyFrom(payload({"message": name, "stack_trace": f"in {name}\0"}))
    return event


async def test_codec_is_undone_everywhere_in_one_call() -> None:
    codec = Sealing()
    events = [event_with(sealed), event_with(sealed, 2), event_with(plain, 3)]
    assert await decode(DataConverter(payload_codec=codec), events) is None
    assert events == [event_with(plain), event_with(plain, 2), event_with(plain, 3)]
    assert codec.calls == 1


async def test_marker_details_and_pending_activities_are_decoded_too() -> None:
    event = HistoryEvent()
    event.marker_recorded_event_attributes.details["result"].payloads.append(sealed(1))
    pending = PendingActivityInfo(activity_id="a")
    pending.heartbeat_details.payloads.append(sealed({"progress": 0.5}))
    await decode(DataConverter(payload_codec=Sealing()), [event, pending])
    details = event.marker_recorded_event_attributes.details["result"]
    assert list(details.payloads) == [plain(1)]
    assert list(pending.heartbeat_details.payloads) == [plain({"progress": 0.5})]


async def test_codec_is_not_called_for_nothing() -> None:
    codec = Sealing()
    assert await decode(DataConverter(payload_codec=codec), [HistoryEvent(event_id=1)]) is None
    assert codec.calls == 0


async def test_codec_that_refuses_leaves_everything_as_it_was_and_says_why() -> None:
    event = event_with(sealed)
    codec = Sealing(refused=lambda _: True)
    problem = await decode(DataConverter(payload_codec=codec), [event])
    assert repr(problem) == "LookupError('no key')"
    assert event == event_with(sealed)


async def test_broken_payload_fails_alone() -> None:
    event, broken = event_with(sealed), Payload(metadata={"encoding": b"binary/encrypted"})
    other = HistoryEvent()
    other.activity_task_completed_event_attributes.result.payloads.append(broken)
    codec = Sealing(refused=lambda payloads: broken in payloads)
    problem = await decode(DataConverter(payload_codec=codec), [other, event])
    assert isinstance(problem, LookupError)
    assert event == event_with(plain)
    assert other.activity_task_completed_event_attributes.result.payloads[0] == broken


class Bundling(PayloadCodec):
    """Makes one payload of several: decoding gives more than it was given."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise NotImplementedError

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        assert all(payload == sealed("bundle") for payload in payloads)
        return [payload for _ in payloads for payload in (plain(1), plain(2))]


async def test_codec_that_bundles_payloads_is_undone_list_by_list() -> None:
    event = HistoryEvent()
    event.user_metadata.summary.CopyFrom(sealed("bundle"))
    event.workflow_execution_signaled_event_attributes.input.payloads.append(sealed("bundle"))
    assert await decode(DataConverter(payload_codec=Bundling()), [event]) is None
    assert event.user_metadata.summary == plain(1)
    told = event.workflow_execution_signaled_event_attributes
    assert list(told.input.payloads) == [plain(1), plain(2)]


class Empty(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise NotImplementedError

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return []


async def test_codec_that_answers_with_nothing_is_a_problem() -> None:
    event = HistoryEvent()
    event.user_metadata.summary.CopyFrom(sealed("title"))
    assert isinstance(await decode(DataConverter(payload_codec=Empty()), [event]), IndexError)
    assert event.user_metadata.summary == sealed("title")


class Hanging(Sealing):
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        await asyncio.sleep(3600)
        return list(payloads)


def test_codec_that_hangs_is_given_up() -> None:
    async def scenario() -> None:
        event = event_with(sealed)
        problem = await decode(DataConverter(payload_codec=Hanging()), [event])
        assert isinstance(problem, TimeoutError)
        assert asyncio.get_running_loop().time() == pytest.approx(DECODING_SECONDS)
        assert event == event_with(sealed)

    virtual_time.run(scenario())


@dataclass
class Order:
    number: int


class OwnEncoding(EncodingPayloadConverter):
    encoding = "acme/v1"

    def to_payload(self, value: Any) -> Payload | None:
        return None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        if payload.data == b"order":
            return Order(7)
        if payload.data == b"odd":
            return object()
        raise ZeroDivisionError


class OwnConverter(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(
            OwnEncoding(), *DefaultPayloadConverter.default_encoding_payload_converters
        )


def own(data: bytes) -> Payload:
    return Payload(metadata={"encoding": b"acme/v1"}, data=data)


@pytest.mark.parametrize(
    ("data", "decoded"),
    [(b"order", plain({"number": 7})), (b"odd", own(b"odd")), (b"broken", own(b"broken"))],
)
async def test_encoding_of_the_users_own_is_shown_where_its_converter_can_tell(
    data: bytes, decoded: Payload
) -> None:
    event = HistoryEvent()
    event.user_metadata.summary.CopyFrom(own(data))
    converter = DataConverter(payload_converter_class=OwnConverter)
    assert await decode(converter, [event]) is None
    summary = event.user_metadata.summary
    assert summary.metadata == decoded.metadata
    if data == b"order":
        assert json.loads(summary.data) == {"number": 7}
    else:
        assert summary == decoded


async def test_encoding_that_nobody_knows_stays() -> None:
    event = HistoryEvent()
    event.user_metadata.summary.CopyFrom(own(b"order"))
    assert await decode(DataConverter.default, [event]) is None
    assert event.user_metadata.summary == own(b"order")


@pytest.mark.parametrize("payload", [plain, sealed])
async def test_encoded_failures_tell_their_messages_and_stacks_again(
    payload: Callable[[Any], Payload],
) -> None:
    event = failed_event(payload)
    assert await decode(DataConverter(payload_codec=Sealing()), [event]) is None
    failure = event.activity_task_failed_event_attributes.failure
    assert (failure.message, failure.stack_trace) == ("Outer", "in Outer\ufffd")
    assert (failure.cause.message, failure.cause.stack_trace) == ("Inner", "in Inner\ufffd")


@pytest.mark.parametrize("told", [sealed({}), plain(["no object"]), plain({"message": 1})])
async def test_failure_whose_attributes_do_not_tell_stays_as_it_is(told: Payload) -> None:
    event = failed_event(lambda _: told)
    assert await decode(DataConverter.default, [event]) is None
    assert event == failed_event(lambda _: told)


def test_dropped_are_all_payloads_but_titles_the_plan_and_those_of_failures() -> None:
    event, kept = event_with(plain), event_with(plain)
    drop_payloads(event)
    started = kept.workflow_execution_started_event_attributes
    started.ClearField("input")
    del started.memo.fields["other"]
    assert event == kept


def test_dropped_are_payloads_within_messages_within_an_event() -> None:
    event = HistoryEvent()
    told = event.workflow_execution_update_accepted_event_attributes.accepted_request
    told.input.name = "change"
    told.input.args.payloads.append(plain("secret"))
    event.event_group_markers.add().label.label.CopyFrom(plain("secret"))
    drop_payloads(event)
    assert b"secret" not in event.SerializeToString()
    assert told.input.name == "change"


@pytest.mark.parametrize(
    ("marker", "left"),
    [
        ("core_local_activity", ["data"]),
        ("LocalActivity", ["data"]),
        ("SideEffect", []),
        ("nexus_workflow_definition", []),
    ],
)
def test_of_markers_only_what_tells_of_a_local_activity_is_left(
    marker: str, left: list[str]
) -> None:
    event = HistoryEvent()
    told = event.marker_recorded_event_attributes
    told.marker_name = marker
    for name in ("data", "input", "result"):
        told.details[name].payloads.append(plain(name))
    drop_payloads(event)
    assert sorted(told.details) == left
