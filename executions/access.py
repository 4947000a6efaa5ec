"""Who may see executions and act on them: the one place that decides.

REST, the admin and streaming ask here; what decides are Django's permissions, in two steps.
`user.has_perm(permission)` is about all executions. Where it says no,
`user.has_perm(permission, execution)` is about one: Django's own backend always says no to
that, others in AUTHENTICATION_BACKENDS may say yes.

To tell which executions a user may view out of very many, a backend may offer

    def viewable_executions(self, user) -> django.db.models.Q

a condition on `executions.models.Execution` that holds for exactly those executions for which
the backend's own `has_perm(user, VIEW_PERMISSION, execution)` says yes, and that does not
repeat rows (a join that would is written `Q(pk__in=...)`). It is called for active users
without the permission for all. Where every backend that knows of single executions offers it,
lists cost one query; else they ask about their rows one by one.
"""

from collections.abc import Collection
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_backends, get_user_model
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import AbstractUser, AnonymousUser, PermissionsMixin
from django.db.models import Q

from executions.identifiers import is_execution_id
from executions.models import Execution

User = AbstractUser | AnonymousUser

VIEW_PERMISSION: Final = "executions.view_execution"
CANCEL_PERMISSION: Final = "executions.cancel_execution"
TERMINATE_PERMISSION: Final = "executions.terminate_execution"

_NONE: Final = Q(pk__in=())
_DJANGOS_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
_SILENT_ABOUT_OBJECTS: Final = {
    getattr(backend, name)
    for backend in (BaseBackend, ModelBackend)
    for name in ("has_perm", "get_all_permissions", "get_user_permissions", "get_group_permissions")
}


def may_view(user: User, execution_id: str | None = None) -> bool:
    """Whether the user may see this execution; without an id, whether all there are.

    Everyone may where NEXUS_OPEN_READING is set; otherwise active users who have
    VIEW_PERMISSION, for all or for this one. Who has it for all may see what does not exist,
    too. Reads the database, and the execution only for a user without the permission for
    all: synchronous code only.
    """
    if getattr(settings, "NEXUS_OPEN_READING", False):
        return True
    return _has_permission(user, VIEW_PERMISSION, execution_id)


def surely_may_view(user_ids: Collection[Any]) -> set[Any]:
    """Which of these users are active and may see all there are, as far as a few queries can tell.

    About the others, `may_view` is to be asked. Costs a query for each way to the permission,
    as long as there are users without it. Reads the database: synchronous code only.
    """
    sure: set[Any] = set()
    for way in ways_to_view_all():
        if asked := set(user_ids) - sure:
            active = get_user_model()._default_manager.filter(is_active=True, pk__in=asked)
            sure.update(active.filter(**way).values_list("pk", flat=True))
    return sure


def ways_to_view_all() -> list[dict[str, Any]]:
    """Conditions on active users, each of which suffices to see all there are.

    Whom none holds for, `may_view` is to be asked about. They say what `with_perm` does, which
    asks about each user by going through all who have the permission.
    """
    if getattr(settings, "NEXUS_OPEN_READING", False):
        return [{}]
    # Only the first backend's yes is final: one before it could have forbidden it.
    is_first = settings.AUTHENTICATION_BACKENDS[0] == _DJANGOS_BACKEND
    if not is_first or not issubclass(get_user_model(), PermissionsMixin):
        return []
    app_label, codename = VIEW_PERMISSION.split(".")
    by_permissions = [
        {f"{whose}__codename": codename, f"{whose}__content_type__app_label": app_label}
        for whose in ("user_permissions", "groups__permissions")
    ]
    return [*by_permissions, {"is_superuser": True}]


def may_act(user: User, permission: str, execution_id: str) -> bool:
    """Whether the user may do to this execution what `permission` is for.

    Those may who may view it, and are active users who have the permission, for all or for
    this one; open reading lets nobody act. Reads the database: synchronous code only.
    """
    return may_view(user, execution_id) and _has_permission(user, permission, execution_id)


def viewable(user: User) -> Q | None:
    """A condition on Execution that holds for what the user may view.

    None where no condition can tell: then `may_view_row` is to be asked about each row.
    Reads the database: synchronous code only.
    """
    if may_view(user):
        return Q()
    condition = _NONE
    for backend in get_backends() if user.is_active else ():
        if hasattr(backend, "viewable_executions"):
            condition |= backend.viewable_executions(user)
        elif _knows_single_executions(backend):
            return None
    return condition


def may_view_row(user: User, execution: Execution) -> bool:
    """`may_view` for a row at hand, of a user who may not see all."""
    return user.is_active and user.has_perm(VIEW_PERMISSION, execution)


def _has_permission(user: User, permission: str, execution_id: str | None) -> bool:
    if not user.is_active:
        return False
    if user.has_perm(permission):
        return True
    if execution_id is None or not is_execution_id(execution_id):
        return False
    execution = Execution.objects.filter(pk=execution_id).first()
    return execution is not None and user.has_perm(permission, execution)


def _knows_single_executions(backend: Any) -> bool:
    # Many a backend only authenticates, and inherits its answers from Django's.
    answers = {getattr(type(backend), each.__name__, None) for each in _SILENT_ABOUT_OBJECTS}
    return not answers <= {None, *_SILENT_ABOUT_OBJECTS}
