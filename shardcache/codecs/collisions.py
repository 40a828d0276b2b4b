"""Members of one set or dict whose hashes collide, perhaps chosen so by an attacker.

Adding a member compares it with those of the same hash that are there, so n of them cost n² / 2
comparisons. str and bytes are hashed with a secret; the hash of an int is its rest modulo 2**61 -
1, that of a UUID, a Decimal, a tuple or a frozenset follows from such, and it takes nothing to make
a million that are alike. msgpack's own ints and floats have 64 bits, so that not even a hundred of
them can be.

The bound is on members with one and the same hash. Members of different hashes that visit the same
places of the table can be found too, by trying: that is slower for an attacker, and not
covered here.
"""

from collections import Counter
from collections.abc import Collection

from shardcache.errors import DamagedPayload

__all__ = ("MOST_ALIKE", "SALTED", "check_hashes", "crowd")

MOST_ALIKE = 256  # so 128 comparisons for each member in the mean, whatever the payload
SALTED: frozenset[type] = frozenset({str, bytes})


def crowd(members: Collection[object]) -> int:
    """Return how many members share one hash, where that is more than `MOST_ALIKE`; else 0.

    No two members are compared.
    """
    if len(members) <= MOST_ALIKE or SALTED.issuperset(map(type, members)):
        return 0
    hashes = list(map(hash, members))
    if len(hashes) - len(set(hashes)) < MOST_ALIKE:
        return 0
    most = max(Counter(hashes).values())
    return most if most > MOST_ALIKE else 0


def check_hashes(members: Collection[object]) -> None:
    """Raise `DamagedPayload` if too many of the members share one hash."""
    alike = crowd(members)
    if alike:
        raise DamagedPayload(
            f"{alike} members of a set or dict share one hash; allowed are {MOST_ALIKE}"
        )
