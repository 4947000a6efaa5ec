"""Who may see executions: the one place that decides. REST, the admin and streaming ask here."""

from typing import Final

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser

VIEW_PERMISSION: Final = "executions.view_execution"


def may_view(user: AbstractUser | AnonymousUser, execution_id: str | None = None) -> bool:
    """Whether the user may see this execution; without an id, executions at all.

    Everyone may where NEXUS_OPEN_READING is set; otherwise active users who have
    VIEW_PERMISSION. Whether the execution exists makes no difference. Reads the
    database: synchronous code only.
    """
    if getattr(settings, "NEXUS_OPEN_READING", False):
        return True
    return user.is_active and user.has_perm(VIEW_PERMISSION)
