"""Run the web server for development: Daphne with back-pressure, restarted when code changes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from daphne.management.commands.runserver import Command as DaphneRunserver
from django.conf import settings
from django.core.management.base import CommandError

from nexus_project.daphne_server import Server
from nexus_project.embedded.valkey import unreachable_because
from nexus_project.exposure import UnsafeExposureError, refuse_unsafe_exposure, tcp_endpoint
from nexus_project.logs import without_credentials
from nexus_project.web.websocket_protocol import CLIENT_MESSAGE_BYTES


class Command(DaphneRunserver):  # type: ignore[misc]
    help = (
        "Runs the web server for development: HTTP and WebSockets, restarted when code changes, "
        "against the servers that are configured (or those of `manage.py services` or "
        "`manage.py up` with the same NEXUS_DATA_DIR). Without Valkey it still runs: streams "
        "are then served from the database, more slowly."
    )
    server_cls = Server

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(
            websocket_max_message_size=CLIENT_MESSAGE_BYTES,
            websocket_max_frame_size=CLIENT_MESSAGE_BYTES,
        )

    def run(self, **options: Any) -> None:
        try:
            refuse_unsafe_exposure([tcp_endpoint(self.addr, int(self.port))])
        except UnsafeExposureError as error:
            raise CommandError(str(error)) from error
        super().run(**options)

    def inner_run(self, *args: Any, **options: Any) -> None:
        if problem := unreachable_because(settings.VALKEY_URL):
            self.stderr.write(
                self.style.WARNING(
                    f"Valkey does not answer at {without_credentials(settings.VALKEY_URL)} "
                    f"({problem}). Start one with "
                    "`manage.py services`, or set VALKEY_URL to where yours listens. Until then, "
                    "streams are served from the database, more slowly."
                )
            )
        super().inner_run(*args, **options)
