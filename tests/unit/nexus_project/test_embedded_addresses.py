"""The record of where embedded servers listen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexus_project.embedded.addresses import Addresses, forget, record, recorded

BOTH = Addresses("unix:///tmp/valkey.sock", "127.0.0.1:7233")


@pytest.mark.parametrize("addresses", [BOTH, Addresses(), Addresses(valkey_url="unix:///a b")])
def test_what_was_recorded_is_read(tmp_path: Path, addresses: Addresses) -> None:
    record(tmp_path / "new", addresses)
    assert recorded(tmp_path / "new") == addresses


def test_a_record_is_replaced_and_leaves_no_draft(tmp_path: Path) -> None:
    record(tmp_path, Addresses())
    record(tmp_path, BOTH)
    assert recorded(tmp_path) == BOTH
    assert [each.name for each in tmp_path.iterdir()] == ["embedded.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"valkey_url": 7, "temporal_address": ""}']
)
def test_an_unreadable_record_means_no_servers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "embedded.json").write_bytes(content)
    assert recorded(tmp_path) == Addresses()


def test_no_record_means_no_servers(tmp_path: Path) -> None:
    assert recorded(tmp_path / "nowhere") == Addresses()


def test_a_forgotten_record_is_gone_and_may_be_forgotten_again(tmp_path: Path) -> None:
    record(tmp_path, BOTH)
    forget(tmp_path)
    forget(tmp_path)
    assert recorded(tmp_path) == Addresses()


def test_settings_can_read_it_without_anything_installed() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "import nexus_project.embedded.addresses as module; print(module.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "nexus_project.embedded.addresses\n", done.stderr
