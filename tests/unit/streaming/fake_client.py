"""A Valkey client that keeps what it was asked, and answers what a test says."""

from collections.abc import Callable
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
        self.script_text = ""
        self.calls: list[tuple[list[str], list[str]]] = []
        self.answers = list(answers)
        self.commands: list[tuple[object, ...]] = []
        self.deleted: list[str] = []

    def register_script(self, text: str) -> Callable[..., object]:
        self.script_text = text

        def call(keys: list[str], args: list[str]) -> object:
            self.calls.append((keys, args))
            return self.answers.pop(0)

        return call

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
