"""Temporal's ids, names and types as the document can hold them. Pure."""

from executions.values import NAME_BYTES, storable_text


def fitted(name: str, ending: str = "") -> str:
    """The name, storable, with `ending` behind it; cut where both would be too long."""
    room = NAME_BYTES - len(ending.encode())
    return storable_text(name).encode()[:room].decode(errors="ignore") + ending
