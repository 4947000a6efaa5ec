"""Whatever others write to an execution's stream and channel, viewers see the log.

A writer, viewers that come back with their cursors, the hub and the publisher are real. Beside
them somebody writes to Valkey: entries of any ids, keys of other types, trimmed and emptied
streams, announcements of anything. What nobody can tell from the truth is left out: a whole
event message, with its right id, that says something else than the log.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import pytest
import redis
from hypothesis import given, note
from hypothesis import strategies as st

from executions.document import JsonObject
from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.recording import changing
from executions.statuses import ExecutionStatus
from streaming import hub as hub_module
from streaming.activity_update_publisher import publisher
from streaming.close_codes import ClientAction
from streaming.stream import stream_key
from streaming.valkey import announcements as announcements_module
from tests.fuzzing.effort import WITHOUT_SHRINKING, examples
from tests.integration.watching import Watcher, hub_running, in_thread
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import fold, nobody_listening

pytestmark = pytest.mark.django_db(transaction=True)

HEALING_SECONDS: Final = 10.0
EVERYTHING: Final = 2**31
GREATEST: Final = 2**64 - 1

Act = Callable[["Scene"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Step:
    """What somebody does next."""

    told: str
    act: Act = field(repr=False)


def step(told: object) -> Callable[[Act], Step]:
    return lambda act: Step(str(told), act)


@pytest.fixture(autouse=True)
def quick_checks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NEXUS_OPEN_READING = True
    settings.NEXUS_HEARTBEAT_SECONDS = 0.2
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(announcements_module, "LONGEST_PAUSE_SECONDS", 0.1)


class Client:
    """A viewer that keeps all it is sent, and comes back with its cursor until it saw the end."""

    def __init__(self, execution_id: str, replay: str | None) -> None:
        self.received: list[JsonObject] = []
        self.finished = False
        self.after = None if replay is None or replay == "0" else EventId.parse(replay)
        self._execution_id = execution_id
        self._cursor = replay
        self.life = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not self.finished:
            watcher = Watcher(self._execution_id, self._cursor)
            try:
                closing = await asyncio.shield(watcher.life)
            finally:
                await watcher.leave()
                self._take(watcher.messages)
            assert closing.code.action is not ClientAction.STOP, closing
            await asyncio.sleep(0.01)

    def _take(self, messages: list[JsonObject]) -> None:
        self.received += messages
        for message in messages:
            if message["type"] != "heartbeat":
                self._cursor = message["event_id"]
            self.finished = self.finished or message["type"] == "final_snapshot"


class Scene:
    """One execution, those who watch it, and the key that others write to."""

    def __init__(self, valkey: "redis.Redis", execution_id: str) -> None:
        self.valkey = valkey
        self.execution_id = execution_id
        self.key = stream_key(execution_id)
        self.clients: list[Client] = []
        self._changes = 0

    async def log(self) -> list[CommittedEvent]:
        return await in_thread(read_events, self.execution_id, -1, EVERYTHING)

    async def others(self, *command: Any) -> None:
        """Somebody else's command; what Valkey refuses has done nothing."""
        with suppress(redis.ResponseError):
            await asyncio.to_thread(self.valkey.execute_command, *command)

    def change(self, *, finishing: bool = False) -> None:
        with changing(self.execution_id) as change:
            self._changes += 1
            change.activity("step").progress = self._changes / 10_000
            if finishing:
                change.execution.status = ExecutionStatus.COMPLETED

    def change_unpublished(self) -> None:
        with nobody_listening():
            self.change()

    async def heal(self) -> None:
        """Others stop, and the execution ends: all see it, who comes only then too."""
        await in_thread(lambda: self.change(finishing=True))
        await self._all_see_the_end()
        self.clients.append(Client(self.execution_id, "0"))
        await self._all_see_the_end()

    async def _all_see_the_end(self) -> None:
        async with asyncio.timeout(HEALING_SECONDS):
            await asyncio.gather(*(client.life for client in self.clients))
        log = await self.log()
        for client in self.clients:
            assert_saw_the_log(client.received, client.after, log)

    async def leave(self) -> None:
        for client in self.clients:
            client.life.cancel()
        await asyncio.gather(*(client.life for client in self.clients), return_exceptions=True)


def assert_saw_the_log(
    received: list[JsonObject], cursor: EventId | None, log: list[CommittedEvent]
) -> None:
    """Each message is the log's next event, or a snapshot as the log folds; the last is final."""
    messages = [json.loads(event.message) for event in log]
    for message in received:
        told: Any = message.get("event_id")
        if message["type"] == "heartbeat":
            assert told in (None, str(cursor)), f"{message} at {cursor}"
        elif message["type"] == "initial_snapshot" and message != messages[0]:
            cursor = EventId.parse(told)
            assert cursor == log[cursor.sequence].event_id
            assert message["execution"] == fold(messages[: cursor.sequence + 1])
        else:
            at = EventId.parse(told).sequence
            assert cursor is None or at == cursor.sequence + 1, f"{told} after {cursor}"
            assert message == messages[at]
            cursor = log[at].event_id
    assert cursor == log[-1].event_id


# What others do

garbage = st.sampled_from(
    [
        *("", "not JSON", "[]", "{}", "null", "\0", '{"type":"heartbeat","timestamp":"x"}'),
        *('{"type":"final_snapshot"', '{"type":"activity_patch","event_id":"x"}'),
        '{"type":"activity_patch","event_id":"1-1","ops":' + "[" * 5_000,
    ]
) | st.text(max_size=20)
fields = st.lists(
    st.tuples(st.sampled_from(["message", "message", "event", ""]), garbage), min_size=1, max_size=3
).map(lambda pairs: [text for pair in pairs for text in pair])
milliseconds = st.sampled_from([0, 1, 2**53 + 1, 10**16, GREATEST])
sequences = st.sampled_from([0, 1, 2, 3, 2**53 - 1, 2**53, 2**53 + 1, 10**16, GREATEST])
near = st.integers(-3, 3)


@st.composite
def foreign_ids(draw: st.DrawFn) -> Callable[[EventId], str]:
    """An id, perhaps near the head's; given the head."""
    ms_near, ms_far = draw(near), draw(st.none() | milliseconds)
    sequence_near, sequence_far = draw(near), draw(st.none() | sequences)

    def of(head: EventId) -> str:
        ms = head.milliseconds + ms_near if ms_far is None else ms_far
        sequence = head.sequence + sequence_near if sequence_far is None else sequence_far
        return f"{max(ms, 0)}-{max(sequence, 0)}"

    return of


def adds_an_entry(written: list[str]) -> Step:
    return Step(f"XADD * {written}", lambda scene: scene.others("XADD", scene.key, "*", *written))


def adds_an_entry_of_an_id(id_at: Callable[[EventId], str], written: list[str]) -> Step:
    @step(f"XADD {id_at(EventId(0, 0))} {written}")
    async def act(scene: Scene) -> None:
        head = (await scene.log())[-1].event_id
        await scene.others("XADD", scene.key, id_at(head), *written)

    return act


def sets_the_last_id(id_at: Callable[[EventId], str]) -> Step:
    @step(f"XSETID {id_at(EventId(0, 0))}")
    async def act(scene: Scene) -> None:
        head = (await scene.log())[-1].event_id
        await scene.others("XSETID", scene.key, id_at(head))

    return act


def replaces_the_stream(written: list[list[str]]) -> Step:
    """Ids as the log has them, with other contents."""

    @step(f"replaces the entries by {written}")
    async def act(scene: Scene) -> None:
        await scene.others("DEL", scene.key)
        for event, instead in zip(await scene.log(), written, strict=False):
            await scene.others("XADD", scene.key, str(event.event_id), *instead)

    return act


def replaces_the_key(*command: Any) -> Step:
    @step(f"replaces the key: {command}")
    async def act(scene: Scene) -> None:
        await scene.others("DEL", scene.key)
        name, *rest = command
        await scene.others(name, scene.key, *rest)

    return act


def does(*command: Any) -> Step:
    """A command whose KEY is the stream's key."""
    return Step(
        str(command),
        lambda scene: scene.others(*(scene.key if each == KEY else each for each in command)),
    )


KEY: Final = "the key"


def deletes_entries(which: list[int]) -> Step:
    @step(f"XDEL {which}")
    async def act(scene: Scene) -> None:
        log = await scene.log()
        ids = [str(log[number % len(log)].event_id) for number in which]
        await scene.others("XDEL", scene.key, *ids)

    return act


def announces_far_ahead(sequence: int) -> Step:
    """Of this execution, as it were, but of a sequence that does not follow."""

    @step(f"announces {sequence} ahead")
    async def act(scene: Scene) -> None:
        head = (await scene.log())[-1].event_id
        text = json.dumps(
            {
                "type": "activity_patch",
                "execution_id": scene.execution_id,
                "event_id": f"{head.milliseconds}-{min(head.sequence + 2 + sequence, 10**16 - 1)}",
            }
        )
        await scene.others("SPUBLISH", scene.key, text)

    return act


other_peoples_steps = st.one_of(
    fields.map(adds_an_entry),
    st.builds(adds_an_entry_of_an_id, foreign_ids(), fields),
    st.builds(sets_the_last_id, foreign_ids()),
    st.lists(fields, min_size=1, max_size=5).map(replaces_the_stream),
    st.sampled_from(
        [
            replaces_the_key("SET", "text"),
            replaces_the_key("RPUSH", "a", "b"),
            replaces_the_key("HSET", "message", "x"),
            replaces_the_key("ZADD", 1, "x"),
            does("XGROUP", "CREATE", KEY, "g", "$", "MKSTREAM"),
            does("DEL", KEY),
            does("XTRIM", KEY, "MAXLEN", 0),
            does("XTRIM", KEY, "MAXLEN", 1),
            does("XTRIM", KEY, "MAXLEN", 3),
            does("XGROUP", "CREATE", KEY, "group", "0"),
            does("XREADGROUP", "GROUP", "group", "me", "STREAMS", KEY, ">"),
            does("RENAME", KEY, "elsewhere"),
            does("PEXPIRE", KEY, 1),
            does("PERSIST", KEY),
        ]
    ),
    st.lists(st.integers(0, 20), min_size=1, max_size=3).map(deletes_entries),
    garbage.map(lambda text: does("SPUBLISH", KEY, text)),
    st.sampled_from([0, 1, 5, 10**16]).map(announces_far_ahead),
)


# What we do


def changes(count: int) -> Step:
    @step(f"{count} changes")
    async def act(scene: Scene) -> None:
        for _ in range(count):
            await in_thread(scene.change)

    return act


@step("changes_unpublished")
async def changes_unpublished(scene: Scene) -> None:
    await in_thread(scene.change_unpublished)


@step("has_it_filled")
async def has_it_filled(scene: Scene) -> None:
    publisher().fill(scene.execution_id)


def joins(number: int) -> Step:
    """Without replay, from the beginning, or after an event of the log."""

    @step(f"joins {number}")
    async def act(scene: Scene) -> None:
        log = await scene.log()
        replay = [None, "0", str(log[number % len(log)].event_id)][number % 3]
        scene.clients.append(Client(scene.execution_id, replay))

    return act


@step("a_moment_passes")
async def a_moment_passes(scene: Scene) -> None:
    await asyncio.sleep(0.05)


our_steps = st.one_of(
    st.integers(1, 4).map(changes),
    st.just(changes_unpublished),
    st.just(has_it_filled),
    st.integers(0, 30).map(joins),
    st.just(a_moment_passes),
)
steps = st.lists(st.one_of(other_peoples_steps, other_peoples_steps, our_steps), max_size=14)


async def live_through(scene: Scene, taken: list[Step]) -> None:
    async with hub_running():
        try:
            for first in (joins(0), joins(1)):
                await first.act(scene)
            for each in taken:
                await each.act(scene)
            await scene.heal()
        finally:
            await scene.leave()


@pytest.fixture
def valkey_client(valkey: ValkeyServer) -> "redis.Redis":
    return valkey.client


@examples(20, phases=WITHOUT_SHRINKING)
@given(taken=steps)
def test_viewers_see_the_log_and_nothing_else_whatever_others_write(
    valkey_client: "redis.Redis", caplog: pytest.LogCaptureFixture, taken: list[Step]
) -> None:
    note(str([each.told for each in taken]))
    execution_id = an_execution("step", execution_id=f"e-{uuid4()}")
    asyncio.run(live_through(Scene(valkey_client, execution_id), taken))
    # What is raised into a writer after its commit is logged, and nothing more.
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
