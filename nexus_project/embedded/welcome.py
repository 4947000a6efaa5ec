"""What people are told when everything answers. Pure."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from nexus_project.embedded.places import is_loopback, is_wildcard
from nexus_project.embedded.product import VIEWER, Product


def welcome(product: Product, project_dir: Path, logs_dir: Path) -> list[str]:
    """Lines that say where to look; the last but one says that Nexus is ready."""
    places = product.places
    lines = [""]
    if product.example is not None:
        stream = places.stream(product.example)
        viewer = [_near(Path(sys.executable)), _near(project_dir / VIEWER), stream]
        lines += [
            f"  Execution  {places.execution(product.example)}",
            f"  WebSocket  {stream}",
            f"  Viewer     {shlex.join(viewer)}",
        ]
    lines += [
        f"  Admin      {places.admin}  ({_login(product)})",
        f"  Logs       {_near(logs_dir)}{os.sep}",
        f"  Access     {_access(product)}",
        "",
        f"Nexus is ready at {places.base}",
        "Press Ctrl-C to stop it.",
    ]
    return lines


def _login(product: Product) -> str:
    if product.login is None:
        return "log in with your own account: the user demo of this database is not ours"
    return f"user {product.login.username}, password {product.login.password}"


def _access(product: Product) -> str:
    host = product.places.host
    if product.open_reading:
        return "reading is open to anyone on this machine, without a login"
    told = "reading needs a login"
    if not is_loopback(host):
        told += f", as {host} can be reached from other machines"
    if is_wildcard(host):
        told += "; name those it is reached by in NEXUS_ALLOWED_HOSTS"
    return told


def _near(path: Path) -> str:
    """`path` as seen from here, when it lies below; else as it is."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
