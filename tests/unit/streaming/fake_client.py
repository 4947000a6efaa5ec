"""A Valkey client that keeps what it was asked, and answers what a test says."""

from typing import cast

import redis

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.stream import StreamWriter


def event(sequence: int) -> CommittedEvent:
    return CommittedEvent(EventId(1_000 + sequence, sequence), f'{{"number":{sequence}}}')


def events(first: int, count: int) -> list[CommittedEvent]:
    return [event(sequence) for sequence in range(first, first + count)]


class FakeClient:
    """`calls` has each script call's keys and arguments."""

    def __init__(self, *answers: object) -> None:
        self.calls: list[tuple[list[str], list[str]]] = []
        self.answers = list(answers)
        self.commands: list[tuple[object, ...]] = []
        self.deleted: list[str] = []

    def evalsha(self, sha: str, key_count: int, *keys_and_arguments: str) -> object:
        keys, arguments = keys_and_arguments[:key_count], keys_and_arguments[key_count:]
        self.calls.append((list(keys), list(arguments)))
        return self.answers.pop(0)

    def unlink(self, key: str) -> None:
        self.deleted.append(key)

    def pipeline(self, transaction: bool) -> "FakeClient":
        assert not transaction, "the keys are of several slots"
        return self

    def xrevrange(self, key: str, count: int) -> None:
        self.commands.append((key, count))

    def execute(self, raise_on_error: bool) -> list[object]:
        assert not raise_on_error, "one stream's error is not the others'"
        return self.answers


def writer_of(client: FakeClient) -> StreamWriter:
    return StreamWriter(cast("redis.Redis", client))
