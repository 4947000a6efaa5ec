"""The whole product on one machine, in the order in which it starts: what `manage.py up` runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import Error as DatabaseFailure
from django.db import connections

from nexus_project.embedded import valkey
from nexus_project.embedded.addresses import Addresses
from nexus_project.embedded.asking import Answer, ask
from nexus_project.embedded.demo import DemoLogin, demo_token, ensure_demo_login
from nexus_project.embedded.places import Places, is_loopback, is_wildcard
from nexus_project.embedded.processes import Child, ChildEndedError, Program
from nexus_project.embedded.servers import start_servers, wanted
from nexus_project.embedded.supervisor import Supervisor
from nexus_project.exposure import reachable_by, tcp_endpoint

WEB_SECONDS = 60.0
EXAMPLE_SECONDS = 60.0
STOP_SECONDS = 12.0
TOKEN_LIFETIME = timedelta(seconds=2 * (WEB_SECONDS + EXAMPLE_SECONDS))
EXECUTIONS_PATH = "/api/v1/executions"
VIEWER = Path("specs") / "024-execution-visualizer" / "workflow-stream-viewer.py"


class DatabaseUnusableError(Exception):
    """The database cannot be reached or brought up to date."""

    def __init__(self, problem: DatabaseFailure) -> None:
        super().__init__(
            f"The database cannot be used: {str(problem).strip()}. Set DATABASE_URL to one that "
            "can, or unset it for an SQLite file in NEXUS_DATA_DIR."
        )


class NotReadyError(Exception):
    """All processes run, but what they should show does not appear."""


@dataclass(frozen=True, slots=True)
class Product:
    """A running Nexus: where it is, who may read, and the example it has started."""

    places: Places
    open_reading: bool
    login: DemoLogin | None
    example: str | None


def start_product(supervisor: Supervisor, places: Places, *, with_example: bool) -> Product:
    """Start everything and return when the first request is answered as it should be.

    Raises MissingServerError, DatabaseUnusableError, ChildEndedError, ChildNotReadyError and
    NotReadyError.
    """
    login: list[DemoLogin | None] = []
    token: list[str] = []

    open_reading = reading_is_open(places.host)

    def prepare_database() -> None:
        ours = not os.environ.get("DATABASE_URL")
        try:
            call_command("migrate", interactive=False, verbosity=0)
            login.append(ensure_demo_login(supervisor.data_dir, database_is_ours=ours))
            if login[0] is not None and not open_reading:
                token.append(demo_token(TOKEN_LIFETIME))
        except DatabaseFailure as problem:
            raise DatabaseUnusableError(problem) from problem
        connections.close_all()
        supervisor.told_progress("database", "ready")

    found = start_servers(supervisor, wanted(settings.TEMPORAL_NAMESPACE), prepare_database)
    if found.valkey_url is None and (problem := valkey.unreachable_because(settings.VALKEY_URL)):
        supervisor.say(
            f"  VALKEY_URL does not answer ({problem}); viewers are served from the "
            "database, more slowly, until it does"
        )
    environment = child_environment(supervisor.data_dir, places, found, open_reading)
    run = _PythonPrograms(supervisor, environment)
    run.manage("worker", "temporal_worker")
    web = run.web(places)
    starting = run.example() if with_example else None
    product = Product(
        places=places,
        open_reading=open_reading,
        login=login[0],
        example=None if starting is None else starting(),
    )
    _wait_for_answer(supervisor, web, product, token[0] if token else None)
    return product


def reading_is_open(host: str) -> bool:
    """Whether anyone who reaches the server may read: only ever where nobody else reaches it.

    There it is open unless NEXUS_OPEN_READING says otherwise.
    """
    if reachable_by([tcp_endpoint(host, 0)], settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS):
        return False
    return settings.NEXUS_OPEN_READING if "NEXUS_OPEN_READING" in os.environ else True


def child_environment(
    data_dir: Path, places: Places, found: Addresses, open_reading: bool
) -> dict[str, str]:
    """What the worker and the web server are told, beyond what this process was told."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
        "NEXUS_DATA_DIR": str(data_dir),
        "NEXUS_OPEN_READING": "1" if open_reading else "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")])
        ),
    }
    if found.valkey_url:
        environment["VALKEY_URL"] = found.valkey_url
    if found.temporal_address:
        environment["TEMPORAL_ADDRESS"] = found.temporal_address
    if not (is_loopback(places.host) or is_wildcard(places.host)):
        environment.setdefault("NEXUS_ALLOWED_HOSTS", f"127.0.0.1,localhost,{places.host}")
    return environment


class _PythonPrograms:
    """Our own programs, run by this interpreter."""

    def __init__(self, supervisor: Supervisor, environment: dict[str, str]) -> None:
        self._supervisor = supervisor
        self._environment = environment

    def manage(self, name: str, command: str, output_path: Path | None = None) -> Child:
        return self._start(name, ["-m", "django", command], output_path)

    def web(self, places: Places) -> Child:
        arguments = ["-b", places.host, "-p", str(places.port), "nexus_project.asgi:application"]
        return self._start("web", ["-m", "nexus_project.daphne_server", *arguments], None)

    def example(self) -> Callable[[], str]:
        """Begin to start the example; the result waits for it and gives its execution_id."""
        output_path = self._supervisor.data_dir / "example-execution"
        child = self.manage("start_example", "start_example", output_path)

        def ended() -> bool:
            self._supervisor.require_all_running(but=child)
            return not child.is_running()

        def started() -> str:
            child.wait_until(ended, EXAMPLE_SECONDS)
            if child.exit_status() != 0:
                raise ChildEndedError(child)
            self._supervisor.dismiss(child)
            self._supervisor.told_progress("example", "started")
            return output_path.read_text(encoding="utf-8").strip()

        return started

    def _start(self, name: str, arguments: list[str], output_path: Path | None) -> Child:
        command = [sys.executable, *arguments]
        # The web server drains its viewers first.
        patience = settings.NEXUS_DRAIN_SECONDS + STOP_SECONDS
        return self._supervisor.start(
            Program(name, command, self._environment, patience, output_path=output_path)
        )


def _wait_for_answer(
    supervisor: Supervisor, web: Child, product: Product, token: str | None
) -> None:
    places, example = product.places, product.example

    def answered() -> bool:
        supervisor.require_all_running()
        return ask(places, EXECUTIONS_PATH, token).status != 0

    web.wait_until(answered, WEB_SECONDS)
    supervisor.told_progress("web", "ready")
    path = EXECUTIONS_PATH if example is None else places.execution_path(example)
    deadline = time.monotonic() + EXAMPLE_SECONDS
    while not is_expected(answer := ask(places, path, token), example, product):
        supervisor.require_all_running()
        if time.monotonic() >= deadline:
            raise NotReadyError(
                f"{places.base}{path} does not show what was started (its last answer had HTTP "
                f"status {answer.status}); see web.log and worker.log in {supervisor.logs_dir}"
            )
        time.sleep(0.05)
    if example is not None:
        supervisor.told_progress("example", "shown")


def is_expected(answer: Answer, example: str | None, product: Product) -> bool:
    """Whether `answer` shows that Nexus works: the example, where we are able to see it."""
    if answer.needs_login():
        return not product.open_reading and product.login is None
    if answer.status != 200 or not isinstance(answer.document, dict):
        return False
    return example is None or answer.document.get("execution_id") == example
