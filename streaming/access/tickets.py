"""Tickets: single-use, for half a minute, for those who can send neither cookie nor header.

A page of another site asks for one over REST and offers it among the subprotocols of its
WebSocket. A ticket stands on what it was asked with: when that ends, so does the connection.
Synchronous.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from streaming.access.credentials import Credential, CredentialKind
from streaming.models import Ticket

TICKET_SECONDS: Final = 30
TICKETS_PER_USER: Final = 100
"""How many may wait for their use at once."""

TICKET_PREFIX: Final = "ticket."


class TooManyTicketsError(Exception):
    """The user has too many tickets that wait for their use."""

    def __init__(self) -> None:
        super().__init__(
            f"{TICKETS_PER_USER} tickets of yours wait for their use: use them, or wait "
            f"{TICKET_SECONDS} seconds."
        )


class GivenTicket(NamedTuple):
    text: str
    expires_at: datetime


class TakenTicket(NamedTuple):
    """What a ticket was asked with, and the only execution it is for; None: any."""

    credential: Credential
    execution_id: str | None


def give_ticket(
    user: AbstractUser, credential: Credential, execution_id: str | None
) -> GivenTicket:
    """A ticket that stands on the user's credential; raises TooManyTicketsError.

    Deletes those of everybody that have expired.
    """
    now = timezone.now()
    Ticket.objects.filter(expires_at__lte=now).delete()
    if Ticket.objects.filter(user_id=user.pk).count() >= TICKETS_PER_USER:
        raise TooManyTicketsError
    text = secrets.token_urlsafe(32)
    ticket = Ticket.objects.create(
        digest=_digest(text),
        user_id=user.pk,
        credential_kind=credential.kind,
        credential_key=credential.key,
        execution_id=execution_id,
        expires_at=now + timedelta(seconds=TICKET_SECONDS),
    )
    return GivenTicket(text, ticket.expires_at)


def take_ticket(text: str) -> TakenTicket | None:
    """Use the ticket up; None if it is none, or used, or expired.

    Of all who try at once, in any process, one deletes the row: its is the ticket.
    """
    rows = Ticket.objects.filter(digest=_digest(text), expires_at__gt=timezone.now())
    ticket = rows.first()
    if ticket is None or not rows.delete()[0]:
        return None
    kind = CredentialKind(ticket.credential_kind)
    return TakenTicket(Credential(kind, ticket.credential_key), ticket.execution_id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
