"""Writers as processes of their own, that write the same executions at the same time.

`python -m tests.writers --changes N --seed S [--finish] [--publish] EXECUTION_ID…`

Prints `ready` and waits for a line on standard input, so that several start at once. Then
creates the executions that are not there yet and makes N random changes, half of them of
the first execution; some are refused, as they should be. Prints one JSON line: how many
were accepted and refused. With `--finish` it then waits for another line, and
completes every execution unless another writer was first. Events are published only with
`--publish`. What a writer wrote carries its seed: run_ids are `by-<seed>-…`, and so are
the ids of activities that only this writer adds.

Anything that is not a refusal (such as a locked database) ends it with a traceback.
The environment says where the database is: `tests.servers.web.session_environment()`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Final

import django

DEADLINE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 0.004
STEPS: Final = ("step-0", "step-1", "step-2")


def ensure(execution_id: str) -> None:
    from executions.recording import NewActivity, ensure_execution
    from executions.statuses import ExecutionStatus

    ensure_execution(
        execution_id=execution_id,
        workflow_id=f"workflow of {execution_id}",
        workflow_type="Written",
        status=ExecutionStatus.RUNNING,
        activities=[NewActivity(activity_id=step, activity_name=step) for step in STEPS],
    )


def change_a_step(execution_id: str, mark: str, random: Random) -> None:
    from django.utils import timezone

    from executions.recording import changing
    from executions.statuses import ActivityStatus, PendingState

    with changing(execution_id) as change:
        activity = change.activity(random.choice(STEPS))
        activity.progress = random.random()
        activity.pending_state = random.choice([None, *PendingState])
        activity.next_attempt_at = random.choice([None, timezone.now()])
        if not ActivityStatus(activity.status).is_final or random.random() < 0.2:
            activity.attempt += random.randrange(2)
            activity.status = random.choice([*ActivityStatus, ActivityStatus.RUNNING])


def change_the_execution(execution_id: str, mark: str, random: Random) -> None:
    from executions.recording import changing

    with changing(execution_id) as change:
        change.execution.run_id = mark
        change.execution.latest_point = {
            "kind": "signal",
            "name": mark,
            "at": "2026-01-02T03:04:05.678901Z",
        }


def add_an_activity(execution_id: str, mark: str, random: Random) -> None:
    from executions.recording import NewActivity, changing

    contested = f"contested-{random.randrange(30)}"
    with changing(execution_id) as change:
        name = random.choice([mark, contested])
        change.add_activity(NewActivity(activity_id=name, activity_name=name))


def save_a_row(execution_id: str, mark: str, random: Random) -> None:
    from executions.models import Activity

    row = Activity.objects.get(execution_id=execution_id, activity_id=random.choice(STEPS))
    row.progress = random.random()
    row.save()


def change_twice_at_once(execution_id: str, mark: str, random: Random) -> None:
    from django.db import transaction

    with transaction.atomic():
        change_the_execution(execution_id, mark, random)
        change_a_step(execution_id, mark, random)


ACTS: Final[Sequence[Callable[[str, str, Random], None]]] = (
    change_a_step,
    change_a_step,
    change_the_execution,
    add_an_activity,
    save_a_row,
    change_twice_at_once,
)


def write(execution_ids: Sequence[str], changes: int, seed: int) -> dict[str, int]:
    """Make the changes; how many were accepted and refused."""
    from executions.errors import RecordingError

    random = Random(seed)
    counts = {"accepted": 0, "refused": 0}
    for number in range(changes):
        act = random.choice(ACTS)
        execution_id = random.choice([execution_ids[0], random.choice(execution_ids)])
        # SQLite's lock is not fair: who never pauses keeps it
        time.sleep(random.random() * LONGEST_PAUSE_SECONDS)
        try:
            act(execution_id, f"by-{seed}-{number}", random)
        except RecordingError:
            counts["refused"] += 1
        else:
            counts["accepted"] += 1
    return counts


def finish(execution_id: str) -> None:
    from executions.recording import ExecutionClosedError, changing
    from executions.statuses import ExecutionStatus

    try:
        with changing(execution_id) as change:
            change.execution.status = ExecutionStatus.COMPLETED
    except ExecutionClosedError:
        pass  # another writer was first


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.writers")
    parser.add_argument("execution_ids", nargs="+")
    parser.add_argument("--changes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--finish", action="store_true")
    parser.add_argument("--publish", action="store_true")
    asked = parser.parse_args()
    django.setup()
    from tests.truth import nobody_listening

    with nullcontext() if asked.publish else nobody_listening():
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        for execution_id in asked.execution_ids:
            ensure(execution_id)
        print(json.dumps(write(asked.execution_ids, asked.changes, asked.seed)), flush=True)  # noqa: T201
        if asked.finish:
            sys.stdin.readline()
            for execution_id in asked.execution_ids:
                finish(execution_id)


@dataclass
class Writer:
    """A running process of this module."""

    process: "subprocess.Popen[str]"

    def go_on(self) -> None:
        """Let it begin to write, or to finish."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line it prints; AssertionError with its traceback if it ended instead."""
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            _, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
            raise AssertionError(f"a writer ended with {self.process.returncode}: {errors}")
        return told

    def counts(self) -> dict[str, int]:
        """Wait for it to have written: how many changes were accepted and refused."""
        counts: dict[str, int] = json.loads(self.line())
        return counts

    def ended(self) -> None:
        """Wait for it to end well; AssertionError with its traceback otherwise."""
        _, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        assert self.process.returncode == 0, errors


@contextmanager
def writers_running(
    environment: dict[str, str], execution_ids: Sequence[str], seeds: Sequence[int], *options: str
) -> Iterator[list[Writer]]:
    """One process a seed, all released at once; those that are left at the end are killed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.writers", "--seed", str(seed), *options, *execution_ids],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    writers = [Writer(process) for process in processes]
    try:
        for writer in writers:
            assert writer.line() == "ready\n"
        for writer in writers:
            writer.go_on()
        yield writers
    finally:
        for process in processes:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()
