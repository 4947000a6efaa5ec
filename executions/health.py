"""Whether a process can do its work: checks for probes, each answered in bounded time.

What a check tells is for anyone who can reach a probe: no address, no secret.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NamedTuple

import structlog
from django.db import connection

from executions.models import Execution
from executions.signals import health_asked

ANSWER_SECONDS: Final = 2.0
"""How long the database may take to answer before it counts as away."""

log = structlog.get_logger(__name__)


class Check(NamedTuple):
    """One thing that a process needs, whether it is there, and a sentence about it."""

    name: str
    ok: bool
    told: str


def asked_of_receivers() -> list[Check]:
    """The checks of whoever listens to `health_asked`; one that raises does not hold."""
    return [
        Check("health", False, f"A check raises {type(answer).__name__}.")
        if isinstance(answer, Exception)
        else answer
        for _, answer in health_asked.send_robust(sender=Check)
    ]


class Readiness:
    """What a process says of its checks, and the log lines when that changes."""

    def __init__(self) -> None:
        self._failing: list[str] | None = None

    def answer(self, checks: Sequence[Check]) -> tuple[int, dict[str, Any]]:
        """The HTTP status (200 if all checks hold, else 503) and the JSON body."""
        failing = [check.name for check in checks if not check.ok]
        if failing and failing != self._failing:
            log.warning("not_ready", failing=failing)
        elif not failing and self._failing != []:
            log.info("ready")
        self._failing = failing
        shown = [check._asdict() for check in checks]
        return 503 if failing else 200, {"ready": not failing, "checks": shown}


class Question(NamedTuple):
    """A question to the database: its answer to come, and when to wait for it no longer."""

    answer: "Future[Check]"
    late_at: float
    """In seconds of `time.monotonic()`."""


class DatabaseCheck:
    """Asks the database in a thread of its own, one question at a time however many ask.

    So a probe waits for no other thread, and a database that hangs holds one thread.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._question: Question | None = None

    def ask(self) -> Question:
        """The question under way, else another."""
        with self._lock:
            if self._question is None or self._question.answer.done():
                answer: Future[Check] = Future()
                self._question = Question(answer, time.monotonic() + ANSWER_SECONDS)
                # A daemon, so that a database that hangs keeps no process from ending.
                threading.Thread(
                    target=_answer, args=(answer,), name="nexus-database-check", daemon=True
                ).start()
            return self._question

    def wait(self) -> Check:
        """The answer, or that it is late: for threads."""
        question = self.ask()
        try:
            return question.answer.result(max(0.0, question.late_at - time.monotonic()))
        except TimeoutError:
            return LATE


LATE: Final = Check(
    "database", False, f"The database has not answered within {ANSWER_SECONDS:g} seconds."
)


def _answer(answer: "Future[Check]") -> None:
    try:
        # A table of ours: a connection alone says nothing of a database not yet migrated.
        Execution.objects.exists()
        check = Check("database", True, "The database answers.")
    except Exception as error:
        log.warning("database_check_failed", error=str(error))
        check = Check("database", False, f"The database fails ({type(error).__name__}).")
    finally:
        with suppress(Exception):
            connection.close()
    answer.set_result(check)
