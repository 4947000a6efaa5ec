"""Run a Temporal worker with the example workflows, mirrored by the ActivitySyncService."""

import asyncio
import signal
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from temporalio.worker import Worker

from executions.temporal.connecting import TemporalUnreachableError, connect, run_to_the_end
from executions.temporal.examples.activities import ALL_ACTIVITIES
from executions.temporal.examples.workflows import ALL_WORKFLOWS
from executions.temporal.plugin import NexusPlugin
from executions.temporal.worker_health import HealthNotServedError, serve_worker_health

GRACE: Final = timedelta(seconds=3)
"""How long running activities may go on after the worker was told to stop."""

READY_CHECK_SECONDS: Final = 0.02


class Command(BaseCommand):
    help = (
        "Runs a Temporal worker with the example workflows and the ActivitySyncService, in the "
        "foreground, until Ctrl-C or SIGTERM."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--task-queue",
            default=settings.NEXUS_TASK_QUEUE,
            help="the task queue to work on (default: NEXUS_TASK_QUEUE, now %(default)s)",
        )
        parser.add_argument(
            "--whole-namespace",
            action="store_true",
            help="mirror all runs of the namespace, not only those of the task queue",
        )
        parser.add_argument(
            "--wait-seconds",
            type=float,
            default=30.0,
            help="how long to wait for Temporal to answer (default: %(default)g)",
        )
        parser.add_argument(
            "--metrics-port",
            type=int,
            metavar="PORT",
            help="serve Prometheus metrics, /health/live and /health/ready on this port, "
            "without a login (default: not at all)",
        )
        parser.add_argument(
            "--metrics-host",
            default="127.0.0.1",
            metavar="ADDRESS",
            help="the address to serve them on (default: %(default)s)",
        )

    def handle(
        self,
        *,
        task_queue: str,
        whole_namespace: bool,
        wait_seconds: float,
        metrics_port: int | None,
        metrics_host: str,
        **options: Any,
    ) -> None:
        plugin = NexusPlugin(whole_namespace=whole_namespace)
        served = None if metrics_port is None else (metrics_host, metrics_port)
        try:
            run_to_the_end(self._work(task_queue, plugin, wait_seconds, served))
        except HealthNotServedError as error:
            raise CommandError(str(error)) from error
        except TemporalUnreachableError as error:
            raise CommandError(str(error)) from error
        except RuntimeError as error:
            # The SDK's name for whatever ends a worker, as a namespace that is not there.
            raise CommandError(f"the worker has ended: {error}") from error

    async def _work(
        self,
        task_queue: str,
        plugin: NexusPlugin,
        wait_seconds: float,
        served: tuple[str, int] | None,
    ) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        if served is not None:
            serve_worker_health(*served, loop)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait())
        address, namespace = settings.TEMPORAL_ADDRESS, settings.TEMPORAL_NAMESPACE
        connecting = asyncio.create_task(connect(address, namespace, wait_seconds))
        await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return
        worker = Worker(
            connecting.result(),
            task_queue=task_queue,
            workflows=ALL_WORKFLOWS,
            activities=ALL_ACTIVITIES,
            plugins=[plugin],
            graceful_shutdown_timeout=GRACE,
        )
        running = asyncio.create_task(worker.run())
        while not (worker.is_running or running.done()):  # noqa: ASYNC110 - the SDK tells no other way
            await asyncio.sleep(READY_CHECK_SECONDS)
        if worker.is_running:
            self.stdout.write(
                f"Temporal worker is ready on task queue {task_queue} "
                f"(namespace {namespace} at {address})"
            )
            self.stdout.flush()
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await worker.shutdown()
        await running
