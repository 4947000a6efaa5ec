"""Telling all server processes that somebody's access has changed, and hearing it.

Over the channel layer, which delivers at most once: whoever misses a notice finds out by
looking (`streaming.access.watch`). Who changes access neither waits nor fails because of it.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, Final

import structlog
from channels.layers import get_channel_layer
from django.apps import apps
from django.contrib.auth import SESSION_KEY, get_user_model
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import ModelSignal, m2m_changed, post_delete, post_save
from django.utils import timezone
from knox.models import get_token_model

GROUP: Final = "nexus-access"

SEND_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 5.0
USERS_PER_NOTICE: Final = 1_000
"""If more than this many users wait to be told of, it is told of all."""

log = structlog.get_logger(__name__)


class AccessNotices:
    """Sends notices from a thread of its own, so that nobody waits. Thread-safe."""

    def __init__(self, send: Callable[[list[str] | None], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._users: set[str] | None = set()
        self._thread: threading.Thread | None = None

    def tell(self, user_key: str | None) -> None:
        """Tell of the user, by its id as text; None: of everybody."""
        with self._lock:
            if user_key is None or self._users is None:
                self._users = None
            else:
                self._users.add(user_key)
                if len(self._users) > USERS_PER_NOTICE:
                    self._users = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work_off, name="nexus-access-notices", daemon=True
                )
                self._thread.start()

    def _work_off(self) -> None:
        while True:
            with self._lock:
                users, self._users = self._users, set()
                if users is not None and not users:
                    self._thread = None
                    return
            try:
                self._send(None if users is None else sorted(users))
            except Exception as error:  # it was at most once anyway
                log.info("access_notice_lost", error=str(error) or type(error).__name__)


@cache
def notices() -> AccessNotices:
    """This process' notices."""
    return AccessNotices(_send)


def _send(users: list[str] | None) -> None:
    asyncio.run(_send_to_group(users))


async def _send_to_group(users: list[str] | None) -> None:
    layer = get_channel_layer()
    if layer is not None:
        async with asyncio.timeout(SEND_SECONDS):
            await layer.group_send(GROUP, {"type": "access.changed", "users": users})


async def hear_notices(on_notice: Callable[[Iterable[str] | None], None]) -> None:
    """Call back for each notice, with the users' ids as text, None for all.

    And with None when hearing begins: what was told before is missed.
    """
    layer = get_channel_layer()
    if layer is None:
        return
    while True:
        try:
            channel = await layer.new_channel()
            await layer.group_add(GROUP, channel)
            on_notice(None)
            while True:
                message = await layer.receive(channel)
                on_notice(message["users"])
        except Exception as error:  # whatever it was, hearing again is tried
            log.warning("access_notices_lost", error=str(error) or type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)


# What changes somebody's access


def connect_signals() -> None:
    """Have notices sent for whatever changes access in this process, after its commit."""
    user = get_user_model()
    permission = apps.get_model("auth.Permission")
    group = apps.get_model("auth.Group")
    token = get_token_model()

    def connect(signal: ModelSignal, receiver: Callable[..., None], sender: type[Model]) -> None:
        signal.connect(receiver, sender=sender, dispatch_uid=f"{__name__}.{receiver.__name__}")

    connect(post_save, _user_saved, user)
    connect(post_delete, _user_deleted, user)
    for model in (group, permission):
        connect(post_save, _saved_for_all, model)
        connect(post_delete, _changed_for_all, model)
    connect(m2m_changed, _permissions_of_groups_changed, group.permissions.through)
    for name in ("groups", "user_permissions"):
        if (field := getattr(user, name, None)) is not None:
            connect(m2m_changed, _users_changed, field.through)
    connect(post_save, _token_changed, token)
    connect(post_delete, _token_changed, token)
    if apps.is_installed("django.contrib.sessions"):
        connect(post_delete, _session_deleted, apps.get_model("sessions.Session"))


def _tell_after_commit(using: str, *user_keys: str | None) -> None:
    for user_key in user_keys:
        transaction.on_commit(partial(notices().tell, user_key), using=using, robust=True)


def _user_saved(
    instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any
) -> None:
    # A login only notes when it was.
    if not created and set(update_fields or ("all",)) != {"last_login"}:
        _tell_after_commit(using, str(instance.pk))


def _user_deleted(instance: Any, using: str, **_: Any) -> None:
    _tell_after_commit(using, str(instance.pk))


def _saved_for_all(created: bool, using: str, **_: Any) -> None:
    if not created:
        _tell_after_commit(using, None)


def _changed_for_all(using: str, **_: Any) -> None:
    _tell_after_commit(using, None)


def _permissions_of_groups_changed(action: str, using: str, **_: Any) -> None:
    if action.startswith("post_"):
        _tell_after_commit(using, None)


def _users_changed(
    instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, using: str, **_: Any
) -> None:
    if not action.startswith("post_"):
        return
    if not reverse:
        _tell_after_commit(using, str(instance.pk))
    elif pk_set is None:
        _tell_after_commit(using, None)
    else:
        _tell_after_commit(using, *(str(key) for key in pk_set))


def _token_changed(instance: Any, using: str, created: bool = False, **_: Any) -> None:
    if not created:
        _tell_after_commit(using, str(instance.user_id))


def _session_deleted(instance: Any, using: str, **_: Any) -> None:
    # `clearsessions` deletes what had ended before.
    if instance.expire_date > timezone.now():
        user_key = instance.get_decoded().get(SESSION_KEY)
        if user_key is not None:
            _tell_after_commit(using, str(user_key))
