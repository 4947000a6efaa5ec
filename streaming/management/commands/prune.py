"""manage.py prune: removes events, executions and streams that are old enough."""

import time
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import redis
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from executions import retention
from streaming.activity_update_publisher import publisher
from streaming.retention import StreamPruned, prune_streams, trim_to_log
from streaming.valkey.clients import UNREACHABLE, writing_client

REPORT_SECONDS: Final = 1.0
DROPPING_SECONDS: Final = 10.0
INTERRUPTED: Final = 130
_LONGEST: Final = 100_000


class Command(BaseCommand):
    help = """\
Removes what is kept no longer. Nothing is pruned unless one of the options asks for it.

  --events-older-than DAYS      events of any execution, but never its newest. A viewer whose
                                cursor is older gets a fresh snapshot (resync: trimmed).
  --executions-older-than DAYS  whole executions that ended longer ago, with everything that
                                is kept of them; their viewers are closed with 4404, and the
                                Temporal mirror does not take up their runs again.
  --streams-older-than HOURS    the streams in Valkey of executions that ended longer ago, and
                                older entries of the others'. The event log still serves
                                them; a stream that is asked for is filled again.

Safe beside writers and viewers: it works in short transactions with pauses between. It may
be interrupted or killed at any time, run again, and run several times at once.

It ends with one line that says what was removed. Exit codes: 0 done; 1 wrong use, or not all
could be removed (the message says why); 130 interrupted."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--events-older-than", type=_whole_number, metavar="DAYS")
        parser.add_argument("--executions-older-than", type=_whole_number, metavar="DAYS")
        parser.add_argument("--streams-older-than", type=_whole_number, metavar="HOURS")
        parser.add_argument(
            "--dry-run", action="store_true", help="remove nothing: only tell what would be"
        )

    def handle(
        self,
        *,
        events_older_than: int | None,
        executions_older_than: int | None,
        streams_older_than: int | None,
        dry_run: bool,
        **options: Any,
    ) -> None:
        if (events_older_than, executions_older_than, streams_older_than) == (None, None, None):
            raise CommandError(
                "nothing was asked for: give --events-older-than, --executions-older-than or "
                "--streams-older-than"
            )
        now = timezone.now()
        told = _Told(self.stderr.write, is_dry_run=dry_run)
        client = writing_client()
        try:
            if executions_older_than is not None:
                before = now - timedelta(days=executions_older_than)
                remove = retention.count_executions if dry_run else retention.remove_executions
                told.count_removed(remove(before))
            if events_older_than is not None:
                before = now - timedelta(days=events_older_than)
                if dry_run:
                    told.count_removed(retention.count_events(before))
                else:
                    _remove_events(before, client, told)
            if streams_older_than is not None:
                before = now - timedelta(hours=streams_older_than)
                told.count_streams(
                    prune_streams(client, int(before.timestamp() * 1000), dry_run=dry_run)
                )
        except UNREACHABLE as error:
            self.stdout.write(told.line())
            raise CommandError(
                f"streams were not pruned: Valkey cannot be reached: {error}"
            ) from error
        except KeyboardInterrupt:
            self.stdout.write(f"interrupted; {told.line()}")
            raise SystemExit(INTERRUPTED) from None
        finally:
            client.close()
        self.stdout.write(told.line())
        if not publisher().wait_until_filled(DROPPING_SECONDS):
            raise CommandError(
                "Valkey cannot be reached: streams of removed executions are left in it; "
                "--streams-older-than removes them another time"
            )


def _remove_events(before: Any, client: redis.Redis, told: "_Told") -> None:
    """Streams follow their logs, so that no stream holds what the log does not."""
    thinned: str | None = None
    for step in retention.remove_events(before):
        if thinned is not None and step.execution_id != thinned:
            trim_to_log(client, thinned)
        thinned = step.execution_id
        told.count(step)
    if thinned is not None:
        trim_to_log(client, thinned)


@dataclass
class _Told:
    """Counts, reports once a second, and says at the end what was done."""

    report: Any
    is_dry_run: bool
    began: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)
    events: int = 0
    executions: int = 0
    streams: int = 0
    trimmed_streams: int = 0
    entries: int = 0

    def count_removed(self, steps: Iterable[retention.Removed]) -> None:
        for step in steps:
            self.count(step)

    def count(self, step: retention.Removed) -> None:
        self.events += step.events
        self.executions += step.is_whole
        self._report()

    def count_streams(self, steps: Iterable[StreamPruned]) -> None:
        for step in steps:
            self.streams += step.is_whole
            self.trimmed_streams += not step.is_whole
            self.entries += step.entries
            self._report()

    def line(self) -> str:
        verb = "would remove" if self.is_dry_run else "removed"
        return (
            f"{verb} {self.executions} executions, {self.events} events, {self.streams} streams; "
            f"{'would trim' if self.is_dry_run else 'trimmed'} {self.trimmed_streams} streams"
            f"{'' if self.is_dry_run else f' by {self.entries} entries'}; "
            f"{time.monotonic() - self.began:.1f} s"
        )

    def _report(self) -> None:
        now = time.monotonic()
        if now - self.reported >= REPORT_SECONDS:
            self.reported = now
            self.report(self.line())


def _whole_number(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_LONGEST}")
