"""Start an example workflow on Temporal and print its execution_id."""

import asyncio
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import fields
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from executions.models import Execution
from executions.statuses import ExecutionStatus
from executions.temporal.connecting import TemporalUnreachableError, connect, run_to_the_end
from executions.temporal.examples.catalogue import DEFAULT_EXAMPLE, EXAMPLES, Example

LOOK_SECONDS: Final = 0.2


class Command(BaseCommand):
    help = (
        "Starts an example workflow on Temporal and prints its execution_id, alone, on standard "
        "output. A worker (manage.py temporal_worker) runs it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "examples:\n" + "\n".join(map(_described, EXAMPLES.values()))
        parser.add_argument(
            "name",
            nargs="?",
            default=DEFAULT_EXAMPLE,
            choices=EXAMPLES,
            help="which example (default: %(default)s)",
        )
        for option, (kind, names) in _all_options().items():
            parser.add_argument(
                _flag(option), type=kind, dest=option, help=f"an option of {', '.join(names)}"
            )
        parser.add_argument(
            "--cancel-after",
            type=float,
            metavar="SECONDS",
            help="ask Temporal to cancel the run after this time",
        )
        parser.add_argument(
            "--wait",
            action="store_true",
            help="end when the execution has ended, as the database shows it",
        )
        parser.add_argument(
            "--wait-seconds",
            type=float,
            default=30.0,
            help="how long to wait for Temporal to answer (default: %(default)g)",
        )

    def handle(
        self,
        *,
        name: str,
        cancel_after: float | None,
        wait: bool,
        wait_seconds: float,
        **given: Any,
    ) -> None:
        example = EXAMPLES[name]
        options = _chosen_options(example, given)
        try:
            execution_id = run_to_the_end(self._start(example, options, cancel_after, wait_seconds))
        except TemporalUnreachableError as error:
            raise CommandError(str(error)) from error
        except RPCError as error:
            raise CommandError(f"Temporal refused: {error.message}") from error
        if wait:
            self._wait_until_ended(execution_id)

    async def _start(
        self, example: Example, options: Any, cancel_after: float | None, wait_seconds: float
    ) -> str:
        client = await connect(settings.TEMPORAL_ADDRESS, settings.TEMPORAL_NAMESPACE, wait_seconds)
        started: WorkflowHandle[Any, Any] = await client.start_workflow(
            example.workflow.__name__,
            options,
            id=f"example-{example.name}-{uuid4().hex[:12]}",
            task_queue=settings.NEXUS_TASK_QUEUE,
        )
        run_id = started.first_execution_run_id
        if run_id is None:
            raise CommandError("Temporal started the workflow without telling its run id")
        self.stdout.write(run_id)
        self.stdout.flush()
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            await client.get_workflow_handle(started.id, run_id=run_id).cancel()
        return run_id

    def _wait_until_ended(self, execution_id: str) -> None:
        while True:
            status = (
                Execution.objects.filter(pk=execution_id).values_list("status", flat=True).first()
            )
            if status is not None and ExecutionStatus(status).is_final:
                self.stderr.write(f"execution {execution_id} is {status}")
                return
            time.sleep(LOOK_SECONDS)


def _all_options() -> dict[str, tuple[type[Any], list[str]]]:
    """Every example's options by name: their type, and the examples that have them."""
    found: dict[str, tuple[type[Any], list[str]]] = {}
    for example in EXAMPLES.values():
        for option in fields(example.options):
            found.setdefault(option.name, (type(option.default), []))[1].append(example.name)
    return found


def _chosen_options(example: Example, given: dict[str, Any]) -> Any:
    accepted = {option.name for option in fields(example.options)}
    chosen = {name: given[name] for name in _all_options() if given[name] is not None}
    if refused := chosen.keys() - accepted:
        raise CommandError(
            f"the example {example.name} has no {', '.join(map(_flag, sorted(refused)))}: "
            f"it takes {', '.join(map(_flag, sorted(accepted)))}"
        )
    return example.options(**chosen)


def _described(example: Example) -> str:
    options = " ".join(
        f"{_flag(option.name)} {option.default}" for option in fields(example.options)
    )
    return f"  {example.name:<12} {example.summary}\n  {'':<12} {options}"


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
