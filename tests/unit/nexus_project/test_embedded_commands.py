"""The commands around the embedded servers: what they say before and beside their work."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from daphne.management.commands.runserver import Command as DaphneRunserver
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from nexus_project.daphne_server import Server
from nexus_project.embedded.lock import DataDirLock
from nexus_project.management.commands.runserver import Command as Runserver
from nexus_project.management.telling import Teller


@pytest.mark.parametrize("command", ["up", "services", "runserver"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code in (0, None)
    assert "NEXUS_DATA_DIR" in capsys.readouterr().out


def test_services_with_nothing_to_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_URL", "redis://own")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "own:7233")
    with pytest.raises(CommandError, match="nothing to run"):
        call_command("services")


def test_services_in_a_directory_in_use_says_who_uses_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    monkeypatch.setenv("VALKEY_URL", "")
    settings.NEXUS_DATA_DIR = tmp_path
    held = DataDirLock(tmp_path, "manage.py up")
    with pytest.raises(CommandError, match=r"already running .*manage\.py up"):
        call_command("services")
    held.release()


def test_up_with_its_port_in_use_starts_nothing(settings: Settings, tmp_path: Path) -> None:
    settings.NEXUS_DATA_DIR = tmp_path
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings.NEXUS_PORT = taken.getsockname()[1]
        with pytest.raises(CommandError, match="Set NEXUS_PORT"):
            call_command("up")
    assert not (tmp_path / "logs").exists()


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> str:
    """What runserver says on standard error, and that it goes on to serve."""
    served: list[str] = []
    monkeypatch.setattr(DaphneRunserver, "inner_run", lambda *_, **__: served.append("served"))
    settings.VALKEY_URL = valkey_url
    errors = io.StringIO()
    Runserver(stderr=errors, no_color=True).inner_run()
    assert served == ["served"]
    return errors.getvalue()


def test_runserver_without_valkey_says_so_with_the_remedy_and_serves(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = run(settings, monkeypatch, f"unix://{tmp_path}/nobody.sock")
    assert "nobody.sock" in said
    assert "manage.py services" in said
    assert "VALKEY_URL" in said


def test_runserver_with_valkey_says_nothing_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nexus_project.management.commands.runserver.unreachable_because", lambda url: None
    )
    assert run(settings, monkeypatch, "redis://fine") == ""


def test_runserver_is_the_one_with_back_pressure_and_our_limits() -> None:
    assert Runserver.server_cls is Server
    options = Runserver().create_parser("manage.py", "runserver").parse_args([])
    assert options.websocket_max_message_size == 65536
    assert options.websocket_max_frame_size == 65536


def test_reader_that_has_gone_does_not_stop_what_is_told() -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    broken = Broken()
    Teller(broken)("still")
    assert broken.getvalue() == "still\n"
