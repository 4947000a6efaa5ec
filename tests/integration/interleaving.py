"""Running threads in every order of their steps, one step at a time.

A thread says `steps.next()` before each step that others could see. Between two of those
it runs alone, so the order of steps is the order of everything.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

DEADLINE_SECONDS: Final = 10.0


class Steps:
    """One thread's permission to take its next step."""

    def __init__(self, action: Callable[["Steps"], None]) -> None:
        self._granted = threading.Semaphore(0)
        self._waiting = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._run, args=(action,), daemon=True)

    def next(self) -> None:
        """Wait for this thread's turn."""
        self._waiting.release()
        assert self._granted.acquire(timeout=DEADLINE_SECONDS)

    def begin(self) -> None:
        """Let it run up to its first step."""
        self._thread.start()
        self._settle()

    def take_one(self) -> None:
        """Let it take the step that it waits for, and run up to the next."""
        self._granted.release()
        self._settle()

    def _settle(self) -> None:
        assert self._waiting.acquire(timeout=DEADLINE_SECONDS)
        if self.ended:
            self._thread.join(DEADLINE_SECONDS)
            if self._failure is not None:
                raise self._failure

    def _run(self, action: Callable[["Steps"], None]) -> None:
        try:
            action(self)
        except BaseException as failure:
            self._failure = failure
        finally:
            self.ended = True
            self._waiting.release()


def every_interleaving(
    make_actions: Callable[[], Sequence[Callable[[Steps], None]]],
) -> Iterator[str]:
    """Run all the actions to their ends, in every order of their steps.

    Yields after each run its order, as the positions of the threads that took the steps.
    `make_actions` is called before each run.
    """
    path: list[int] = []
    while True:
        threads = [Steps(action) for action in make_actions()]
        for thread in threads:
            thread.begin()
        taken: list[int] = []
        choices: list[int] = []
        while running := [index for index, thread in enumerate(threads) if not thread.ended]:
            choice = path[len(taken)] if len(taken) < len(path) else 0
            choices.append(len(running))
            taken.append(choice)
            threads[running[choice]].take_one()
        yield "".join(map(str, taken))
        while taken and taken[-1] + 1 == choices[len(taken) - 1]:
            taken.pop()
        if not taken:
            return
        path = [*taken[:-1], taken[-1] + 1]
