"""Two publishers around a gap, in every order of what they do, on a real Valkey."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import stream as stream_module
from streaming.activity_update_publisher import ActivityUpdatePublisher
from streaming.stream import Appended, StreamWriter, stream_key
from streaming.valkey.clients import writing_client
from tests.integration.interleaving import Steps, every_interleaving
from tests.integration.listening import announcements_heard
from tests.servers.valkey import ValkeyServer

EXECUTION_ID = "raced"
KEY = stream_key(EXECUTION_ID)

LOG = [
    CommittedEvent(EventId(1_000 + sequence // 2, sequence), f'{{"sequence":{sequence}}}')
    for sequence in range(5)
]
IDS = [str(event.event_id) for event in LOG]
TEXTS = [event.message for event in LOG]


class SteppingWriter(StreamWriter):
    """Each command to Valkey is one step; the log is whole before they begin."""

    def __init__(self, client: Any, steps: Steps) -> None:
        super().__init__(client)
        self._steps = steps

    def append(
        self, execution_id: str, events: Sequence[CommittedEvent], previous: EventId | None
    ) -> Appended:
        self._steps.next()
        return super().append(execution_id, events, previous)


@pytest.fixture
def client() -> Iterator[Any]:
    client = writing_client()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _log_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_events(execution_id: str, after: int, limit: int) -> list[CommittedEvent]:
        return [event for event in LOG if event.event_id.sequence > after][:2]

    monkeypatch.setattr(stream_module, "read_events", read_events)


@pytest.fixture
def announced(valkey: ValkeyServer) -> Iterator[Callable[[], list[str]]]:
    """What was announced since it was last asked for."""
    with announcements_heard(valkey, KEY) as since:
        yield since


def publishing(client: Any, *sequences: int) -> Callable[[Steps], None]:
    """A process that publishes these committed events, in one go."""

    def publish(steps: Steps) -> None:
        publisher = ActivityUpdatePublisher(SteppingWriter(client, steps))
        events = [LOG[sequence] for sequence in sequences]
        publisher.publish(EXECUTION_ID, events, before(sequences[0]))
        assert publisher.backlog_size == 0

    return publish


def before(sequence: int) -> EventId | None:
    return LOG[sequence - 1].event_id if sequence else None


def begin_with(valkey: ValkeyServer, sequences: Sequence[int], *, trimmed: bool = False) -> None:
    valkey.client.delete(KEY)
    for sequence in sequences:
        valkey.client.xadd(KEY, {"message": TEXTS[sequence]}, id=IDS[sequence])
    if trimmed:
        valkey.client.xtrim(KEY, maxlen=0, approximate=False)


@pytest.mark.parametrize(
    ("held", "first", "second"),
    [
        ([0, 1, 2], [3], [4]),
        ([0, 1], [2], [3]),
        ([0], [1, 2], [3, 4]),
        ([0], [3], [4]),
        ([], [4], [3, 4]),
        ([], [0], [4]),
        ([0, 1, 2, 3], [2, 3], [4]),
        ([0, 1, 2], [4], [4]),
    ],
)
def test_each_event_is_in_the_stream_and_announced_once_in_order(
    valkey: ValkeyServer,
    client: Any,
    announced: Callable[[], list[str]],
    held: list[int],
    first: list[int],
    second: list[int],
) -> None:
    def actions() -> list[Callable[[Steps], None]]:
        begin_with(valkey, held)
        return [publishing(client, *first), publishing(client, *second)]

    runs = 0
    newest = max(first + second)
    for order in every_interleaving(actions):
        runs += 1
        ids = valkey.stream_ids(KEY)
        # nothing after the newest of both was committed when they began; a fill may bring it
        assert ids == IDS[: len(ids)], order
        assert len(ids) > newest, order
        assert announced() == TEXTS[len(held) : len(ids)], order
    assert runs > 1


@pytest.mark.parametrize("trimmed_away", [[0], [0, 1, 2], [0, 1, 2, 3]])
def test_trimmed_to_empty_it_goes_on_where_it_was(
    valkey: ValkeyServer,
    client: Any,
    announced: Callable[[], list[str]],
    trimmed_away: list[int],
) -> None:
    def actions() -> list[Callable[[Steps], None]]:
        begin_with(valkey, trimmed_away, trimmed=True)
        return [publishing(client, 4), publishing(client, 3)]

    for order in every_interleaving(actions):
        assert valkey.stream_ids(KEY) == IDS[len(trimmed_away) :], order
        assert announced() == TEXTS[len(trimmed_away) :], order


def test_deleted_at_any_moment_it_stays_dense_and_the_next_publication_makes_it_whole(
    valkey: ValkeyServer, client: Any, announced: Callable[[], list[str]]
) -> None:
    def delete(steps: Steps) -> None:
        steps.next()
        valkey.client.delete(KEY)

    def actions() -> list[Callable[[Steps], None]]:
        begin_with(valkey, [0, 1])
        return [publishing(client, 2), publishing(client, 3), delete]

    made_whole = ActivityUpdatePublisher(StreamWriter(client))
    runs = 0
    for order in every_interleaving(actions):
        runs += 1
        ids = valkey.stream_ids(KEY)
        assert ids == IDS[: len(ids)], order
        made_whole.publish(EXECUTION_ID, LOG[4:], before(4))
        assert valkey.stream_ids(KEY) == IDS, order
        heard = announced()
        assert heard[-1] == TEXTS[4], order
        # from the deletion on it may begin again, but only there
        restarts = [text for previous, text in pairwise(heard) if text < previous]
        assert restarts in ([], [TEXTS[0]]), order
    assert runs > 50


def test_every_order_of_steps_is_tried_once() -> None:
    seen: list[str] = []

    def actions() -> list[Callable[[Steps], None]]:
        taken: list[str] = []

        def two(name: str) -> Callable[[Steps], None]:
            def act(steps: Steps) -> None:
                for _ in range(2):
                    steps.next()
                    taken.append(name)
                if len(taken) == 4:
                    seen.append("".join(taken))

            return act

        return [two("a"), two("b")]

    assert len(list(every_interleaving(actions))) == 6
    assert sorted(seen) == ["aabb", "abab", "abba", "baab", "baba", "bbaa"]
