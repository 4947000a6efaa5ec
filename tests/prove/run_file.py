"""What the processes of a run need to know of it, and when they begin: in files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tests.prove.plan import Plan, Topology, plan_for

HEARTBEAT_SECONDS: Final = 1.0

_BEGINNING_SECONDS: Final = 120.0
_BETWEEN_LOOKS_SECONDS: Final = 0.02


@dataclass(frozen=True)
class RunFile:
    """`records` is where they go; `webs` are ports; `cookies` are by caller, where it has one.

    Where there is a `proxy`, clients ask at its port.
    """

    seed: int
    seconds: float
    records: Path
    webs: list[int]
    cookies: dict[str, str] = field(default_factory=dict)
    topology: Topology = Topology.SINGLE
    proxy: int | None = None


def write_run_file(path: Path, run: RunFile) -> None:
    path.write_bytes(msgspec.json.encode(run, enc_hook=str))


def read_run_file(path: Path) -> tuple[RunFile, Plan]:
    """The run, and its plan."""
    run = msgspec.json.decode(
        path.read_bytes(), type=RunFile, dec_hook=lambda kind, text: kind(text)
    )
    return run, plan_for(run.seed, run.seconds, run.topology)


def wait_to_begin(run_file: Path, name: str) -> float:
    """Say that this process is ready, and wait for the others; when the traffic begins."""
    _ready(run_file, name).touch()
    beginning = _beginning(run_file)
    _wait_for(beginning)
    began_at = float(beginning.read_text())
    time.sleep(max(0.0, began_at - time.monotonic()))
    return began_at


def begin_together(run_file: Path, names: Sequence[str]) -> float:
    """Wait until these processes are ready, and let them begin; when the traffic begins."""
    for name in names:
        _wait_for(_ready(run_file, name))
    began_at = time.monotonic() + 2 * _BETWEEN_LOOKS_SECONDS
    draft = _beginning(run_file).with_suffix(".draft")
    draft.write_text(str(began_at))
    draft.rename(_beginning(run_file))
    return began_at


def _ready(run_file: Path, name: str) -> Path:
    return run_file.with_name(f"{name}.ready")


def _beginning(run_file: Path) -> Path:
    return run_file.with_name("beginning")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _BEGINNING_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} was not there after {_BEGINNING_SECONDS:.0f} s")
        time.sleep(_BETWEEN_LOOKS_SECONDS)
