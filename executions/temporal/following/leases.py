"""Which process follows which run: leases in the database, by its own clock.

A process holds one lease for all of its runs, so that holding costs one write however
many they are. Where it lapses, any other takes the runs over. Two processes that follow
one run for a moment do no harm: what they record is the same, and recorded once.

Synchronous; every function may be called again with what it was called with before.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from executions.batches import batches
from executions.temporal.mirroring.histories import not_mirrored_to_the_end
from executions.temporal.models import FollowedRun, FollowerProcess

LEASE_SECONDS: Final = 5.0
"""Without a sign for so long, a process is taken for dead."""

HOLD_SECONDS: Final = 1.5
"""How often a process renews its lease, and looks for runs that nobody follows."""


def hold(process_id: UUID) -> frozenset[str]:
    """Renew the process' lease, or begin it; the ids of the runs that are its to follow."""
    _renew(process_id)
    return frozenset(FollowedRun.objects.filter(follower=process_id).values_list("pk", flat=True))


def claim(process_id: UUID, namespace: str, runs: Mapping[str, str]) -> dict[str, int]:
    """Take these runs (run_id: workflow_id) as far as nobody follows them.

    Returns those that are this process' now, each with the position recorded for it. Runs
    that are mirrored to their end are left out.
    """
    _renew(process_id)
    claimed: dict[str, int] = {}
    for part in batches(sorted(not_mirrored_to_the_end(runs.keys()))):
        FollowedRun.objects.bulk_create(
            [
                FollowedRun(run_id=run_id, workflow_id=runs[run_id], namespace=namespace)
                for run_id in part
            ],
            ignore_conflicts=True,
        )
        free = FollowedRun.objects.filter(pk__in=part)
        claimed |= {run.run_id: run.position for run in _take(process_id, free)}
    return claimed


def take_over(process_id: UUID, namespace: str, at_most: int) -> list[FollowedRun]:
    """Take runs whose process has died or let go of them."""
    lapsed = FollowerProcess.objects.filter(expires_at__lte=Now()).exclude(pk=process_id)
    if lapsed.exists():
        lapsed.delete()
    free = FollowedRun.objects.filter(namespace=namespace, follower=None)
    if at_most <= 0 or not free.exists():
        return []
    _renew(process_id)
    return _take(process_id, free.order_by("pk")[:at_most])


def release(process_id: UUID) -> None:
    """Let go of everything, so that others need not wait for the lease to lapse."""
    FollowerProcess.objects.filter(pk=process_id).delete()


def let_go(run_id: str) -> None:
    """Forget a run that can be followed no further."""
    FollowedRun.objects.filter(pk=run_id).delete()


def _renew(process_id: UUID) -> None:
    expires_at = Now() + timedelta(seconds=LEASE_SECONDS)
    if not FollowerProcess.objects.filter(pk=process_id).update(expires_at=expires_at):
        FollowerProcess.objects.update_or_create(
            process_id=process_id, defaults={"expires_at": expires_at}
        )


def _take(process_id: UUID, wanted: QuerySet[FollowedRun]) -> list[FollowedRun]:
    with transaction.atomic():
        # Another process that is just taking one of them is not waited for.
        skips = connection.features.has_select_for_update_skip_locked
        rows = list(wanted.select_for_update(skip_locked=skips))
        followers = {row.follower_id for row in rows if row.follower_id} - {process_id}
        alive = set(
            FollowerProcess.objects.filter(pk__in=followers, expires_at__gt=Now()).values_list(
                "pk", flat=True
            )
        )
        taken = [row for row in rows if row.follower_id not in alive]
        FollowedRun.objects.filter(pk__in=[row.pk for row in taken]).update(follower=process_id)
    return taken
