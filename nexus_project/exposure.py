"""What a server must not have when others than this machine reach it: it refuses to start."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from django.conf import settings

from nexus_project.embedded.places import is_loopback

SECRET_KEY_CHARACTERS = 50
SECRET_KEY_DIFFERENT_CHARACTERS = 5


class UnsafeExposureError(Exception):
    """The server would be reached from elsewhere with settings that are for this machine alone."""

    def __init__(self, reachable: Iterable[str], dangers: Iterable[str]) -> None:
        self.dangers = tuple(dangers)
        super().__init__(
            f"Nexus does not start: it can be reached from elsewhere ({'; '.join(reachable)}), and"
            + "".join(f"\n  - {danger}" for danger in self.dangers)
        )


def refuse_unsafe_exposure(endpoints: Sequence[str], *, open_reading: bool | None = None) -> None:
    """Raise UnsafeExposureError unless the settings are fit for whoever reaches `endpoints`.

    Endpoints are those of Daphne, in Twisted's notation. `open_reading` is the setting's where
    it is not given.
    """
    if open_reading is None:
        open_reading = getattr(settings, "NEXUS_OPEN_READING", False)
    reachable = reachable_by(endpoints, settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS)
    dangers = dangers_of(
        debug=settings.DEBUG,
        secret_key=settings.SECRET_KEY,
        open_reading=open_reading,
        allowed_hosts=settings.ALLOWED_HOSTS,
    )
    if reachable and dangers:
        raise UnsafeExposureError(reachable, dangers)


def reachable_by(
    endpoints: Iterable[str], allowed_hosts: Iterable[str], allowed_origins: Iterable[str]
) -> list[str]:
    """What of this lets others than this machine reach the server, for people; empty if nothing."""
    return [
        *(f"it listens on {each}" for each in endpoints if not _is_local(each)),
        *(f"NEXUS_ALLOWED_HOSTS names {each}" for each in allowed_hosts if not _is_this_host(each)),
        *(
            f"NEXUS_ALLOWED_ORIGINS names {each}"
            for each in allowed_origins
            if not _is_this_host(urlsplit(each).hostname or "")
        ),
    ]


def dangers_of(
    *, debug: bool, secret_key: str, open_reading: bool, allowed_hosts: Collection[str]
) -> list[str]:
    """What must not meet others, each with its remedy; empty if nothing."""
    dangers = []
    if debug:
        dangers.append("NEXUS_DEBUG is on: its pages show settings and code. Unset it.")
    if (
        len(secret_key) < SECRET_KEY_CHARACTERS
        or len(set(secret_key)) < SECRET_KEY_DIFFERENT_CHARACTERS
        or secret_key.startswith("django-insecure-")
    ):
        dangers.append(
            "NEXUS_SECRET_KEY can be guessed, and sessions forged. Unset it, for one that is "
            f"generated into the data directory, or set {SECRET_KEY_CHARACTERS} random characters "
            "or more."
        )
    if open_reading:
        dangers.append(
            "NEXUS_OPEN_READING lets everyone read everything. Unset it, or set it to 0."
        )
    if "*" in allowed_hosts:
        dangers.append(
            "NEXUS_ALLOWED_HOSTS has *, under which other sites' pages can ask in a visitor's "
            "name. Name the hosts that people use."
        )
    return dangers


def tcp_endpoint(host: str, port: int) -> str:
    """The endpoint of a host and a port, in Twisted's notation."""
    interface = host.strip("[]").replace(":", r"\:")
    return f"tcp:port={port}:interface={interface}"


def _is_local(endpoint: str) -> bool:
    kind, *arguments = re.split(r"(?<!\\):", endpoint)
    if kind == "unix":
        return True
    # Of what names no interface, such as an inherited socket, nothing is known.
    interfaces = [each for each in arguments if each.startswith("interface=")]
    return any(
        is_loopback(each.removeprefix("interface=").replace("\\", "")) for each in interfaces
    )


def _is_this_host(host: str) -> bool:
    return is_loopback(host.strip("[]")) or host.endswith(".localhost")
