"""An event loop whose clock jumps to the next timer: hours pass in no time, in one order."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StandstillError(AssertionError):
    """Everything waits, and no timer would ever end it."""


class _NothingReal(selectors.SelectSelector):
    """Instead of waiting for a timer, has its time come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise StandstillError("everything waits for something that never comes")
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Begins at second 0."""

    def __init__(self) -> None:
        self._nothing_real = _NothingReal()
        super().__init__(self._nothing_real)

    def time(self) -> float:
        return self._nothing_real.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to its end in virtual time; nothing that it started may be left behind."""

    async def and_look_for_leftovers() -> T:
        try:
            return await main
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"left behind: {left}"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(and_look_for_leftovers())


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    for _ in range(50):
        await asyncio.sleep(0)
