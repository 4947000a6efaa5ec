"""manage.py verify: holds streams against event logs, and event logs against documents."""

import time
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import redis
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from executions.event_log import all_executions, heads_changed_since, read_heads
from executions.identifiers import EXECUTION_ID_FORM, is_execution_id
from streaming.retention import streams
from streaming.valkey.clients import UNREACHABLE, writing_client
from streaming.verifier import Compared, Outcome, Verifier

REPORT_SECONDS: Final = 1.0
DIFFERENT: Final = 1
NOT_COMPARED: Final = 2
INTERRUPTED: Final = 130
STREAMS_PER_STEP: Final = 200
_LONGEST: Final = 1_000_000


class Command(BaseCommand):
    help = """\
Compares, execution by execution, the stream in Valkey with the event log (each entry's id
and text, in order; a stream may begin later than its log, or not be there), and the fold of
the event log with the document that the rows show, and with the final snapshot.

Without arguments all executions are compared, and streams of no execution are looked for.

With --repair a stream that differs is filled anew from the event log. The database is never
changed: a document that differs from its log is reported, for people to look at.

A log whose beginning was pruned has no snapshot to fold from, unless the execution has
ended: it is counted as not provable, and is no difference.

Safe beside writers and viewers: what differs only because something happened between two
readings is read again, and is no difference.

Prints a line for each difference, and one at the end. Exit codes: 0 everything is the same,
or was repaired; 1 something differs; 2 not everything could be compared (the database or
Valkey is away, or wrong use); 130 interrupted."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument(
            "execution_ids", nargs="*", type=_execution_id, metavar="EXECUTION_ID",
            help="default: all",
        )  # fmt: skip
        parser.add_argument(
            "--changed-within", type=_whole_number, metavar="HOURS",
            help="only executions with an event of the last so many hours",
        )  # fmt: skip
        parser.add_argument("--repair", action="store_true", help="fill streams that differ anew")

    def handle(
        self,
        *,
        execution_ids: Sequence[str],
        changed_within: int | None,
        repair: bool,
        **options: Any,
    ) -> None:
        if execution_ids and changed_within is not None:
            raise CommandError("name executions, or give --changed-within", returncode=NOT_COMPARED)
        client = writing_client()
        work = _Work(Verifier(client), self.stdout.write, self.stderr.write, repair=repair)
        try:
            if execution_ids:
                _refuse_unknown(execution_ids)
                work.compare(iter(execution_ids))
            elif changed_within is not None:
                since = time.time_ns() // 1_000_000 - changed_within * 3_600_000
                work.compare(execution_id for execution_id, _ in heads_changed_since(since))
            else:
                work.compare(all_executions())
                work.compare_streams(_streams_of_nothing(client))
        except (*UNREACHABLE, DatabaseError) as error:
            self.stdout.write(work.line())
            raise CommandError(
                f"not everything could be compared: {error}", returncode=NOT_COMPARED
            ) from error
        except KeyboardInterrupt:
            self.stdout.write(f"interrupted; {work.line()}")
            raise SystemExit(INTERRUPTED) from None
        finally:
            client.close()
        self.stdout.write(work.line())
        if work.differs:
            raise SystemExit(DIFFERENT)


class _Work:
    """Compares, repairs, counts, and reports once a second."""

    def __init__(self, verifier: Verifier, say: Any, report: Any, *, repair: bool) -> None:
        self._verifier = verifier
        self._say = say
        self._report = report
        self._repair = repair
        self._began = self._reported = time.monotonic()
        self._executions = 0
        self._repaired = 0
        self._logs: Counter[Outcome] = Counter()
        self._streams: Counter[Outcome] = Counter()

    @property
    def differs(self) -> bool:
        return bool(self._logs[Outcome.DIFFERENT] or self._streams[Outcome.DIFFERENT])

    def compare(self, execution_ids: Iterator[str]) -> None:
        for execution_id in execution_ids:
            self._executions += 1
            compared = self._verifier.compare_log(execution_id)
            self._logs[compared.outcome] += 1
            self._tell(execution_id, "document", compared)
            self._compare_stream(execution_id)

    def compare_streams(self, execution_ids: Iterator[str]) -> None:
        for execution_id in execution_ids:
            self._compare_stream(execution_id)

    def line(self) -> str:
        logs, streams = self._logs, self._streams
        return (
            f"{self._executions} executions: documents: {logs[Outcome.SAME]} proven, "
            f"{logs[Outcome.DIFFERENT]} differ, {logs[Outcome.NOTHING_TO_COMPARE]} not provable; "
            f"streams: {streams[Outcome.SAME]} the same, {streams[Outcome.DIFFERENT]} differ, "
            f"{streams[Outcome.NOTHING_TO_COMPARE]} not there; {self._repaired} repaired; "
            f"{time.monotonic() - self._began:.1f} s"
        )

    def _compare_stream(self, execution_id: str) -> None:
        compared = self._verifier.compare_stream(execution_id)
        self._tell(execution_id, "stream", compared)
        if compared.outcome is Outcome.DIFFERENT and self._repair:
            compared = self._verifier.rebuild(execution_id)
            self._repaired += compared.outcome is not Outcome.DIFFERENT
            self._tell(execution_id, "stream, filled anew", compared)
        self._streams[compared.outcome] += 1
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._report(self.line())

    def _tell(self, execution_id: str, what: str, compared: Compared) -> None:
        if compared.outcome is Outcome.DIFFERENT:
            self._say(f"{execution_id}  {what}: {compared.difference}")


def _streams_of_nothing(client: redis.Redis) -> Iterator[str]:
    names = streams(client)
    while some := list(islice(names, STREAMS_PER_STEP)):
        known = read_heads(some)
        yield from (execution_id for execution_id in some if execution_id not in known)


def _refuse_unknown(execution_ids: Sequence[str]) -> None:
    known = read_heads(execution_ids)
    for execution_id in execution_ids:
        if execution_id not in known:
            raise CommandError(f"there is no execution {execution_id}", returncode=NOT_COMPARED)


def _execution_id(text: str) -> str:
    if is_execution_id(text):
        return text
    raise ArgumentTypeError(f"{text!r} is not an execution id: it has the form {EXECUTION_ID_FORM}")


def _whole_number(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_LONGEST}")
