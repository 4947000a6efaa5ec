"""The demo user of a local database: may look into everything, cancel and terminate runs."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.db.models import Q

from executions.tokens import create_token

FILE_NAME = "demo-login.json"
USERNAME = "demo"


@dataclass(frozen=True, slots=True)
class DemoLogin:
    username: str
    password: str


def ensure_demo_login(data_dir: Path, *, database_is_ours: bool) -> DemoLogin | None:
    """The demo user's login, kept in `data_dir` for this user alone and used again.

    None when the database, being `database_is_ours` False, has a user of that name who was
    not made from here: somebody's account is left as it is.
    """
    kept = _kept_login(data_dir)
    with transaction.atomic():
        user = User.objects.select_for_update().filter(username=USERNAME).first()
        if user is not None and kept is None and not database_is_ours:
            return None
        login = kept or _new_login(data_dir)
        user = user or User(username=USERNAME)
        user.is_active, user.is_staff, user.is_superuser = True, True, False
        if not user.check_password(login.password):
            user.set_password(login.password)
        user.save()
        user.user_permissions.set(
            Permission.objects.filter(
                Q(codename__startswith="view_")
                | Q(codename__in=("cancel_execution", "terminate_execution")),
                content_type__app_label="executions",
            )
        )
    return login


def demo_token(lifetime: timedelta) -> str:
    """A token of the demo user's, for what asks in their name while it starts."""
    return create_token(User.objects.get(username=USERNAME), lifetime).text


def _kept_login(data_dir: Path) -> DemoLogin | None:
    try:
        kept = json.loads((data_dir / FILE_NAME).read_text(encoding="utf-8"))
        return DemoLogin(str(kept["username"]), str(kept["password"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _new_login(data_dir: Path) -> DemoLogin:
    login = DemoLogin(USERNAME, secrets.token_urlsafe(12))
    path = data_dir / FILE_NAME
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"username": login.username, "password": login.password}, file)
        file.write("\n")
    return login
