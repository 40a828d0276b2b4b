"""The slots of a Redis Cluster, and for each a short text that lies in it.

A hash tag lies in the slot ``CRC16(tag) mod 16384``, with the CRC16 that is called XMODEM
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model).
"""

from binascii import crc_hqx
from functools import lru_cache
from itertools import count

__all__ = ("SLOTS", "slot_of_tag", "tag_of")

SLOTS = 16384
_BLOCK = 4096


def slot_of_tag(tag: bytes) -> int:
    """Return the slot of a text that is hashed as a whole: a hash tag, or a key without one."""
    return crc_hqx(tag, 0) % SLOTS


@lru_cache(SLOTS)
def tag_of(slot: int) -> bytes:
    """Return the smallest number that, as a hash tag, lies in this slot: one to six digits.

    It is part of names that are stored (docs/wire-format.md), so it is the same for ever.
    """
    if not 0 <= slot < SLOTS:
        raise ValueError(f"a slot is a whole number from 0 to {SLOTS - 1}, got {slot!r:.80}")
    return next(tag for block in count() if (tag := _smallest(block).get(slot)))


@lru_cache(None)
def _smallest(block: int) -> dict[int, bytes]:
    """Return for each slot the smallest number of a block of numbers, if one lies in it.

    27 blocks have a number for each slot. A block takes about 2 ms, once.
    """
    found: dict[int, bytes] = {}
    for number in range(block * _BLOCK, (block + 1) * _BLOCK):
        tag = b"%d" % number
        found.setdefault(crc_hqx(tag, 0) % SLOTS, tag)
    return found
