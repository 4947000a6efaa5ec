"""Proving the promises: the product under traffic and faults, and everything recorded judged.

`python -m tests.prove [--seed N] [--minutes M] [--database sqlite|postgresql]
[--valkey single|cluster|failover] [--web-processes N] [--keep DIR]` starts Valkey, web processes
and three writers on a fresh database, lets some hundred clients watch while writers are killed,
Valkey is emptied, connections are cut and so on, and judges the records by one validator per
promise. Where Valkey is not a single one, all clients go through one proxy. The same seed gives
the same plan. Exits 1 where a promise was broken or something of the product ended by itself, and
keeps the records then; `--judge DIR` judges kept records again. `--idle` only starts all of it,
for trying things by hand, and says where it is.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from tests.benchmarks.stage import at_most
from tests.benchmarks.tables import show
from tests.prove.plan import Plan, Topology, plan_for
from tests.prove.recorder import load
from tests.prove.report import described, plan_told
from tests.prove.running import Running
from tests.prove.stage import DATABASES, SQLITE, Stage, stage_set
from tests.prove.validators import report, validate

DEFAULT_MINUTES: Final = 4.0
LEAST_MINUTES: Final = 0.4
MOST_MINUTES: Final = 60.0
DEFAULT_WEB_PROCESSES: Final = 3
MOST_WEB_PROCESSES: Final = 16
BESIDE_TRAFFIC_SECONDS: Final = 300
"""For starting, settling and judging, whatever is in the way."""


def prove(plan: Plan, database: str, web_processes: int, records: Path) -> list[str]:
    """Run it all, recording in `records`; what of the product ended by itself, for people."""
    show(plan_told(plan, database, web_processes))
    with (
        tempfile.TemporaryDirectory(prefix="nexus-prove-") as directory,
        stage_set(Path(directory), records, plan, database, web_processes) as stage,
    ):
        running = Running(stage, plan)
        running.run()
        return running.crashes


def judge(records: Path) -> bool:
    """Show the verdicts; whether every promise held."""
    recorded = load(records)
    show(described(recorded))
    verdicts = validate(recorded)
    show(report(verdicts))
    return all(verdict.passed for verdict in verdicts)


def idle(plan: Plan, database: str, web_processes: int) -> None:
    """Start the product, readable for everyone on this machine, and wait to be ended."""
    with tempfile.TemporaryDirectory(prefix="nexus-prove-") as name:
        directory = Path(name)
        logs = directory / "logs"
        logs.mkdir()
        with stage_set(directory, logs, plan, database, web_processes, open_reading=True) as stage:
            stage.start_webs()
            show(_where(stage))
            threading.Event().wait()


def main() -> int:
    asked = _arguments()
    if asked.judge is not None:
        return 0 if judge(asked.judge) else 1
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    # A shell makes what it starts in the background deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    plan = plan_for(seed, asked.minutes * 60, asked.valkey)
    if asked.idle:
        signal.alarm(int(MOST_MINUTES * 60))
        idle(plan, asked.database, asked.web_processes)
        return 0
    signal.alarm(int(asked.minutes * 60) + BESIDE_TRAFFIC_SECONDS)
    records = asked.keep or Path(tempfile.mkdtemp(prefix="nexus-proof-"))
    records.mkdir(parents=True, exist_ok=True)
    if any(records.iterdir()):
        sys.exit(f"{records} is not empty: records of two runs do not go together")
    held = False
    try:
        crashes = prove(plan, asked.database, asked.web_processes, records)
        held = judge(records) and not crashes
        for crash in crashes:
            show(crash)
    finally:
        if held and asked.keep is None:
            shutil.rmtree(records)
        else:
            show(f"Records and logs are in {records}; the seed was {seed}")
    show("Every promise held." if held else "NOT PROVED")
    return 0 if held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: a random one, told")
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=DEFAULT_MINUTES,
        metavar="M",
        help=f"of traffic, {LEAST_MINUTES:g} to {MOST_MINUTES:g}; default: {DEFAULT_MINUTES:g}",
    )
    parser.add_argument("--database", choices=DATABASES, default=SQLITE, help="default: sqlite")
    parser.add_argument(
        "--valkey", type=Topology, choices=list(Topology), default=Topology.SINGLE,
        help="default: single",
    )  # fmt: skip
    parser.add_argument(
        "--web-processes", type=at_most(MOST_WEB_PROCESSES), default=DEFAULT_WEB_PROCESSES,
        metavar="N", help=f"1 to {MOST_WEB_PROCESSES}; default: {DEFAULT_WEB_PROCESSES}",
    )  # fmt: skip
    parser.add_argument(
        "--idle", action="store_true",
        help=f"only start it, until Ctrl-C, for {MOST_MINUTES:g} minutes at most",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep records and logs there, whatever comes"
    )
    parser.add_argument(
        "--judge", type=Path, metavar="DIR", help="run nothing: judge the records kept there"
    )
    return parser.parse_args()


def _where(stage: Stage) -> str:
    ports = [web.port for web in stage.webs]
    names = ("DATABASE_URL", "VALKEY_URL", "NEXUS_DATA_DIR")
    return "\n".join(
        [
            f"Nexus is ready at http://127.0.0.1:{stage.proxy_port or ports[0]}/api/v1/executions",
            f"Web processes: ports {', '.join(map(str, ports))}; their logs: {stage.records}",
            "To write executions, in another terminal:",
            *(f"    export {name}='{os.environ[name]}'" for name in names),
            "    .venv/bin/python manage.py simulate --help",
            "Press Ctrl-C to stop it.",
        ]
    )


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number from {LEAST_MINUTES:g} to {MOST_MINUTES:g}"
        )
    return minutes


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(f"ended by {signal.Signals(number).name} before it was done")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
