"""Looking again at connections: whom, when, how much of it, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from structlog.testing import capture_logs

from streaming.access.credentials import KEYS_PER_QUERY, Credential, CredentialKind
from streaming.access.watch import (
    CHECK_SECONDS,
    LONGEST_REST_SECONDS,
    WATCHED_PER_LOOK,
    AccessWatch,
    ByCredential,
    Watched,
)
from streaming.close_codes import CloseCode
from tests.unit.virtual_time import run, settle


def watched(name: str, execution_id: str = "e") -> Watched:
    return Watched(Credential(CredentialKind.TOKEN, name), name, execution_id)


class Someone:
    """A connection that is watched."""

    def __init__(self, done: list[object]) -> None:
        self.done = done

    def bar(self) -> None:
        self.done.append("barred")

    async def refuse(self, code: CloseCode) -> None:
        self.done.append(code)


class World:
    """What the watch asks, and what it is told."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, list[str]]] = []
        self.look_seconds = 0.0
        self.refused: dict[Watched, CloseCode] = {}
        self.fails = False
        self.tell: Callable[[Iterable[str] | None], None]
        self.watch = AccessWatch(self._check, self._hear)

    async def _check(self, by_credential: ByCredential) -> dict[Watched, CloseCode]:
        asked = [each for watched in by_credential.values() for each in watched]
        assert all(each in by_credential[each.credential] for each in asked)
        refused = {each: code for each, code in self.refused.items() if each in asked}
        self.looks.append((now(), sorted(each.user_key for each in asked)))
        await asyncio.sleep(self.look_seconds)
        if self.fails:
            raise ZeroDivisionError
        return refused

    async def _hear(self, on_notice: Callable[[Iterable[str] | None], None]) -> None:
        self.tell = on_notice
        await asyncio.Event().wait()

    def connect(self, *whom: Watched) -> list[Someone]:
        connected = [Someone([]) for _ in whom]
        for someone, each in zip(connected, whom, strict=True):
            self.watch.stand(someone, each)
        return connected


def now() -> float:
    return asyncio.get_running_loop().time()


def in_a_world(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def lived() -> None:
        world = World()
        try:
            await settle()
            await scenario(world)
        finally:
            await world.watch.close()

    run(lived())


def test_nobody_is_looked_at_where_nobody_is() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(100)
        (olga,) = world.connect(watched("olga"))
        world.watch.leave(olga)
        await asyncio.sleep(100)
        assert [when for when, _ in world.looks if when > 100] == []
        world.watch.leave(olga)

    in_a_world(scenario)


def test_each_is_looked_at_again_and_again_once_for_all_who_stand_on_the_same() -> None:
    async def scenario(world: World) -> None:
        world.connect(*[watched("olga")] * 10, watched("ivan"))
        await asyncio.sleep(CHECK_SECONDS * 2.5)
        assert world.looks == [
            (0, ["ivan", "olga"]),
            (CHECK_SECONDS, ["ivan", "olga"]),
            (CHECK_SECONDS * 2, ["ivan", "olga"]),
        ]

    in_a_world(scenario)


def test_look_that_waits_for_the_database_does_not_put_off_the_next_one() -> None:
    async def scenario(world: World) -> None:
        world.look_seconds = 3.0
        world.connect(watched("olga"))
        await asyncio.sleep(3.0 + LONGEST_REST_SECONDS + 0.1)
        assert [when for when, _ in world.looks] == [0, 3.0 + LONGEST_REST_SECONDS]

    in_a_world(scenario)


def test_who_may_not_stay_is_barred_and_closed_with_the_code_and_no_one_else() -> None:
    async def scenario(world: World) -> None:
        first, second, other = world.connect(watched("olga"), watched("olga"), watched("ivan"))
        await settle()
        world.refused = {watched("olga"): CloseCode.NOT_FOUND}
        await asyncio.sleep(CHECK_SECONDS * 1.5)
        assert first.done == second.done == ["barred", CloseCode.NOT_FOUND]
        assert other.done == []
        await asyncio.sleep(CHECK_SECONDS)
        assert world.looks[-1][1] == ["ivan"]
        assert len(first.done) == 2

    in_a_world(scenario)


def test_barring_comes_before_anything_else_may_happen() -> None:
    async def scenario(world: World) -> None:
        class Slow(Someone):
            async def refuse(self, code: CloseCode) -> None:
                await asyncio.sleep(1_000)

        stalled: list[object] = []
        others: list[object] = []
        world.watch.stand(Slow(stalled), watched("olga"))
        world.watch.stand(Someone(others), watched("olga"))
        world.refused = {watched("olga"): CloseCode.NOT_AUTHENTICATED}
        await settle()
        assert stalled == ["barred"]
        assert others == ["barred", CloseCode.NOT_AUTHENTICATED]
        world.watch.stand(Someone(others), watched("ivan"))
        await asyncio.sleep(CHECK_SECONDS)
        assert world.looks[-1][1] == ["ivan"]

    in_a_world(scenario)


@pytest.mark.parametrize(("told", "looked_at"), [(["olga"], ["olga"]), (None, ["ivan", "olga"])])
def test_notice_has_those_concerned_looked_at_at_once(
    told: list[str] | None, looked_at: list[str]
) -> None:
    async def scenario(world: World) -> None:
        world.connect(watched("olga"), watched("ivan"))
        await asyncio.sleep(CHECK_SECONDS / 2)
        world.tell(told)
        await settle()
        assert world.looks[1:] == [(CHECK_SECONDS / 2, looked_at)]

    in_a_world(scenario)


def test_notices_that_come_during_a_look_lead_to_one_more_that_reads_anew() -> None:
    async def scenario(world: World) -> None:
        (olga,) = world.connect(watched("olga"))
        await settle()
        world.look_seconds = 0.1
        world.tell(["olga"])
        await settle()
        world.refused = {watched("olga"): CloseCode.NOT_FOUND}
        for _ in range(50):
            world.tell(["olga"])
        await asyncio.sleep(0.15)
        assert olga.done == []
        await asyncio.sleep(0.2)
        assert olga.done == ["barred", CloseCode.NOT_FOUND]
        assert len(world.looks) == 3

    in_a_world(scenario)


def test_looking_takes_a_fifth_of_the_time_and_half_of_it_at_most_when_urgent() -> None:
    async def scenario(world: World) -> None:
        world.look_seconds = 0.2
        everyone = [watched(str(number)) for number in range(KEYS_PER_QUERY * 4)]
        world.connect(*everyone)
        await asyncio.sleep(200)
        assert 38 <= len(world.looks) * world.look_seconds <= 42
        assert {len(users) for _, users in world.looks} == {KEYS_PER_QUERY}
        seen = [user for _, users in world.looks[:4] for user in users]
        assert sorted(seen) == sorted(each.user_key for each in everyone)
        world.looks.clear()
        world.tell(None)
        await asyncio.sleep(1.58)
        # four at once, and one or two that were due in turn
        assert 5 <= len(world.looks) <= 6

    in_a_world(scenario)


def test_what_stands_on_one_credential_is_looked_at_together() -> None:
    async def scenario(world: World) -> None:
        names = [str(number) for number in range(12)]
        world.connect(*(watched(name, f"e{n}") for n in range(WATCHED_PER_LOOK) for name in names))
        await asyncio.sleep(CHECK_SECONDS * 1.9)
        assert {len(set(users)) for _, users in world.looks} == {1}
        assert {user for _, users in world.looks for user in users} == set(names)

    in_a_world(scenario)


def test_failed_look_ends_nobody_and_is_not_the_last() -> None:
    async def scenario(world: World) -> None:
        (olga,) = world.connect(watched("olga"))
        world.refused = {watched("olga"): CloseCode.NOT_FOUND}
        world.fails = True
        with capture_logs() as logs:
            await asyncio.sleep(CHECK_SECONDS * 1.5)
            world.tell(None)
            await settle()
        assert {entry["event"] for entry in logs} == {"access_unknown"}
        assert olga.done == []
        world.fails = False
        await asyncio.sleep(CHECK_SECONDS)
        assert olga.done == ["barred", CloseCode.NOT_FOUND]

    in_a_world(scenario)


def test_who_comes_while_others_are_looked_at_is_not_forgotten() -> None:
    async def scenario(world: World) -> None:
        world.look_seconds = 0.1
        (first,) = world.connect(watched("olga"))
        world.refused = {watched("olga"): CloseCode.NOT_AUTHENTICATED}
        await asyncio.sleep(0.05)
        (second,) = world.connect(watched("olga"))
        world.watch.leave(first)
        await asyncio.sleep(0.1)
        assert second.done == ["barred", CloseCode.NOT_AUTHENTICATED]
        assert first.done == []

    in_a_world(scenario)


def test_connection_that_cannot_be_closed_is_told_of_in_the_log() -> None:
    async def scenario(world: World) -> None:
        class Broken(Someone):
            async def refuse(self, code: CloseCode) -> None:
                raise ZeroDivisionError

        world.watch.stand(Broken([]), watched("olga"))
        world.refused = {watched("olga"): CloseCode.NOT_FOUND}
        with capture_logs() as logs:
            await settle()
        assert [entry["event"] for entry in logs] == ["ending_failed"]

    in_a_world(scenario)
