"""The channel `activityUpdates`: an execution's events, live, with replay."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from channels.db import database_sync_to_async

from executions.event_log import Head, find_event_id, read_heads
from executions.identifiers import EXECUTION_ID_FORM, EventId, is_execution_id
from streaming.close_codes import CloseCode
from streaming.consumer import Closing, Connection
from streaming.execution_stream import ExecutionStream
from streaming.gathered_reads import GatheredReads
from streaming.hub import hub
from streaming.start import (
    MalformedReplayError,
    decide_start,
    first_sequence_needed,
    parse_replay,
)

SPEC_PATH: Final = Path(__file__).with_name("execution_streaming.asyncapi.yaml")

_Asked = tuple[str, int | None]
"""An execution, and the sequence of an event of it that must still be kept."""

CLIENT_MESSAGES_ACCEPTED: Final = 20
"""How many messages a client may send, to no effect, before it is closed."""


async def on_connect_activityUpdates(connection: Connection) -> Closing:
    """Stream the execution to the connection, from where its `replay` says."""
    execution_id = connection.parameter("executionId")
    try:
        wanted = parse_replay(connection.query("replay"))
    except MalformedReplayError as error:
        return Closing(CloseCode.BAD_REQUEST, str(error))
    if not is_execution_id(execution_id):
        return Closing(CloseCode.BAD_REQUEST, f"an execution id has the form {EXECUTION_ID_FORM}")
    connection.place_among_viewers(execution_id)
    heartbeats = connection.heartbeats
    refusal = await heartbeats.while_waiting(connection.refusal_to_view(execution_id))
    if refusal is not None:
        return Closing(refusal, refusal.meaning)
    async with hub().view(execution_id, heartbeats.while_waiting) as view:
        asked = execution_id, first_sequence_needed(wanted)
        known = await heartbeats.while_waiting(_what_is_known.get(asked))
        if known is None:
            return Closing(CloseCode.NOT_FOUND, CloseCode.NOT_FOUND.meaning)
        head, kept = known
        if head.is_final and head.event_id == wanted:
            return Closing(CloseCode.DONE, CloseCode.DONE.meaning)
        stream = ExecutionStream(view, heartbeats)
        code = await stream.run(decide_start(wanted, head.event_id, kept), head.event_id)
        return Closing(code, code.meaning)


async def handle_activityUpdates(connection: Connection, text: str | bytes) -> None:
    """The channel takes no messages: they are ignored, and past a limit the client is closed."""
    if connection.received_messages > CLIENT_MESSAGES_ACCEPTED:
        await connection.end(
            Closing(CloseCode.BAD_REQUEST, "this channel takes no messages from clients")
        )


def _read_what_is_known(asked: Collection[_Asked]) -> dict[_Asked, tuple[Head, EventId | None]]:
    """The executions' heads, and the events asked for that are kept; without unknown executions."""
    heads = read_heads({execution_id for execution_id, _ in asked})
    return {
        (execution_id, sequence): (
            heads[execution_id],
            None if sequence is None else find_event_id(execution_id, sequence),
        )
        for execution_id, sequence in asked
        if execution_id in heads
    }


_what_is_known = GatheredReads(database_sync_to_async(_read_what_is_known, thread_sensitive=False))
