"""The benchmarks' worker processes: started, measured from outside, ended."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.benchmarks.stage import Stage
from tests.benchmarks.tables import show
from tests.servers import end_with_parent

_CPUCLOCK_SCHED: Final = 2
_METRIC = re.compile(r"^(?P<name>\w+)(?:{(?P<labels>.*)})? (?P<value>[\d.e+]+)$", re.M)
_CALLS: Final = ("temporal_request", "temporal_long_request")
_OURS = re.compile(r"logger='(?:executions|streaming)[^']*' event='([^']*)'")


def cpu_seconds(process_id: int) -> float:
    """CPU time of all threads of a process since it began, to the nanosecond (Linux)."""
    # clock_getcpuclockid(3), which Python does not have.
    return time.clock_gettime_ns(~process_id << 3 | _CPUCLOCK_SCHED) / 1e9


def idle_seconds() -> float:
    """How long the cores that this process may use have been idle, all together (Linux).

    What the kernel does for a process' sockets is not always that process' CPU time.
    """
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = map(str.split, Path("/proc/stat").read_text().splitlines())
    idle = sum(int(line[4]) + int(line[5]) for line in lines if line[0] in ours)
    return idle / os.sysconf("SC_CLK_TCK")


class WorkerProcess:
    """A running `tests.benchmarks.worker`. What is measured is the kernel's word (Linux)."""

    def __init__(self, process: "subprocess.Popen[str]", metrics_port: int | None) -> None:
        self._process = process
        self._proc = Path("/proc", str(process.pid))
        self._metrics_port = metrics_port

    def kill(self) -> None:
        """End it as by `kill -9`."""
        self._process.kill()
        self._process.wait()

    def cpu_seconds(self) -> float:
        """CPU time of all of its threads since it began."""
        return cpu_seconds(self._process.pid)

    def threads(self) -> tuple[int, int]:
        """All threads, and those of them that are the Temporal SDK's own runtime."""
        names = [(task / "comm").read_text() for task in (self._proc / "task").iterdir()]
        return len(names), sum(name.startswith("tokio") for name in names)

    def status(self, field: str) -> int:
        """A number of /proc/PID/status, such as VmRSS and VmHWM (its peak) in KiB."""
        for line in (self._proc / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise LookupError(f"/proc/{self._process.pid}/status has no {field}")

    def counters(self) -> Counter[str]:
        """Calls to Temporal by kind, and the worker's own counters by name."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        counted: Counter[str] = Counter()
        for metric in _METRIC.finditer(text):
            name = metric["name"]
            if name in _CALLS:
                operation = re.search(r'operation="(\w+)"', metric["labels"])
                assert operation is not None, metric[0]
                long = " (long poll)" if name == "temporal_long_request" else ""
                counted[f"{operation[1]}{long}"] += int(float(metric["value"]))
            elif name.startswith("database_"):
                counted[name] += int(float(metric["value"]))
        return counted


@contextmanager
def worker_running(
    stage: Stage,
    task_queue: str,
    *,
    plugin: str = "none",
    activities_at_once: int = 100,
    with_metrics: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[WorkerProcess]:
    """Run a worker until the block ends; then show which warnings Nexus logged in it, if any.

    `plugin`: `none`, `queue` (mirrors its task queue), `namespace` (mirrors everything).
    """
    port = _free_port() if with_metrics else None
    log = stage.directory / f"{task_queue}.log"
    arguments = ["--task-queue", task_queue, "--plugin", plugin]
    arguments += ["--activities-at-once", str(activities_at_once)]
    arguments += ["--metrics-port", str(port)] if port else []
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.worker", *arguments],
            env=os.environ | (environment or {}), stdout=subprocess.PIPE, stderr=output,
            text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the worker ended:\n{log.read_text()}")
        yield WorkerProcess(process, port)
    finally:
        process.kill()
        process.wait()
        if logged := Counter(_OURS.findall(log.read_text())):
            told = ", ".join(f"{event} ({count})" for event, count in logged.most_common())
            show(f"[{task_queue} logged: {told}]")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
