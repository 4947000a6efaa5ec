"""What a proving run stands on: the product's processes, its servers, its users; started and ended.

Everything is started by the main thread, and ends with this process, however that ends.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Final

import django

from tests.prove.plan import REVOCABLE, STRANGER, Plan, Topology
from tests.prove.recorder import Recorder
from tests.prove.records import Access, Sample
from tests.prove.run_file import HEARTBEAT_SECONDS
from tests.prove.valkeys import ReplicatedValkey, SingleValkey, valkey_set_up
from tests.servers import end_with_parent
from tests.servers.caddy import caddy_running
from tests.servers.valkey import free_ports

START_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 3.0
ROOT: Final = Path(__file__).resolve().parents[2]
SQLITE: Final = "sqlite"
DATABASES: Final = (SQLITE, "postgresql")


class StageError(RuntimeError):
    """The product could not be started; the message has what it said."""


class Process:
    """A program of the run that can be killed and started again, with its log in a file."""

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.starts = 0
        self._log = directory / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs, and where it was never started or was killed."""
        return None if self._process is None else self._process.poll()

    @property
    def stdin(self) -> IO[bytes] | None:
        return None if self._process is None else self._process.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return None if self._process is None else self._process.stdout

    def start(self, *arguments: str, with_pipes: bool = False) -> None:
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self._environment, cwd=ROOT, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent,
                stdin=subprocess.PIPE if with_pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if with_pipes else log,
            )  # fmt: skip

    def kill(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def wait(self, seconds: float) -> bool:
        """Wait for it to end by itself; whether it did."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
        return True

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]


class Web(Process):
    """One web process, on one port."""

    def __init__(
        self, name: str, port: int, directory: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, directory, environment)
        self.port = port
        self._is_ending = False

    def serve(self) -> None:
        # Without a proxy its header is whatever a client sends; none of these does.
        self.start("nexus_project.daphne_server", "-b", "127.0.0.1", "-p", str(self.port),
                   "--proxy-headers", "nexus_project.asgi:application")  # fmt: skip

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Ask it to end; inside, wait until it `has_ended`."""
        assert self._process is not None
        self._process.terminate()
        self._is_ending = True
        try:
            yield
        finally:
            self._is_ending = False
            self.kill()

    @property
    def has_ended(self) -> bool:
        return super().exit_status is not None

    @property
    def exit_status(self) -> int | None:
        return None if self._is_ending else super().exit_status

    @property
    def listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
                return True
        except OSError:
            return False


class Stage:
    """The running product. `directory` is for files, `records` for logs and what is recorded.

    `proxy_port` is that of the proxy before the web processes, where there is one.
    """

    def __init__(
        self,
        directory: Path,
        records: Path,
        plan: Plan,
        valkey: SingleValkey | ReplicatedValkey,
        web_ports: Sequence[int],
        proxy_port: int | None,
        environment: Mapping[str, str],
    ) -> None:
        self.directory = directory
        self.records = records
        self.plan = plan
        self.valkey = valkey
        self.proxy_port = proxy_port
        self.recorder = Recorder(records / "stage.jsonl")
        self.webs = [
            Web(f"web-{number}", port, records, environment)
            for number, port in enumerate(web_ports)
        ]
        self.writers = [Process(each.name, records, environment) for each in plan.writers]
        self.clients = [
            Process(f"clients-{number}", records, environment)
            for number in sorted({client.process for client in plan.clients})
        ]
        self.run_file = directory / "run.json"

    def start_webs(self) -> None:
        """Start all, and wait until they listen."""
        for web in self.webs:
            web.serve()
        deadline = time.monotonic() + START_SECONDS
        for web in self.webs:
            while not web.listens:
                if web.exit_status is not None or time.monotonic() > deadline:
                    raise StageError(f"{web.name} did not start:\n{web.last_words()}")
                time.sleep(0.05)
        while self.proxy_port is not None and not _answers(self.proxy_port):
            if time.monotonic() > deadline:
                raise StageError("the proxy reaches no web process")
            time.sleep(0.05)

    def start_writer(self, writer: Process) -> None:
        writer.start("tests.prove.writer", str(self.run_file), writer.name, str(writer.starts))

    def start_clients(self) -> None:
        for number, process in enumerate(self.clients):
            process.start("tests.prove.clients", str(self.run_file), str(number), with_pipes=True)
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)

    def create_callers(self) -> dict[str, str]:
        """The plan's users with what they may, as sessions' cookies by name."""
        from django.contrib.auth.models import Permission, User
        from django.test import Client

        view = Permission.objects.get(codename="view_execution")
        cookies: dict[str, str] = {}
        for name in self.plan.callers:
            may_view = name.startswith("viewer") or name in REVOCABLE
            self.recorder.add(Access(time.monotonic(), name, may_view))
            if may_view or name == STRANGER:
                user = User.objects.create_user(name)
                if may_view:
                    user.user_permissions.add(view)
                client = Client()
                client.force_login(user)
                cookies[name] = client.cookies["sessionid"].value
        return cookies

    def sample_memory(self) -> None:
        """Record how much memory each process of the product holds."""
        ids = {process.name: process.process_id for process in (*self.webs, *self.writers)}
        ids |= self.valkey.process_ids
        at = time.monotonic()
        for name, process_id in ids.items():
            if process_id is not None and (resident := _resident_bytes(process_id)):
                self.recorder.add(Sample(at, name, resident))

    def end(self) -> None:
        """End the product's processes."""
        for process in (*self.clients, *self.writers, *self.webs):
            process.kill()
        self.recorder.close()


@contextmanager
def stage_set(
    directory: Path,
    records: Path,
    plan: Plan,
    database: str,
    web_processes: int,
    *,
    open_reading: bool = False,
) -> Iterator[Stage]:
    """Run the servers, with a migrated database and Django set up in this process.

    Where Valkey is not a single one, there is a proxy before the web processes, too.
    """
    web_ports = free_ports(web_processes)
    is_single = plan.topology is Topology.SINGLE
    with (
        valkey_set_up(directory, plan.topology) as valkey,
        _database(directory, database) as database_url,
        nullcontext() if is_single else caddy_running(directory / "caddy", web_ports) as proxy_port,
    ):
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "nexus_project.settings",
            "NEXUS_DATA_DIR": str(directory / "data"),
            "NEXUS_OPEN_READING": str(int(open_reading)),
            "NEXUS_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "NEXUS_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "VALKEY_URL": valkey.url,
            "DATABASE_URL": database_url,
        }
        os.environ |= environment | {"NEXUS_LOG_LEVEL": "ERROR"}
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        stage = Stage(directory, records, plan, valkey, web_ports, proxy_port, environment)
        try:
            yield stage
        finally:
            stage.end()


@contextmanager
def _database(directory: Path, kind: str) -> Iterator[str]:
    if kind == SQLITE:
        yield f"sqlite:///{directory / 'nexus.sqlite3'}"
        return
    from tests.servers.postgresql import postgresql_running

    with postgresql_running(directory / "postgresql"):
        yield f"postgresql://nexus@/nexus?host={directory / 'postgresql'}"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5):
            return True
    except OSError:
        return False


def _resident_bytes(process_id: int) -> int:
    """0 where the process is gone."""
    try:
        pages = Path(f"/proc/{process_id}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
