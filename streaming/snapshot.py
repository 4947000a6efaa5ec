"""The snapshot of now as a message: read once, encoded once, shared by who asks at once."""

from typing import NamedTuple

from channels.db import database_sync_to_async

from executions.document import JsonObject
from executions.events import event_timestamp
from executions.identifiers import EventId
from executions.snapshots import read_snapshot
from streaming.metrics import snapshots_read
from streaming.schemas.visualization import InitialSnapshot, Resync, ResyncReason, encode


class SnapshotMessage(NamedTuple):
    """The document as it is: `event_id` is what it is true at, `head` the newest event.

    They differ once the execution is closed: its last event, the final snapshot, changes
    nothing, and is still to be sent to whoever starts here.
    """

    event_id: EventId
    head: EventId
    document: JsonObject
    text: str


def snapshot_text(
    execution_id: str, event_id: EventId, document: JsonObject, reason: ResyncReason | None
) -> str:
    """The text of an initial snapshot; with a reason, of a resync."""
    message = InitialSnapshot(
        execution_id=execution_id,
        event_id=str(event_id),
        timestamp=event_timestamp(event_id),
        execution=document,
    )
    if reason is not None:
        message.resync = Resync(reason)
    return encode(message)


def _read(execution_id: str) -> SnapshotMessage | None:
    snapshot = read_snapshot(execution_id)
    if snapshot is None:
        return None
    snapshots_read.inc()
    head, is_final, document = snapshot
    # The closing patch and the final snapshot are written at one instant, one after the other.
    event_id = EventId(head.milliseconds, head.sequence - 1) if is_final else head
    return SnapshotMessage(
        event_id, head, document, snapshot_text(execution_id, event_id, document, None)
    )


read_snapshot_message = database_sync_to_async(_read, thread_sensitive=False)
"""Read and encode the document as it is, in a thread; None where there is no such execution."""
