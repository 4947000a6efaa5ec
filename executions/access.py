"""Who may see executions and act on them: the one place that decides.

REST, the admin and streaming ask here.
"""

from typing import Final

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser

VIEW_PERMISSION: Final = "executions.view_execution"
CANCEL_PERMISSION: Final = "executions.cancel_execution"
TERMINATE_PERMISSION: Final = "executions.terminate_execution"


def may_view(user: AbstractUser | AnonymousUser, execution_id: str | None = None) -> bool:
    """Whether the user may see this execution; without an id, executions at all.

    Everyone may where NEXUS_OPEN_READING is set; otherwise active users who have
    VIEW_PERMISSION. Whether the execution exists makes no difference. Reads the
    database: synchronous code only.
    """
    if getattr(settings, "NEXUS_OPEN_READING", False):
        return True
    return user.is_active and user.has_perm(VIEW_PERMISSION)


def may_act(user: AbstractUser | AnonymousUser, permission: str, execution_id: str) -> bool:
    """Whether the user may do to this execution what `permission` is for.

    Those may who may view it, and are active users who have the permission; open reading
    lets nobody act. Reads the database: synchronous code only.
    """
    return user.is_active and user.has_perm(permission) and may_view(user, execution_id)
