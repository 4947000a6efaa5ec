"""Who is asking: a user's name and password, or the session of the admin."""

from typing import Any

from drf_spectacular.authentication import BasicScheme
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class BasicAuthentication(authentication.BasicAuthentication):
    """HTTP Basic (RFC 7617); a name that no user can have fails like any other wrong one."""

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> tuple[Any, Any]:
        # PostgreSQL would fail at being asked for a name with NUL.
        if "\0" in userid:
            raise AuthenticationFailed
        return super().authenticate_credentials(userid, password, request)


class BasicAuthenticationScheme(BasicScheme):  # type: ignore[no-untyped-call]
    target_class = f"{__name__}.BasicAuthentication"
    priority = 0
