"""What ends access closes the sockets that stand on it, in every web process, within seconds."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken

from streaming.access.notices import hear_notices
from tests import settings
from tests.integration.socket_callers import (
    Handshake,
    a_ticket,
    a_token,
    a_viewer,
    by_ticket,
    by_token,
    cookie,
    session_of,
)
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.truth import nobody_listening
from tests.viewers import Viewer, Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

EXECUTION_ID = "watched"


@pytest.fixture(autouse=True)
def watched_execution(valkey: ValkeyServer) -> Iterator[None]:
    with nobody_listening():
        an_execution("fetch", execution_id=EXECUTION_ID)
        yield


@pytest.fixture(scope="module")
def other_web(guarded_web: WebServer) -> Iterator[WebServer]:
    """A second web process on the same database and Valkey."""
    with web_running(settings.SESSION_DIR / "other-web.log", session_environment()) as server:
        yield server


class Caller:
    """A user with everything by which it is let in, and what takes it away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.user = a_viewer(name, may_view=False)
        self.group = Group.objects.create(name=f"{name}s")
        self.client: Client = session_of(self.user)
        self.session_key = self.client.cookies["sessionid"].value
        self.token = a_token(self.user)

    @property
    def permission(self) -> Permission:
        return Permission.objects.get(codename="view_execution")

    def permitted(self) -> "Caller":
        self.user.user_permissions.add(self.permission)
        return self

    def permitted_by_group(self) -> "Caller":
        self.group.permissions.add(self.permission)
        self.user.groups.add(self.group)
        return self

    def session(self) -> Handshake:
        return Handshake(cookie(self.session_key))

    def ticket(self) -> Handshake:
        return by_ticket(a_ticket(self.user))


def log_out(caller: Caller) -> None:
    caller.client.logout()


def end_session(caller: Caller) -> None:
    Session.objects.filter(pk=caller.session_key).delete()


def expire_session(caller: Caller) -> None:
    Session.objects.filter(pk=caller.session_key).update(expire_date=timezone.now())


def change_password(caller: Caller) -> None:
    caller.user.set_password("another one, 9")
    caller.user.save()


def revoke_token(caller: Caller) -> None:
    AuthToken.objects.filter(user=caller.user).delete()


def expire_token(caller: Caller) -> None:
    AuthToken.objects.filter(user=caller.user).update(expiry=timezone.now())


def deactivate(caller: Caller) -> None:
    caller.user.is_active = False
    caller.user.save()


def deactivate_silently(caller: Caller) -> None:
    User.objects.filter(pk=caller.user.pk).update(is_active=False)


def delete_user(caller: Caller) -> None:
    caller.user.delete()


def take_permission(caller: Caller) -> None:
    caller.user.user_permissions.remove(caller.permission)


def take_group_permission(caller: Caller) -> None:
    caller.group.permissions.clear()


def leave_group(caller: Caller) -> None:
    caller.group.user_set.remove(caller.user)


def delete_group(caller: Caller) -> None:
    caller.group.delete()


def by_its_token(caller: Caller) -> Handshake:
    return by_token(caller.token)


Opens = Callable[[Caller], Handshake]
Ends = Callable[[Caller], None]

REVOCATIONS: dict[str, tuple[Callable[[Caller], Caller], Opens, Ends, int]] = {
    "user permission": (Caller.permitted, Caller.session, take_permission, 4404),
    "group permission": (Caller.permitted_by_group, by_its_token, take_group_permission, 4404),
    "group membership": (Caller.permitted_by_group, Caller.session, leave_group, 4404),
    "deleted group": (Caller.permitted_by_group, by_its_token, delete_group, 4404),
    "permission, by ticket": (Caller.permitted, Caller.ticket, take_permission, 4404),
    "deactivated user": (Caller.permitted, by_its_token, deactivate, 4401),
    "user deactivated in SQL": (Caller.permitted, Caller.session, deactivate_silently, 4401),
    "deleted user": (Caller.permitted, by_its_token, delete_user, 4401),
    "deleted user, by session": (Caller.permitted, Caller.session, delete_user, 4401),
    "logged out": (Caller.permitted, Caller.session, log_out, 4401),
    "deleted session": (Caller.permitted, Caller.session, end_session, 4401),
    "expired session": (Caller.permitted, Caller.session, expire_session, 4401),
    "changed password": (Caller.permitted, Caller.session, change_password, 4401),
    "revoked token": (Caller.permitted, by_its_token, revoke_token, 4401),
    "expired token": (Caller.permitted, by_its_token, expire_token, 4401),
    "revoked token, by ticket": (Caller.permitted, Caller.ticket, revoke_token, 4401),
}


@pytest.mark.parametrize("valkey_is", ["there", "away"])
def test_everything_that_ends_access_closes_its_sockets_in_both_processes_and_no_others(
    guarded_web: WebServer,
    other_web: WebServer,
    valkey: ValkeyServer,
    viewers: Viewers,
    valkey_is: str,
) -> None:
    if valkey_is == "away":
        valkey.kill()
    stay = Caller("stays").permitted().permitted_by_group()
    opened: dict[str, list[Viewer]] = {}
    callers = {
        name: prepared(Caller(f"user-{number}"))
        for number, (name, (prepared, *_)) in enumerate(REVOCATIONS.items())
    }
    for name, (_, opens, _, _) in REVOCATIONS.items():
        for web in (guarded_web, other_web):
            handshake = opens(callers[name])
            opened.setdefault(name, []).append(
                viewers.open(web.stream(EXECUTION_ID), handshake.headers, handshake.subprotocols)
            )
    staying = [
        viewers.open(web.stream(EXECUTION_ID), handshake.headers)
        for web in (guarded_web, other_web)
        for handshake in (stay.session(), by_token(stay.token))
    ]
    for viewer in [*staying, *(each for two in opened.values() for each in two)]:
        viewer.wait_for_messages(1)
    for name, (_, _, ends, _) in REVOCATIONS.items():
        ends(callers[name])
    for name, (_, _, _, code) in REVOCATIONS.items():
        for viewer in opened[name]:
            assert (name, viewer.wait_for_close()) == (name, code)
            assert viewer.close_reason
    assert [viewer.close_code for viewer in staying] == [None] * 4


def test_change_that_was_rolled_back_closes_nothing_and_the_commit_does(
    guarded_web: WebServer, viewers: Viewers
) -> None:
    caller = Caller("olga").permitted()
    viewer = viewers.open(guarded_web.stream(EXECUTION_ID), by_token(caller.token).headers)
    viewer.wait_for_messages(1)
    another = Caller("another")
    with heard_notices() as heard:
        with transaction.atomic():
            take_permission(caller)
            transaction.set_rollback(True)
        revoke_token(another)
        wait_until(lambda: heard == [None, [str(another.user.pk)]])
        assert viewer.close_code is None
        with transaction.atomic():
            take_permission(caller)
        wait_until(lambda: heard == [None, [str(another.user.pk)], [str(caller.user.pk)]])
    assert viewer.wait_for_close() == 4404


@contextmanager
def heard_notices() -> Iterator[list[list[str] | None]]:
    """What a process hears of changed access: users' ids, None for all (as when it begins)."""
    wait_until(nothing_is_being_told)
    heard: list[list[str] | None] = []
    loop = asyncio.new_event_loop()

    def take(users: Iterable[str] | None) -> None:
        heard.append(None if users is None else list(users))

    hearing = loop.create_task(hear_notices(take))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        wait_until(lambda: heard == [None])
        yield heard
    finally:
        loop.call_soon_threadsafe(hearing.cancel)
        wait_until(hearing.done)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


TOLD_OF: dict[str, tuple[Ends, bool]] = {
    "user permission taken": (take_permission, False),
    "user permissions cleared": (lambda caller: caller.user.user_permissions.clear(), False),
    "permission taken from its side": (
        lambda caller: caller.permission.user_set.remove(caller.user),
        False,
    ),
    "permission taken from all": (lambda caller: caller.permission.user_set.clear(), True),
    "group left": (leave_group, False),
    "group emptied": (lambda caller: caller.group.user_set.clear(), True),
    "group permission taken": (take_group_permission, True),
    "group renamed": (lambda caller: caller.group.save(), True),
    "group deleted": (delete_group, True),
    "user saved": (deactivate, False),
    "user deleted": (delete_user, False),
    "token revoked": (revoke_token, False),
    "logged out": (log_out, False),
    "session deleted": (end_session, False),
}


@pytest.mark.parametrize("name", TOLD_OF)
def test_each_change_is_told_to_other_processes_at_once(name: str) -> None:
    change, of_all = TOLD_OF[name]
    caller = Caller("olga").permitted().permitted_by_group()
    told = None if of_all else [str(caller.user.pk)]
    with heard_notices() as heard:
        change(caller)
        wait_until(lambda: told in heard[1:])


def test_what_changes_nobodys_access_is_not_told() -> None:
    caller = Caller("olga").permitted()
    Session.objects.create(
        session_key="ended", session_data="x", expire_date=timezone.now() - timedelta(days=1)
    )
    with heard_notices() as heard:
        caller.user.save(update_fields=["last_login"])
        a_viewer("new", may_view=False)
        a_token(caller.user)
        call_command("clearsessions")
        Session.objects.create(
            session_key="anonymous",
            session_data=caller.client.session.encode({}),
            expire_date=timezone.now() + timedelta(days=1),
        ).delete()
        an_execution("fetch", execution_id="another")
        take_permission(caller)
        wait_until(lambda: len(heard) > 1)
        assert heard == [None, [str(caller.user.pk)]]


def test_who_takes_access_away_neither_waits_nor_fails_while_valkey_is_stopped(
    valkey: ValkeyServer,
) -> None:
    caller = Caller("olga").permitted()
    wait_until(nothing_is_being_told)
    with valkey.stopped():
        take_permission(caller)
        assert not nothing_is_being_told()
    wait_until(nothing_is_being_told)


def nothing_is_being_told() -> bool:
    return all(thread.name != "nexus-access-notices" for thread in threading.enumerate())
