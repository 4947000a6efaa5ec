"""Caddy in front of several web processes, with the very configuration that README.md tells."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.readme import code_blocks
from tests.servers import end_with_parent

WEB_HEADER: Final = "Nexus-Web"
"""In each answer: the web process that gave it, as host:port."""

READY_SECONDS: Final = 20.0

_SITE: Final = "nexus.example"
_WEBS: Final = "10.1.2.3:8000 10.1.2.4:8000"
"""What stands in the README for the site's address and the web processes'."""


@contextmanager
def caddy_running(directory: Path, webs: Sequence[int]) -> Iterator[int]:
    """Run it in front of the web processes at these ports of this machine; its own port."""
    directory.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    configuration = directory / "Caddyfile"
    configuration.write_text(_configuration(port, webs))
    log_path = directory / "caddy.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("caddy"), "run",
             "--config", configuration, "--adapter", "caddyfile"],
            # It keeps a few files of its own in its user's home.
            env=os.environ | {"HOME": str(directory), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
            cwd=directory, stdout=log, stderr=log, preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Caddy did not start:\n{log_path.read_text()}")
            time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


def _configuration(port: int, webs: Sequence[int]) -> str:
    told = next(block for block in code_blocks("At scale") if block.startswith(_SITE))
    site = told.replace(_SITE, f"http://127.0.0.1:{port}").replace(
        _WEBS, " ".join(f"127.0.0.1:{web}" for web in webs)
    )
    return (
        "{\n\tadmin off\n\tpersist_config off\n}\n"
        + site.removesuffix("}")
        + f"\tbind 127.0.0.1\n\theader >{WEB_HEADER} {{http.reverse_proxy.upstream.hostport}}\n}}\n"
    )


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False
