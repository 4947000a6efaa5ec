"""What streaming keeps in the database: tickets that have been given and not yet used."""

from typing import ClassVar

from django.conf import settings
from django.db import models


class Ticket(models.Model):
    """One connection's permit, for half a minute. Its text is nowhere: this is its SHA-256."""

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    credential_kind = models.CharField(max_length=16)
    credential_key = models.TextField()
    execution_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: any
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="ticket_expiry")]

    def __str__(self) -> str:
        return f"a ticket of {self.user_id} until {self.expires_at}"
