"""Run only the embedded servers, in the foreground."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from nexus_project.embedded.lock import AlreadyRunningError
from nexus_project.embedded.missing import MissingServerError
from nexus_project.embedded.processes import ChildEndedError, ChildNotReadyError
from nexus_project.embedded.servers import exports, start_servers, wanted
from nexus_project.embedded.stopping import stop_when_parent_exits
from nexus_project.embedded.supervisor import supervising
from nexus_project.embedded.valkey import UnsafeSocketDirectoryError
from nexus_project.management.telling import Teller, add_parent_option

FAILURES = (
    AlreadyRunningError,
    ChildEndedError,
    ChildNotReadyError,
    MissingServerError,
    UnsafeSocketDirectoryError,
)


class Command(BaseCommand):
    help = """\
Runs the embedded Valkey and Temporal dev server in the foreground, for those who run the
rest by hand: manage.py runserver, manage.py temporal_worker, tests, their own worker. A
server that VALKEY_URL or TEMPORAL_ADDRESS names is not embedded.

When they answer, their addresses are printed on standard output as lines that a shell
understands; everything else goes to standard error. Commands with the same NEXUS_DATA_DIR
find the servers without them.

Ctrl-C or SIGTERM stops them; they end with this process, however it ends. Their data stay
in NEXUS_DATA_DIR (var/)."""

    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        add_parent_option(parser)

    def handle(self, *, until_parent_exits: int | None, **options: Any) -> None:
        tell, say = Teller(self.stdout), Teller(self.stderr)
        if until_parent_exits is not None:
            stop_when_parent_exits(until_parent_exits)
        servers = wanted(settings.TEMPORAL_NAMESPACE)
        if not (servers.valkey or servers.temporal):
            raise CommandError(
                "VALKEY_URL and TEMPORAL_ADDRESS both name servers of yours: there is nothing "
                "to run. Unset the one whose embedded server you want."
            )
        try:
            with supervising(settings.NEXUS_DATA_DIR, "manage.py services", say) as supervisor:
                for line in exports(start_servers(supervisor, servers)):
                    tell(line)
                say("The servers are ready. Press Ctrl-C to stop them.")
                supervisor.watch()
        except FAILURES as failure:
            raise CommandError(str(failure)) from failure
