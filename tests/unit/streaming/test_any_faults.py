"""Whatever happens to announcements, stream, log and clients: each event once, in order."""

import asyncio
import random
from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from executions.identifiers import EventId
from streaming.close_codes import CloseCode
from streaming.hub import Hub
from streaming.start import Wanted
from tests.fuzzing.effort import examples
from tests.unit.streaming.world import Client, World, document, hub_of
from tests.unit.virtual_time import run, settle

GARBAGE = [
    "",
    "not JSON",
    "[]",
    '{"type":"activity_patch"}',
    '{"type":"activity_patch","event_id":"x"}',
    '{"type":"x","event_id":"1-1","y":' + "[" * 2_000,
]
QUEUE_CHARACTERS = 2_000
HEALING_SECONDS = 2_000.0


@dataclass(frozen=True)
class Step:
    """What happens next; `number` chooses where `name` leaves a choice."""

    name: str
    number: int


@dataclass
class Run:
    """One world with its clients, as the steps take it along."""

    world: World
    hub: Hub
    clients: list[tuple[Client, "asyncio.Task[None]"]] = field(default_factory=list)
    trimmed: bool = False

    async def take(self, step: Step) -> None:
        await getattr(self, f"do_{step.name}")(step.number)

    async def do_commit_and_publish(self, number: int) -> None:
        for _ in range(number % 6 + 1):
            self.world.publish(self.world.commit())
        await settle()

    async def do_commit_and_announce_some_in_any_order(self, number: int) -> None:
        chance = random.Random(number)
        committed = [event for _ in range(4) for event in self.world.commit()]
        for event in chance.choices(committed, k=chance.randrange(1, 6)):
            self.world.announce(event.message)
        await settle()

    async def do_commit_in_silence(self, number: int) -> None:
        for _ in range(number % 6 + 1):
            self.world.under_way += self.world.commit()

    async def do_announce_one_of_the_past(self, number: int) -> None:
        self.world.announce(self.world.log[number % len(self.world.log)].message)

    async def do_announce_late(self, number: int) -> None:
        late = self.world.under_way
        if late:
            self.world.announce(late.pop(number % len(late)).message)

    async def do_announce_garbage(self, number: int) -> None:
        self.world.announce(GARBAGE[number % len(GARBAGE)])

    async def do_lose_some_of_the_stream(self, number: int) -> None:
        log = self.world.log
        self.world.stream = log[number % len(log) :][: number % 7]

    async def do_fill_the_stream(self, number: int) -> None:
        self.world.stream = [*self.world.log]

    async def do_trim_the_log(self, number: int) -> None:
        self.trimmed = True
        self.world.kept_from = max(self.world.kept_from, number % len(self.world.log))

    async def do_lose_valkey(self, number: int) -> None:
        self.world.lose_valkey()

    async def do_restore_valkey(self, number: int) -> None:
        self.world.restore_valkey(self.world.log[: number % len(self.world.log)])

    async def do_lose_the_database(self, number: int) -> None:
        self.world.database_is_up = False

    async def do_restore_the_database(self, number: int) -> None:
        self.world.database_is_up = True

    async def do_join(self, number: int) -> None:
        log = self.world.log
        wanted: Wanted | EventId = (
            Wanted.NOW
            if number % 3 == 0
            else Wanted.FROM_THE_BEGINNING
            if number % 3 == 1
            else log[number % len(log)].event_id
        )
        client = Client(
            send_seconds=[0.0, 0.0, 0.3, 3.0][number // 3 % 4],
            has_room_each=[1, 0, 2, 3][number // 12 % 4],
        )
        if isinstance(wanted, EventId):
            client.cursor = wanted
            client.document = document(wanted.sequence)
        self.clients.append(
            (client, asyncio.create_task(client.watch(self.world, self.hub, wanted)))
        )

    async def do_leave(self, number: int) -> None:
        if self.clients:
            _, task = self.clients.pop(number % len(self.clients))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    async def do_wait(self, number: int) -> None:
        await asyncio.sleep([0, 0.01, 0.05, 0.3, 1.5, 2.5, 31, 65][number % 8])

    async def heal(self) -> None:
        self.world.database_is_up = True
        self.world.restore_valkey([])
        self.world.commit(finishing=True)
        if self.clients:
            tasks = [task for _, task in self.clients]
            done, late = await asyncio.wait(tasks, timeout=HEALING_SECONDS)
            for task in done:
                task.result()
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)
            assert not late, "a client never saw the end"

    def check(self) -> None:
        head = self.world.head.sequence
        for client, _ in self.clients:
            assert client.finished
            assert client.applied[-1] == head
            assert "unknown" not in client.resyncs
            assert self.trimmed or "trimmed" not in client.resyncs, "nothing was trimmed"
            if client.send_seconds == 0:
                assert "slow" not in client.resyncs
                assert CloseCode.TOO_SLOW not in client.codes
            if not client.resyncs:
                assert client.applied == list(range(head - len(client.applied) + 1, head + 1))


names = [name.removeprefix("do_") for name in vars(Run) if name.startswith("do_")]
steps = st.lists(
    st.builds(
        Step,
        # joining and committing are what the rest happens to
        st.sampled_from([*names, "join", "commit_and_publish", "commit_in_silence", "wait"]),
        st.integers(0, 10_000),
    ),
    min_size=3,
    max_size=30,
)


async def live_through(taken: list[Step], kind: type[Run] = Run) -> None:
    world = World()
    with hub_of(world) as hub:
        lived = kind(world, hub)
        try:
            for first_viewer in (Step("join", 0), Step("join", 1), Step("wait", 4)):
                await lived.take(first_viewer)
            for step in taken:
                await lived.take(step)
            await lived.heal()
            lived.check()
        finally:
            for _, task in lived.clients:
                task.cancel()
            await asyncio.gather(*(task for _, task in lived.clients), return_exceptions=True)
            assert not hub._rooms, "a room is left"
            assert not world.announcements.followed, "a channel is still followed"
            await hub.close()


@examples(300)
@given(steps)
def test_every_client_applies_every_event_once_in_order_or_is_told_why_not(
    taken: list[Step],
) -> None:
    with patch("streaming.subscription.QUEUE_CHARACTERS", QUEUE_CHARACTERS):
        run(live_through(taken))
