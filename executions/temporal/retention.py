"""What the mirror forgets when executions are removed, so that their runs stay removed."""

from datetime import datetime
from typing import Any

from executions.temporal.models import ClosedRunsSeen, FollowedRun

EVERYWHERE = ""
"""In place of a namespace, which always has a name."""


def forget_run(execution_id: str, finished_before: datetime, **_: Any) -> None:
    """Receiver of `executions.signals.execution_removed`.

    Temporal may know the run for long: no process looks any more for runs that closed
    before that moment, not even one that has never looked.
    """
    FollowedRun.objects.filter(pk=execution_id).delete()
    seen, _created = ClosedRunsSeen.objects.get_or_create(
        namespace=EVERYWHERE, task_queue="", defaults={"closed_before": finished_before}
    )
    if seen.closed_before < finished_before:
        ClosedRunsSeen.objects.filter(pk=seen.pk, closed_before__lt=finished_before).update(
            closed_before=finished_before
        )
