"""Undoing, within Temporal's messages, what the client's data converter did to payloads.

Afterwards payloads are as `payloads` can show them, and failures tell what they are about,
as far as the converter is able to say. Where to find payloads is in the messages' own
descriptors: any message of Temporal's API will do.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import MarkerRecordedEventAttributes
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    PayloadCodec,
    PayloadConverter,
    WorkflowSerializationContext,
)

from executions.temporal.history.fold import DEFINITION_MEMO
from executions.temporal.history.payloads import is_showable
from executions.values import storable_text

DECODING_SECONDS: Final = 10.0
"""How long a codec may take for the payloads that are given together."""

_NEVER_ENCODED: Final = frozenset({"search_attributes", "header"})
"""Fields that no codec encodes, or that nobody reads."""

_TITLE: Final = "summary"

_LOCAL_ACTIVITIES: Final = frozenset({"core_local_activity", "LocalActivity"})
"""Markers whose details tell what was done, beside the payloads of it."""

_LOCAL_ACTIVITY_PAYLOADS: Final = frozenset({"input", "result"})

_Holder = Payload | Payloads


def converter_of_run(client: Client, workflow_id: str) -> DataConverter:
    """The client's data converter, told which run's payloads it is given."""
    return client.data_converter.with_context(
        WorkflowSerializationContext(namespace=client.namespace, workflow_id=workflow_id)
    )


async def decode(converter: DataConverter, messages: Iterable[Message]) -> Exception | None:
    """Decode every payload and failure in the messages, in place.

    What cannot be decoded stays as it is; why the codec could not is returned.
    """
    parts = [part for message in messages for part in _parts_of(message)]
    holders = [part for part in parts if not isinstance(part, Failure)]
    problem = None
    if converter.payload_codec is not None and holders:
        problem = await _undo_codec(converter.payload_codec, holders)
    for holder in holders:
        for payload in _payloads_of(holder):
            if not is_showable(payload):
                _undo_conversion(converter.payload_converter, payload)
    for part in parts:
        if isinstance(part, Failure):
            _tell(converter.payload_converter, part)
    return problem


def drop_payloads(message: Message) -> None:
    """Take the payloads out of the message.

    Left are those in failures, titles, a planned graph, and what a marker says of its
    local activity.
    """
    for field, value in message.ListFields():
        if isinstance(value, Failure) or field.name in _NEVER_ENCODED:
            continue
        if isinstance(value, _Holder):
            if field.name != _TITLE:
                message.ClearField(field.name)
        elif isinstance(value, MutableMapping):
            for key in [key for key, each in value.items() if isinstance(each, _Holder)]:
                if not _is_kept(message, key):
                    del value[key]
        else:
            for each in _messages_in(value):
                drop_payloads(each)


def _is_kept(message: Message, key: str) -> bool:
    if isinstance(message, MarkerRecordedEventAttributes):
        return message.marker_name in _LOCAL_ACTIVITIES and key not in _LOCAL_ACTIVITY_PAYLOADS
    return key == DEFINITION_MEMO


def _parts_of(message: Message) -> Iterator[_Holder | Failure]:
    """The payloads and failures in the message, of a failure the payloads first."""
    if isinstance(message, Payload | Payloads):
        yield message
        return
    for field, value in message.ListFields():
        if field.name not in _NEVER_ENCODED:
            for each in _messages_in(value):
                yield from _parts_of(each)
    if isinstance(message, Failure):
        yield message


def _messages_in(value: object) -> Iterator[Message]:
    """The messages that a field holds: itself, one after another, or by key."""
    if isinstance(value, Message):
        yield value
    elif isinstance(value, Mapping):
        yield from _messages_in(list(value.values()))
    elif isinstance(value, Iterable):
        yield from (each for each in value if isinstance(each, Message))


def _payloads_of(holder: _Holder) -> list[Payload]:
    return [holder] if isinstance(holder, Payload) else list(holder.payloads)


async def _undo_codec(codec: PayloadCodec, holders: Sequence[_Holder]) -> Exception | None:
    """In one call; where that fails, in one for each holder, so that a broken one fails alone."""
    try:
        async with asyncio.timeout(DECODING_SECONDS):
            if await _decoded_together(codec, holders):
                return None
            return await _decode_apart(codec, holders)
    except TimeoutError as error:
        return error


async def _decoded_together(codec: PayloadCodec, holders: Sequence[_Holder]) -> bool:
    payloads = [payload for holder in holders for payload in _payloads_of(holder)]
    try:
        decoded = await codec.decode(payloads)
        if len(decoded) != len(payloads):
            # It made one payload of several when it encoded: of which, only their list tells.
            return False
        for payload, known in zip(payloads, decoded, strict=True):
            payload.CopyFrom(known)
    except Exception:
        return False
    return True


async def _decode_apart(codec: PayloadCodec, holders: Sequence[_Holder]) -> Exception | None:
    problem = None
    for holder in holders:
        try:
            decoded = await codec.decode(_payloads_of(holder))
            if isinstance(holder, Payload):
                holder.CopyFrom(decoded[0])
            else:
                holder.CopyFrom(Payloads(payloads=decoded))
        except Exception as error:
            problem = error
    return problem


def _undo_conversion(converter: PayloadConverter, payload: Payload) -> None:
    """Have a payload of the user's own encoding hold the same value in one that is known."""
    try:
        known = PayloadConverter.default.to_payload(converter.from_payload(payload))
    except Exception:
        # It may raise anything: then what the encoding is called is all there is to show.
        return
    payload.CopyFrom(known)


def _tell(converter: PayloadConverter, failure: Failure) -> None:
    """Bring back the message and the stack trace that a failure converter had encoded."""
    if not failure.HasField("encoded_attributes"):
        return
    try:
        told = converter.from_payload(failure.encoded_attributes)
    except Exception:
        return
    if not isinstance(told, dict):
        return
    for name in ("message", "stack_trace"):
        if isinstance(text := told.get(name), str):
            setattr(failure, name, storable_text(text))
