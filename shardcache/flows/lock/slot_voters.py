"""Voters on a Redis Cluster: a voter is a slot, whichever server has it at the moment.

Clients exclude each other only if all of them ask the same voters, and clients of a cluster have
seen different maps of it. So the voters follow from the name of the lock alone: five of 40 slots
that are the same for ever, a fifth of all slots apart. Where slots are shared out evenly, as they
usually are, they lie on five masters if there are so many, and never more than two on one.

A voter's keys carry its tag, so that they lie in its slot and move with it. Plans know nothing of
that: they have the keys of the lock, and for each voter the *number* of its slot, which no shard
has. `flows/voter_steps.py` puts the shard and the keys of the voter in their place.
"""

from collections.abc import Sequence

from shardcache.flows.lock.lock_plan import Voters
from shardcache.keys import INTERNAL
from shardcache.topology.slot_tags import SLOTS, tag_of
from shardcache.topology.slots import slot_of

__all__ = (
    "load_voter_slots",
    "lock_key",
    "name_of",
    "name_of_number",
    "number_of",
    "slot_of_number",
    "slots_as_voters",
    "voter_key",
    "voter_slots",
)

_VOTERS, _GROUPS = 5, 8
_FIRST = -16  # the number of slot 0: far from those of shards, and from what stands for none


def voter_slots(wire: bytes) -> tuple[int, ...]:
    """Return the slots that vote on the lock of this name."""
    group = slot_of(wire) % _GROUPS
    return tuple(
        (2 * (_GROUPS * at + group) + 1) * SLOTS // (2 * _GROUPS * _VOTERS) for at in range(_VOTERS)
    )


def load_voter_slots(wire: bytes) -> tuple[int, ...]:
    """Return the slots that vote on a load beside the key's own.

    They are those of a lock, without the one that is next to the key's own.
    """
    own = slot_of(wire)
    slots = voter_slots(wire)
    nearest = min(slots, key=lambda slot: min((slot - own) % SLOTS, (own - slot) % SLOTS))
    return tuple(slot for slot in slots if slot != nearest)


def number_of(slot: int) -> int:
    """Return the number that stands for a voter in the place of a shard's."""
    return _FIRST - slot


def slot_of_number(number: int) -> int | None:
    """Return the slot that a number stands for; None for that of a shard."""
    return _FIRST - number if number <= _FIRST else None


def name_of(slot: int) -> str:
    """Return the name of the voter of a slot."""
    return f"slot-{slot}"


def name_of_number(number: int) -> str:
    """Return the name of the voter that this number stands for."""
    return name_of(_FIRST - number)


def slots_as_voters(slots: Sequence[int]) -> Voters:
    """Return these slots as voters."""
    return Voters(tuple(map(number_of, slots)), tuple(map(name_of, slots)))


def voter_key(key: bytes, slot: int) -> bytes:
    """Return a key of a lock as the voter of a slot has it; a key of a value stays as it is."""
    begin = key.find(INTERNAL)
    if begin < 0:
        return key
    end = key.find(b":", begin + len(INTERNAL))
    end = len(key) if end < 0 else end
    return b"%b:{%b}%b" % (key[:end], tag_of(slot), key[end:])


def lock_key(key: bytes) -> bytes | None:
    """Return the key of a lock that `voter_key` has put a tag into; None if it has none."""
    end = key.find(b":{", key.find(INTERNAL) + len(INTERNAL))
    close = key.find(b"}", end)
    if end < 0 or close < 0:
        return None
    found = key[:end] + key[close + 1 :]
    return found if voter_key(found, slot_of(key)) == key else None
