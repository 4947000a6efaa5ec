"""Temporal's ids, names and types as the document can hold them. Pure."""

from typing import Final

from executions.identifiers import is_execution_id
from executions.values import NAME_BYTES, storable_text

UNNAMED: Final = "(unnamed)"
"""Stands for an id, name or type that Temporal left empty; the document accepts none."""


def fitted(name: str, ending: str = "") -> str:
    """The name, storable, with `ending` behind it; cut where both would be too long."""
    room = NAME_BYTES - len(ending.encode())
    return storable_text(name).encode()[:room].decode(errors="ignore") + ending


def named(name: str) -> str:
    """The name, fitted, or what stands for one that is empty."""
    return fitted(name) or UNNAMED


def linked(run_id: str) -> str | None:
    """The run's id as that of an execution; None where it cannot be one."""
    return run_id if is_execution_id(run_id) else None
