"""manage.py create_token: a token for a program, made by whoever may run commands here."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executions.tokens import MOST_DAYS, TokenLifetimeError, TooManyTokensError, create_token


class Command(BaseCommand):
    help = (
        "Makes a token with which a program does what the user may, and prints it, alone, this "
        "once: `Authorization: Token nexus_...` in its requests."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--days", type=int, metavar="N", help="how long it lives; default: as long as it may"
        )

    def handle(self, *, username: str, days: int | None, **options: Any) -> None:
        users = get_user_model()
        user = users.objects.filter(**{users.USERNAME_FIELD: username}).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        if not user.is_active:
            raise CommandError(f"The user {username!r} is not active: a token would let in nobody.")
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--days is a whole number from 1 to {MOST_DAYS}.")
        try:
            token = create_token(user, None if days is None else timedelta(days=days))
        except (TokenLifetimeError, TooManyTokensError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(token.text)
