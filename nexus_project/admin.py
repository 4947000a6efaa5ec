"""What the admin has of this project's own: a login that bounds guessing, and tokens' page."""

from typing import TYPE_CHECKING, Any

import knox.admin  # noqa: F401 - registers the page that is replaced here
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from knox.models import AuthToken
from rest_framework.exceptions import Throttled

from executions.api.password_attempts import count_attempt

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

admin.site.unregister(AuthToken)


class LoginForm(AdminAuthenticationForm):
    """Counts its attempts together with those at the tokens endpoint."""

    def clean(self) -> dict[str, Any]:
        if self.request is not None:
            try:
                count_attempt(self.request, self.cleaned_data.get("username", ""))
            except Throttled as refusal:
                raise ValidationError(str(refusal.detail), code="throttled") from refusal
        return super().clean()


admin.site.login_form = LoginForm


@admin.register(AuthToken)
class TokenAdmin(_ModelAdmin):
    """Tokens: whose they are, until when, and their revocation. Not their making.

    Instead of knox' own page, which makes tokens and puts them, readable, into a cookie. A
    token is named by its beginning; the digest in addresses lets nobody in.
    """

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("token_key", "user__username")
    ordering = ("-created",)
    fields = ("token_key", "user", "created", "expiry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
