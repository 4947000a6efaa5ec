"""Writers that are killed between a commit and its publication: run as a process of its own.

`python -m tests.killed_writer KILLS EXECUTION_ID…`: forks a writer KILLS times. Each adds
events to one of the executions, publishing them, until after a commit it kills itself
(SIGKILL) at the very moment when that event is to be published.
"""

import os
import signal
import sys
from typing import Any

import django


def write_until_killed(execution_id: str, published_before: int) -> None:
    """Commit and publish some events, then commit one more and die."""
    from executions.recording import changing
    from executions.signals import events_committed
    from streaming.activity_update_publisher import publish_committed

    left = published_before

    def publish_or_die(**committed: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        publish_committed(**committed)

    events_committed.receivers = []
    events_committed.connect(publish_or_die, weak=False)
    while True:
        with changing(execution_id) as change:
            activity = change.activity("step")
            activity.progress = ((activity.progress or 0) + 0.01) % 1


def main(kills: int, execution_ids: list[str]) -> None:
    django.setup()
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            write_until_killed(execution_ids[kill % len(execution_ids)], kill % 3)
        _, status = os.waitpid(child, 0)
        if os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"writer {kill} ended with {status}, not by SIGKILL")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
