"""The plugin with which a Temporal worker adopts Nexus.

    Worker(client, task_queue=…, workflows=…, activities=…, plugins=[NexusPlugin()])

Importing this needs neither Django's settings nor a database.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from temporalio.plugin import SimplePlugin
from temporalio.worker import Interceptor, ReplayerConfig, Worker, WorkerConfig

from executions.temporal.history.plan import planned_activities
from executions.temporal.live.hints import HintQueue
from executions.temporal.live.interceptors import NexusInterceptor

DEFAULT_SETTINGS: Final = "nexus_project.settings"


class NexusNotInstalledError(RuntimeError):
    """The worker's Django project does not have Nexus among its apps."""


class NexusPlugin(SimplePlugin):
    """Mirrors what a worker runs into Nexus, for as long as the worker runs.

    It may be given to a worker, to a client (then all its workers have it), or to both.
    Mirrored are the runs of the worker's task queue; with `whole_namespace`, all runs of
    the client's namespace, by workers in any language. `workflow_definitions` (workflow
    type: definition, see `executions.temporal.history.plan`) say what runs of these types plan to
    do; a malformed one raises MalformedPlanError. Inputs, outputs and heartbeats' details
    are kept as the client's data converter decodes them, unless `keep_payloads` is False.

    Nothing of it fails or delays a workflow: while Nexus' database is away the worker
    works on, and what was missed is read from Temporal later. Only a wrong set-up is an
    error, when the worker is made: Django is set up then, unless it has been, with the
    settings of DJANGO_SETTINGS_MODULE, by itself `nexus_project.settings`.
    """

    def __init__(
        self,
        *,
        whole_namespace: bool = False,
        workflow_definitions: Mapping[str, Any] | None = None,
        keep_payloads: bool = True,
    ) -> None:
        super().__init__("nexus.NexusPlugin")
        for definition in (workflow_definitions or {}).values():
            planned_activities(definition)
        self._whole_namespace = whole_namespace
        self._workflow_definitions = workflow_definitions
        self._keep_payloads = keep_payloads

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        # Here, not when the worker runs: an error then would leave `async with worker` waiting.
        _set_up_django()
        config = super().configure_worker(config)
        identity = config.get("identity") or config["client"].identity
        ours = NexusInterceptor(HintQueue(), identity, keep_payloads=self._keep_payloads)
        config["interceptors"] = _with_ours(config.get("interceptors", ()), ours)
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        config = super().configure_replayer(config)
        ours = NexusInterceptor(HintQueue())
        config["interceptors"] = _with_ours(config.get("interceptors", ()), ours)
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        interceptor = _ours(worker.config(active_config=True).get("interceptors", ()))
        if interceptor is None or not interceptor.claim():
            await next(worker)
            return
        from executions.temporal.activity_sync_service import ActivitySyncService

        task_queue = None if self._whole_namespace else worker.task_queue
        service = ActivitySyncService(
            worker.client,
            interceptor.hints,
            task_queue=task_queue,
            workflow_definitions=self._workflow_definitions,
            keep_payloads=self._keep_payloads,
        )
        async with service:
            await next(worker)


def _ours(interceptors: Sequence[Interceptor]) -> NexusInterceptor | None:
    return next((item for item in interceptors if isinstance(item, NexusInterceptor)), None)


def _with_ours(
    interceptors: Sequence[Interceptor], ours: NexusInterceptor
) -> Sequence[Interceptor]:
    """The interceptors with one of Nexus: a plugin may come from the client and the worker."""
    return interceptors if _ours(interceptors) is not None else [*interceptors, ours]


def _set_up_django() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", DEFAULT_SETTINGS)
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()
    missing = [
        name for name in ("executions", "executions.temporal") if not apps.is_installed(name)
    ]
    if missing:
        raise NexusNotInstalledError(
            f"INSTALLED_APPS of this Django project lacks {', '.join(missing)}: add "
            "'executions', 'streaming' and 'executions.temporal', and run its migrations"
        )
