"""Removing streams, and parts of them, that need not be at hand: the event log has it all.

Writers and viewers may be at work: what a viewer needs of it is read from the log.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import redis

from executions.event_log import Head, first_kept, read_heads
from executions.identifiers import EventId, MalformedEventIdError, is_execution_id
from streaming.stream import stream_key

STREAMS_PER_STEP: Final = 200

_BEFORE, _AFTER = stream_key("*").split("*")


class StreamPruned(NamedTuple):
    """What was removed: the whole stream, or so many entries from its beginning."""

    execution_id: str
    entries: int
    is_whole: bool


def streams(client: redis.Redis) -> Iterator[str]:
    """The execution ids of all streams there are, some perhaps twice."""
    for key in client.scan_iter(match=stream_key("*"), count=STREAMS_PER_STEP, _type="stream"):
        execution_id = str(key).removeprefix(_BEFORE).removesuffix(_AFTER)
        if is_execution_id(execution_id):
            yield execution_id


def prune_streams(
    client: redis.Redis, before_milliseconds: int, *, dry_run: bool = False
) -> Iterator[StreamPruned]:
    """Remove the streams of executions that ended before that moment, or are not there.

    Of others, the entries from before it, but the newest. With `dry_run`, only tell;
    `entries` is 0 then. Raises `clients.UNREACHABLE`.
    """
    names = streams(client)
    while some := list(islice(names, STREAMS_PER_STEP)):
        heads = read_heads(some)
        for execution_id in some:
            head = heads.get(execution_id)
            if head is None or _has_ended(head, before_milliseconds):
                if not dry_run:
                    client.unlink(stream_key(execution_id))
                yield StreamPruned(execution_id, 0, is_whole=True)
            elif pruned := _trim(client, execution_id, before_milliseconds, dry_run=dry_run):
                yield pruned


def trim_to_log(client: redis.Redis, execution_id: str) -> None:
    """Remove the entries that the event log no longer keeps. Raises `clients.UNREACHABLE`."""
    oldest = first_kept(execution_id)
    if oldest is not None:
        client.xtrim(stream_key(execution_id), minid=str(oldest), approximate=False)


def _has_ended(head: Head, before_milliseconds: int) -> bool:
    return head.is_final and head.event_id.milliseconds < before_milliseconds


def _trim(
    client: redis.Redis, execution_id: str, before_milliseconds: int, *, dry_run: bool
) -> StreamPruned | None:
    key = stream_key(execution_id)
    oldest, newest = (
        _first_id(client.xrange(key, count=1)),
        _first_id(client.xrevrange(key, count=1)),
    )
    if oldest is None or newest is None or oldest.milliseconds >= before_milliseconds:
        return None
    if oldest == newest:
        return None
    first = min(EventId(before_milliseconds, 0), newest)
    trimmed: Any = 0 if dry_run else client.xtrim(key, minid=str(first), approximate=False)
    return StreamPruned(execution_id, trimmed, is_whole=False)


def _first_id(entries: Any) -> EventId | None:
    """The id of the first of the entries; None where there is none of an event's."""
    try:
        return EventId.parse(entries[0][0]) if entries else None
    except MalformedEventIdError:
        return None
