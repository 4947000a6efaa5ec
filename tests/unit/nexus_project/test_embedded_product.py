"""What `manage.py up` decides: addresses, who may read, what children are told, what it says."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from pytest_django.fixtures import Settings

from executions.api.authentication import user_of_token
from nexus_project.embedded.addresses import Addresses
from nexus_project.embedded.asking import Answer, PortInUseError, ask, require_free_port
from nexus_project.embedded.demo import DemoLogin, demo_token, ensure_demo_login
from nexus_project.embedded.places import Places, is_loopback, is_wildcard
from nexus_project.embedded.product import (
    Product,
    child_environment,
    is_expected,
    reading_is_open,
)
from nexus_project.embedded.welcome import welcome

LOCAL = Places("127.0.0.1", 8000)
LOGIN = DemoLogin("demo", "pass word")


def product(host: str = "127.0.0.1", **changes: Any) -> Product:
    usual = Product(Places(host, 8000), open_reading=True, login=LOGIN, example="run-1")
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("host", "loopback", "wildcard", "base"),
    [
        ("127.0.0.1", True, False, "http://127.0.0.1:80"),
        ("127.9.9.9", True, False, "http://127.9.9.9:80"),
        ("localhost", True, False, "http://localhost:80"),
        ("::1", True, False, "http://[::1]:80"),
        ("0.0.0.0", False, True, "http://127.0.0.1:80"),  # noqa: S104
        ("::", False, True, "http://[::1]:80"),
        ("", False, True, "http://127.0.0.1:80"),
        ("192.0.2.7", False, False, "http://192.0.2.7:80"),
        ("nexus.example", False, False, "http://nexus.example:80"),
    ],
)
def test_host_decides_who_reaches_it_and_how(
    host: str, loopback: bool, wildcard: bool, base: str
) -> None:
    assert is_loopback(host) is loopback
    assert is_wildcard(host) is wildcard
    assert Places(host, 80).base == base


def test_addresses_of_an_execution() -> None:
    base = "127.0.0.1:8000/api/v1"
    assert LOCAL.execution("a") == f"http://{base}/executions/a?include=activities"
    assert LOCAL.stream("a") == f"ws://{base}/ws/executions/a"


@pytest.mark.parametrize(
    ("host", "allowed_host", "given", "is_open"),
    [
        ("127.0.0.1", "localhost", None, True),
        ("127.0.0.1", "localhost", True, True),
        ("127.0.0.1", "localhost", False, False),
        ("127.0.0.1", "nexus.example", None, False),
        ("127.0.0.1", "nexus.example", True, False),
        ("0.0.0.0", "localhost", None, False),  # noqa: S104
        ("0.0.0.0", "localhost", True, False),  # noqa: S104
    ],
)
def test_reading_is_open_only_where_nobody_else_comes_and_unless_told_otherwise(
    host: str,
    allowed_host: str,
    given: bool | None,
    is_open: bool,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    settings.ALLOWED_HOSTS = [allowed_host]
    monkeypatch.delenv("NEXUS_OPEN_READING", raising=False)
    if given is not None:
        monkeypatch.setenv("NEXUS_OPEN_READING", str(given))
        settings.NEXUS_OPEN_READING = given
    assert reading_is_open(host) is is_open


def test_children_are_told_where_the_servers_are_and_who_may_read(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.delenv("NEXUS_ALLOWED_HOSTS", raising=False)
    told = child_environment(Path("/data"), LOCAL, Addresses("unix:///v", "t:1"), True)
    assert told["VALKEY_URL"] == "unix:///v"
    assert told["TEMPORAL_ADDRESS"] == "t:1"
    assert told["NEXUS_DATA_DIR"] == "/data"
    assert told["NEXUS_OPEN_READING"] == "1"
    assert told["PYTHONPATH"] == f"{settings.BASE_DIR}{os.pathsep}/theirs"
    assert "NEXUS_ALLOWED_HOSTS" not in told


def test_children_keep_servers_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_URL", "redis://own")
    told = child_environment(Path("/data"), LOCAL, Addresses(), False)
    assert told["VALKEY_URL"] == "redis://own"
    assert told["NEXUS_OPEN_READING"] == "0"


def test_host_of_its_own_is_allowed_unless_the_user_says_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NEXUS_ALLOWED_HOSTS", raising=False)
    outside = Places("192.0.2.7", 8000)
    told = child_environment(Path("/data"), outside, Addresses(), False)
    assert told["NEXUS_ALLOWED_HOSTS"] == "127.0.0.1,localhost,192.0.2.7"
    monkeypatch.setenv("NEXUS_ALLOWED_HOSTS", "nexus.example")
    told = child_environment(Path("/data"), outside, Addresses(), False)
    assert told["NEXUS_ALLOWED_HOSTS"] == "nexus.example"


@pytest.mark.parametrize(
    ("answer", "shown_to", "expected"),
    [
        (Answer(200, {"execution_id": "run-1"}), product(), True),
        (Answer(200, {"execution_id": "run-2"}), product(), False),
        (Answer(200, {"results": []}), product(example=None), True),
        (Answer(200), product(), False),
        (Answer(404, {"detail": "no"}), product(), False),
        (Answer(0), product(example=None), False),
        (Answer(401), product(), False),
        (Answer(401), product(open_reading=False), False),
        (Answer(401), product(open_reading=False, login=None), True),
    ],
)
def test_only_the_example_itself_shows_that_it_works_where_it_can_be_seen(
    answer: Answer, shown_to: Product, expected: bool
) -> None:
    assert is_expected(answer, shown_to.example, shown_to) is expected


def test_welcome_says_once_that_it_is_ready_and_where_to_look() -> None:
    lines = welcome(product(), Path.cwd(), Path.cwd() / "var" / "logs")
    assert lines.count("Nexus is ready at http://127.0.0.1:8000") == 1
    told = "\n".join(lines)
    assert LOCAL.execution("run-1") in told
    assert f"workflow-stream-viewer.py {LOCAL.stream('run-1')}" in told
    assert "user demo, password pass word" in told
    assert "var/logs/" in told
    assert "open to anyone on this machine" in told


def test_welcome_without_an_example_or_a_login_of_ours() -> None:
    told = "\n".join(welcome(product(example=None, login=None), Path("/p"), Path("/l")))
    assert "ws://" not in told
    assert "your own account" in told


@pytest.mark.parametrize(
    ("host", "open_reading", "words"),
    [
        ("127.0.0.1", False, ["needs a login"]),
        ("192.0.2.7", False, ["needs a login", "other machines"]),
        ("0.0.0.0", False, ["needs a login", "other machines", "NEXUS_ALLOWED_HOSTS"]),  # noqa: S104
    ],
)
def test_welcome_says_who_needs_a_login_and_why(
    host: str, open_reading: bool, words: list[str]
) -> None:
    told = "\n".join(welcome(product(host, open_reading=open_reading), Path("/p"), Path("/l")))
    assert [word for word in words if word not in told] == []
    assert "open to anyone" not in told


def test_port_in_use_names_the_remedy_and_a_free_one_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = Places("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(PortInUseError, match="Set NEXUS_PORT to a free port"):
            require_free_port(places)
    require_free_port(places)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_number_that_is_no_port_is_told(port: int) -> None:
    with pytest.raises(PortInUseError, match="from 1 to 65535"):
        require_free_port(Places("127.0.0.1", port))


def test_host_that_is_not_of_this_machine_is_told() -> None:
    with pytest.raises(PortInUseError, match="NEXUS_HOST"):
        require_free_port(Places("192.0.2.7", 8000))


def test_nobody_answering_is_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert ask(Places("127.0.0.1", port), "/", "a token") == Answer(0)


@pytest.mark.django_db
def test_demo_user_may_look_and_act_on_runs_and_nothing_else(tmp_path: Path) -> None:
    login = ensure_demo_login(tmp_path, database_is_ours=True)
    assert login is not None
    user = User.objects.get(username=login.username)
    assert user.check_password(login.password)
    assert (user.is_staff, user.is_superuser) == (True, False)
    names = {permission.split(".")[1] for permission in user.get_all_permissions()}
    assert "view_execution" in names
    acting = {name for name in names if not name.startswith("view_")}
    assert acting == {"cancel_execution", "terminate_execution"}
    assert (tmp_path / "demo-login.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.django_db
def test_demo_users_token_is_theirs_and_short_lived(tmp_path: Path) -> None:
    ensure_demo_login(tmp_path, database_is_ours=True)
    holder = user_of_token(demo_token(timedelta(minutes=4)))
    assert holder is not None
    assert holder.user.get_username() == "demo"
    assert holder.token.expiry - timezone.now() <= timedelta(minutes=4)


@pytest.mark.django_db
def test_demo_login_is_kept_and_taken_again_even_in_a_new_database(tmp_path: Path) -> None:
    first = ensure_demo_login(tmp_path, database_is_ours=True)
    assert ensure_demo_login(tmp_path, database_is_ours=True) == first
    User.objects.all().delete()
    assert ensure_demo_login(tmp_path, database_is_ours=False) == first


@pytest.mark.django_db
def test_demo_user_that_was_given_more_has_it_taken_back(tmp_path: Path) -> None:
    ensure_demo_login(tmp_path, database_is_ours=True)
    user = User.objects.get()
    user.is_superuser = True
    user.save()
    user.user_permissions.add(Permission.objects.get(codename="add_user"))
    ensure_demo_login(tmp_path, database_is_ours=True)
    user = User.objects.get()
    assert not user.is_superuser
    assert not user.has_perm("auth.add_user")


@pytest.mark.django_db
@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"username": "demo"})])
def test_lost_login_is_made_anew_in_our_own_database(tmp_path: Path, content: str | None) -> None:
    first = ensure_demo_login(tmp_path, database_is_ours=True)
    (tmp_path / "demo-login.json").unlink()
    if content is not None:
        (tmp_path / "demo-login.json").write_text(content)
    second = ensure_demo_login(tmp_path, database_is_ours=True)
    assert second is not None
    assert second != first
    assert User.objects.get().check_password(second.password)


@pytest.mark.django_db
def test_somebodys_account_of_that_name_in_their_database_is_left_as_it_is(tmp_path: Path) -> None:
    User.objects.create_superuser("demo", password="theirs")
    assert ensure_demo_login(tmp_path, database_is_ours=False) is None
    user = User.objects.get()
    assert user.check_password("theirs")
    assert user.is_superuser
