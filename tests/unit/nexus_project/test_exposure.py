"""What others than this machine could reach, and with what the server does not start then."""

import subprocess
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from nexus_project.exposure import (
    UnsafeExposureError,
    dangers_of,
    reachable_by,
    refuse_unsafe_exposure,
    tcp_endpoint,
)

GOOD_KEY = "".join(chr(ord("a") + number % 26) for number in range(50))
SAFE: dict[str, Any] = {
    "debug": False,
    "secret_key": GOOD_KEY,
    "open_reading": False,
    "allowed_hosts": ["nexus.example"],
}
EVERYWHERE = "0.0.0.0"  # noqa: S104
OUTSIDE = tcp_endpoint(EVERYWHERE, 8000)
LOCAL = tcp_endpoint("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("endpoint", "is_reachable"),
    [
        (LOCAL, False),
        (tcp_endpoint("127.9.9.9", 1), False),
        (tcp_endpoint("localhost", 1), False),
        (tcp_endpoint("::1", 1), False),
        (tcp_endpoint("[::1]", 1), False),
        (OUTSIDE, True),
        (tcp_endpoint("::", 1), True),
        (tcp_endpoint("", 1), True),
        (tcp_endpoint("192.0.2.7", 1), True),
        (tcp_endpoint("nexus.example", 1), True),
        ("tcp:8000", True),
        ("tcp:8000:interface=127.0.0.1", False),
        (r"tcp6:8000:interface=\:\:1", False),
        ("ssl:443:privateKey=key.pem:certKey=crt.pem", True),
        ("ssl:443:interface=127.0.0.1:privateKey=key.pem", False),
        ("unix:/run/nexus.sock", False),
        ("fd:fileno=5", True),
        ("systemd:domain=INET:index=0", True),
    ],
)
def test_what_is_bound_to_anything_but_loopback_is_reachable(
    endpoint: str, is_reachable: bool
) -> None:
    assert reachable_by([endpoint], [], []) == (
        [f"it listens on {endpoint}"] if is_reachable else []
    )


@pytest.mark.parametrize(
    ("host", "is_reachable"),
    [
        ("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("x.localhost", False),
        ("*", True), ("nexus.example", True), (".example", True), ("localhost.example", True),
        ("192.0.2.7", True), ("", True),
    ],
)  # fmt: skip
def test_a_name_of_another_host_means_a_proxy_to_others(host: str, is_reachable: bool) -> None:
    assert bool(reachable_by([LOCAL], [host], [])) is is_reachable


@pytest.mark.parametrize(
    ("origin", "is_reachable"),
    [
        ("http://localhost:3000", False), ("http://127.0.0.1", False), ("http://[::1]:1", False),
        ("https://app.example", True), ("https://*.example", True), ("nonsense", True),
    ],
)  # fmt: skip
def test_pages_of_other_hosts_reach_the_server_by_their_visitors(
    origin: str, is_reachable: bool
) -> None:
    assert bool(reachable_by([LOCAL], [], [origin])) is is_reachable


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, None),
        ({"debug": True}, "NEXUS_DEBUG"),
        ({"secret_key": GOOD_KEY[:49]}, "NEXUS_SECRET_KEY"),
        ({"secret_key": "abcd" * 20}, "NEXUS_SECRET_KEY"),
        ({"secret_key": f"django-insecure-{GOOD_KEY}"}, "NEXUS_SECRET_KEY"),
        ({"open_reading": True}, "NEXUS_OPEN_READING"),
        ({"allowed_hosts": ["nexus.example", "*"]}, "NEXUS_ALLOWED_HOSTS"),
    ],
)
def test_each_danger_is_named(change: dict[str, Any], named: str | None) -> None:
    dangers = dangers_of(**{**SAFE, **change})
    assert [each.split()[0] for each in dangers] == ([] if named is None else [named])


@pytest.fixture
def dangerous(settings: Settings) -> Settings:
    settings.DEBUG = True
    settings.SECRET_KEY = "short"
    settings.NEXUS_OPEN_READING = True
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.CSRF_TRUSTED_ORIGINS = []
    return settings


def test_all_dangers_are_told_at_once_and_why_they_matter(dangerous: Settings) -> None:
    dangerous.ALLOWED_HOSTS = ["*"]
    with pytest.raises(UnsafeExposureError) as caught:
        refuse_unsafe_exposure([LOCAL, OUTSIDE])
    assert len(caught.value.dangers) == 4
    assert f"it listens on {OUTSIDE}" in str(caught.value)
    assert LOCAL not in str(caught.value)
    assert "NEXUS_ALLOWED_HOSTS names *" in str(caught.value)


def test_on_loopback_alone_everything_goes(dangerous: Settings) -> None:
    refuse_unsafe_exposure([LOCAL])


def test_what_is_safe_may_be_reached(dangerous: Settings) -> None:
    dangerous.DEBUG, dangerous.SECRET_KEY = False, GOOD_KEY
    refuse_unsafe_exposure([OUTSIDE], open_reading=False)
    with pytest.raises(UnsafeExposureError, match="NEXUS_OPEN_READING"):
        refuse_unsafe_exposure([OUTSIDE])


@pytest.mark.parametrize("use_reloader", [True, False])
def test_runserver_refuses(dangerous: Settings, use_reloader: bool) -> None:
    with pytest.raises(CommandError, match="does not start"):
        call_command("runserver", f"{EVERYWHERE}:0", use_reloader=use_reloader)


def test_up_refuses_before_it_starts_anything(
    dangerous: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    dangerous.NEXUS_HOST, dangerous.NEXUS_DATA_DIR = EVERYWHERE, tmp_path
    with pytest.raises(CommandError, match="does not start") as caught:
        call_command("up")
    assert "NEXUS_OPEN_READING" not in str(caught.value), "up closes reading by itself"
    assert not (tmp_path / "valkey").exists()


@pytest.mark.parametrize("binding", [["-b", EVERYWHERE, "-p", "0"], ["-e", "tcp:0"], ["--fd", "0"]])
def test_the_server_exits_with_1_and_its_reasons_alone(
    binding: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_DEBUG", "1")
    monkeypatch.setenv("NEXUS_OPEN_READING", "1")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nexus_project.settings")
    ended = subprocess.run(
        [sys.executable, "-m", "nexus_project.daphne_server", *binding, APPLICATION],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n  - ") == 2
    assert "NEXUS_DEBUG" in ended.stderr
    assert "NEXUS_OPEN_READING" in ended.stderr


APPLICATION = "nexus_project.asgi:application"
