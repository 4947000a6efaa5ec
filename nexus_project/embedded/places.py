"""The addresses at which a Nexus of one host and port is found. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(host: str) -> bool:
    """Whether `host` means every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == ""


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses for people and for the first request; `host` is what the server is bound to."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """A host to connect to: a wildcard is not one."""
        if not is_wildcard(self.host):
            return self.host
        return "::1" if ":" in self.host else "127.0.0.1"

    @property
    def authority(self) -> str:
        host = self.reachable_host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        return f"http://{self.authority}"

    @property
    def admin(self) -> str:
        return f"{self.base}/admin/"

    def execution_path(self, execution_id: str) -> str:
        return f"/api/v1/executions/{execution_id}?include=activities"

    def execution(self, execution_id: str) -> str:
        return f"{self.base}{self.execution_path(execution_id)}"

    def stream(self, execution_id: str) -> str:
        return f"ws://{self.authority}/api/v1/ws/executions/{execution_id}"
