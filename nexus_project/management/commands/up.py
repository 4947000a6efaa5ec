"""Run all of Nexus on this machine, in the foreground."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from executions.tokens import TooManyTokensError
from nexus_project.embedded.asking import PortInUseError, require_free_port
from nexus_project.embedded.lock import AlreadyRunningError
from nexus_project.embedded.missing import MissingServerError
from nexus_project.embedded.places import Places
from nexus_project.embedded.processes import ChildEndedError, ChildNotReadyError
from nexus_project.embedded.product import (
    DatabaseUnusableError,
    NotReadyError,
    reading_is_open,
    start_product,
)
from nexus_project.embedded.stopping import stop_when_parent_exits
from nexus_project.embedded.supervisor import supervising
from nexus_project.embedded.valkey import UnsafeSocketDirectoryError
from nexus_project.embedded.welcome import welcome
from nexus_project.exposure import UnsafeExposureError, refuse_unsafe_exposure, tcp_endpoint
from nexus_project.management.telling import Teller, add_parent_option

FAILURES = (
    AlreadyRunningError,
    ChildEndedError,
    ChildNotReadyError,
    DatabaseUnusableError,
    MissingServerError,
    NotReadyError,
    PortInUseError,
    TooManyTokensError,
    UnsafeExposureError,
    UnsafeSocketDirectoryError,
)


class Command(BaseCommand):
    help = """\
Runs all of Nexus on this machine, in the foreground: an embedded Valkey and Temporal dev
server (unless VALKEY_URL or TEMPORAL_ADDRESS name servers of yours), the database's
migrations, a demo user for the admin, a Temporal worker, the web server, and one example
workflow. When all of it answers, it says `Nexus is ready at ...` and where to look.

Ctrl-C or SIGTERM stops everything in order, again a moment later stops it at once. No
process outlives this one, however it ends. Data stay in NEXUS_DATA_DIR (var/), logs in
NEXUS_DATA_DIR/logs. NEXUS_PORT and NEXUS_DATA_DIR allow several side by side.

Bound to a loopback address, reading executions is open to everyone on this machine, unless
NEXUS_OPEN_READING=0; with any other NEXUS_HOST it needs a login."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--no-example", action="store_true", help="start no example workflow")
        add_parent_option(parser)

    def handle(self, *, no_example: bool, until_parent_exits: int | None, **options: Any) -> None:
        say = Teller(self.stdout)
        data_dir = settings.NEXUS_DATA_DIR
        places = Places(settings.NEXUS_HOST, settings.NEXUS_PORT)
        if until_parent_exits is not None:
            stop_when_parent_exits(until_parent_exits)
        try:
            with supervising(data_dir, "manage.py up", say) as supervisor:
                refuse_unsafe_exposure(
                    [tcp_endpoint(places.host, places.port)],
                    open_reading=reading_is_open(places.host),
                )
                require_free_port(places)
                say(f"Starting Nexus in {data_dir}")
                product = start_product(supervisor, places, with_example=not no_example)
                for line in welcome(product, settings.BASE_DIR, supervisor.logs_dir):
                    say(line)
                supervisor.watch()
        except FAILURES as failure:
            raise CommandError(str(failure)) from failure
        say("Nexus has stopped.")
