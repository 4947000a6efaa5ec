"""Taking many items a few at a time, as queries and events must. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

IDS_PER_QUERY: Final = 500
"""Databases limit the parameters of a statement."""


def batches(items: Sequence[ItemT], size: int = IDS_PER_QUERY) -> Iterator[Sequence[ItemT]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
