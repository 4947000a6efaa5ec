"""Backends for permissions on single executions, as projects add them to Django's own."""

from typing import Any, ClassVar

from django.contrib.auth.backends import BaseBackend
from django.db.models import Q

from executions.access import VIEW_PERMISSION

Grant = tuple[str, str, str]
"""A user's name, a permission, an execution_id."""


class AskedOneByOne(BaseBackend):
    """Knows what is granted, and answers for one execution at a time."""

    granted: ClassVar[set[Grant]] = set()
    asked: ClassVar[int] = 0

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if obj is None:
            return False
        AskedOneByOne.asked += 1
        return (user_obj.username, perm, obj.execution_id) in self.granted


class TellingWhich(AskedOneByOne):
    """Tells with a condition which executions a user may view, too."""

    def viewable_executions(self, user: Any) -> Q:
        return Q(
            pk__in=[
                execution_id
                for name, permission, execution_id in self.granted
                if name == user.username and permission == VIEW_PERMISSION
            ]
        )


ONE_BY_ONE = f"{__name__}.AskedOneByOne"
TELLING = f"{__name__}.TellingWhich"
