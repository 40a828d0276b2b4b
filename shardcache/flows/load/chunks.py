"""How many keys go into one step, so that many keys delay neither a vote nor another caller."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ("BULK_PATIENCE", "LOOKED_AT_ONCE", "SENT_AT_ONCE", "chunked", "lock_ms_of")

T = TypeVar("T")
LOOKED_AT_ONCE = 1000  # keys in one read: two commands each
SENT_AT_ONCE = 100  # keys in one exchange of a load: about two scripts each
# How long a server may take for one such exchange of many, as a multiple of the client's timeout.
# With the timeout itself, a machine so busy that one in a hundred exchanges takes longer would
# lose some part of a large load.
BULK_PATIENCE = 3
# Milliseconds that claiming, renewing and storing one key of a batch may take on a very busy
# machine; and the longest time for which others may have to wait after a loader died.
_LOCK_MS, _LONGEST_LOCK_MS = 10, 60_000


def lock_ms_of(keys: int) -> int:
    """Return the least ttl, in ms, of the load locks of so many keys.

    All of them must be renewed before the first one ends.
    """
    return min(_LOCK_MS * keys, _LONGEST_LOCK_MS)


def chunked(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, ``size`` at a time."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])
