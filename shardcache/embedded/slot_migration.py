"""How slots with their keys go from one master to another while both serve.

Theory of operation
-------------------
From IMPORTING and MIGRATING on, a slot lies on two nodes. The old owner answers for the keys that
it still has, and with ASK for all others; the new one answers for a key only after ASKING. MIGRATE
moves keys, each at once for both nodes. Whatever the old owner has, it alone answers for, so it is
the copy that counts, and MIGRATE replaces another. When no key is left, SETSLOT NODE gives the slot
away: at the new owner first, since it then announces it under a new epoch, of which the others hear
anyway.
(https://redis.io/docs/latest/commands/cluster-setslot/)

A migration that was broken off can be begun anew: SETSLOT may be said twice. Many slots go through
each step together, since each command alone would be a round trip.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from shardcache.embedded.server_connection import ServerConnection
from shardcache.errors import CommandRefused, WritesRefused

__all__ = ("MigrationStep", "migration_steps")

MIGRATE_TIMEOUT = 5000  # milliseconds that the new owner has for its answer
# Valkey has its replicas confirm each SETSLOT within two seconds; a busy machine may be slower.
TRIES = 5
CONNECTIONS = 16  # so that as many of these wait for replicas at a time


class MigrationStep(NamedTuple):
    """What has just been done to one slot or more.

    ``name``: in this order: ``importing`` (the new owner takes keys after ASKING), ``migrating``
        (the old owner sends ASK for keys that it does not have), ``keys`` (some keys have moved;
        any number of times), ``target``, ``source``, ``others`` (the new owner, the old one, and
        all other masters have been told who owns them).
    ``slots``: their numbers.
    ``keys``: how many keys have moved so far.
    """

    name: Literal["importing", "migrating", "keys", "target", "source", "others"]
    slots: tuple[int, ...]
    keys: int


def migration_steps(
    slots: tuple[int, ...],
    source: ServerConnection,
    target: ServerConnection,
    others: Sequence[ServerConnection],
    *,
    batch: int,
) -> Iterator[MigrationStep]:
    """Move slots, and yield each step after it was taken.

    ``slots``: their numbers.
    ``source``, ``target``: the old and the new owner.
    ``others``: the other masters.
    ``batch``: how many keys one MIGRATE moves.
    """
    giver, taker = source.text("CLUSTER", "MYID"), target.text("CLUSTER", "MYID")
    # From here on the slots lie on both.
    _set_slots(target, slots, "IMPORTING", giver)
    yield MigrationStep("importing", slots, 0)
    _set_slots(source, slots, "MIGRATING", taker)
    yield MigrationStep("migrating", slots, 0)
    moved, left = 0, slots
    while left:
        found = source.ask_all([("CLUSTER", "GETKEYSINSLOT", slot, batch) for slot in left])
        left = tuple(slot for slot, keys in zip(left, found, strict=True) if keys)
        for keys in filter(None, found):
            source.ask(
                *("MIGRATE", "127.0.0.1", target.server.port, "", 0, MIGRATE_TIMEOUT, "REPLACE"),
                *(() if target.password is None else ("AUTH", target.password)),
                *("KEYS", *keys),
            )
            moved += len(keys)
            yield MigrationStep("keys", slots, moved)
    # From here on they are the new owner's.
    _set_slots(target, slots, "NODE", taker)
    yield MigrationStep("target", slots, moved)
    # A master that has no slot any more may be a replica by now, and refuse.
    with suppress(CommandRefused, WritesRefused):
        _set_slots(source, slots, "NODE", taker)
    yield MigrationStep("source", slots, moved)
    for other in others:
        with suppress(CommandRefused, WritesRefused):
            _set_slots(other, slots, "NODE", taker)
    yield MigrationStep("others", slots, moved)


def _set_slots(node: ServerConnection, slots: tuple[int, ...], state: str, other: str) -> None:
    commands = [("CLUSTER", "SETSLOT", slot, state, other) for slot in slots]
    for left in reversed(range(TRIES)):
        try:
            node.ask_all(commands, connections=CONNECTIONS)
        except WritesRefused:
            if not left:
                raise
        else:
            return
