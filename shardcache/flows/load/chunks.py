"""How many keys go through an exchange at once, so that neither a voter's timeout nor another caller is hurt by the number of keys."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ("LOADED_AT_ONCE", "LOOKED_AT_ONCE", "parts")

T = TypeVar("T")
LOOKED_AT_ONCE = 1000  # keys in one look: two commands each
LOADED_AT_ONCE = 100  # keys in one call of a loader, claimed and filled together: some five scripts each


def parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, so many at a time."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])
