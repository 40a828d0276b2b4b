"""How many keys go through one step at once, so that neither a voter's timeout nor another caller is hurt by the number of keys."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ("BULK_PATIENCE", "LOOKED_AT_ONCE", "SENT_AT_ONCE", "chunked", "lock_ms_of")

T = TypeVar("T")
LOOKED_AT_ONCE = 1000  # keys in one look: two commands each
SENT_AT_ONCE = 100  # keys in one exchange of a load: some two scripts each
# Times the client's timeout: how long a server may take for one such exchange of many. A machine that is so busy that one
# in a hundred exchanges takes longer than the timeout would lose one part or another of a large load otherwise.
BULK_PATIENCE = 3
# What claiming, renewing and storing one key of a batch may take on a machine that is very busy; and the most that others may have to
# wait for a loader that died.
_LOCK_MS, _LONGEST_LOCK_MS = 10, 60_000


def lock_ms_of(keys: int) -> int:
    """Return the least ttl of the load locks of so many keys: all must be renewed before the first of them ends."""
    return min(_LOCK_MS * keys, _LONGEST_LOCK_MS)


def chunked(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, so many at a time."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])
