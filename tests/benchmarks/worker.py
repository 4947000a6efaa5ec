"""A worker for the benchmarks' workflows, run as a process: `python -m tests.benchmarks.worker`.

Prints `ready` once it works. With --metrics-port it serves what it calls of Temporal (the
SDK's own counters) and what it writes to the database, as Prometheus' text.
"""

import argparse
import asyncio
import logging
import os
from typing import Any

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.worker import Worker

from tests.benchmarks.load import ACTIVITIES, WORKFLOWS

WRITES = "database_writes"
TRANSACTIONS = "database_transactions"


def count_database_work(meter: MetricMeter) -> None:
    """Count writing statements, and transactions that wrote or may have, from here on."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.signals import connection_created

    writes, transactions = meter.create_counter(WRITES), meter.create_counter(TRANSACTIONS)
    commit = BaseDatabaseWrapper.commit

    def counted_commit(self: BaseDatabaseWrapper) -> None:
        commit(self)
        transactions.add(1)

    def counted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            writes.add(1)
            if not context["connection"].in_atomic_block:
                transactions.add(1)
        return execute(sql, params, many, context)

    def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if counted not in connection.execute_wrappers:
            connection.execute_wrappers.append(counted)

    BaseDatabaseWrapper.commit = counted_commit  # type: ignore[method-assign]
    connection_created.connect(watch, weak=False)


def runtime_with(metrics_port: int | None) -> Runtime:
    """The SDK's runtime; its log lines go where the process' others go."""
    metrics = PrometheusConfig(bind_address=f"127.0.0.1:{metrics_port}") if metrics_port else None
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                TelemetryFilter(core_level="WARN", other_level="ERROR"),
                forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio.core")),
            ),
            metrics=metrics,
        )
    )


def plugins_for(plugin: str) -> list[Any]:
    if plugin == "none":
        return []
    # A worker without Nexus is to be one that has not even imported it.
    from executions.temporal.plugin import NexusPlugin

    return [NexusPlugin(whole_namespace=plugin == "namespace")]


async def work(arguments: argparse.Namespace) -> None:
    runtime = runtime_with(arguments.metrics_port)
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], runtime=runtime)
    worker = Worker(
        client,
        task_queue=arguments.task_queue,
        workflows=WORKFLOWS,
        activities=ACTIVITIES,
        plugins=plugins_for(arguments.plugin),
        max_concurrent_activities=arguments.activities_at_once,
        max_cached_workflows=max(1_000, arguments.activities_at_once),
    )
    if arguments.metrics_port:
        count_database_work(runtime.metric_meter)
    async with worker:
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--plugin", choices=["none", "queue", "namespace"], default="none")
    parser.add_argument("--activities-at-once", type=int, default=100)
    parser.add_argument("--metrics-port", type=int)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
