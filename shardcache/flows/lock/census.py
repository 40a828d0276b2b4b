"""The list of locks: a walk over the lock keys of each shard, for the operator."""

from shardcache.errors import ShardError
from shardcache.flows.lock.inspection import VoterState, voter_state_of
from shardcache.flows.lock.lock_plan import LockKeys
from shardcache.flows.lock.scripts import LOOK
from shardcache.flows.scan import page, pattern
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.keys import KeySpace
from shardcache.resp import Command

__all__ = ("Census", "held_locks_flow")

Census = dict[bytes, dict[int, VoterState | ShardError]]
"""For each lock, by its wire key, what each shard has that has its key."""

FAMILY = b"lock"


def held_locks_flow(shards: int, space: KeySpace) -> Flow[tuple[Census, dict[int, ShardError]]]:
    """Return the locks of a namespace by their wire keys, and the shards that failed.

    The list is not of one moment: a lock that is taken or released during the walk may be in it or
    not. The servers look at all their keys, 500 in each step; each step has the deadline of a call.
    """
    found: Census = {}
    out: dict[int, ShardError] = {}
    for shard in range(shards):
        cursor = None
        while cursor != 0:
            cursor, keys, error = yield from page(
                shard, cursor or 0, pattern(space.internals + FAMILY + b":", b"*")
            )
            wires = [wire for wire in (space.wire_of(FAMILY, key) for key in keys) if wire]
            if wires and error is None:
                error = yield from _look(shard, wires, space, found)
            if error is not None:
                out[shard] = error
                break
    return found, out


def _look(
    shard: int, wires: list[bytes], space: KeySpace, found: Census
) -> Flow[ShardError | None]:
    """Note in ``found`` what one shard has of these locks."""
    commands: list[Command] = [(b"EVAL", LOOK, b"4", *LockKeys.of(wire, space)) for wire in wires]
    [outcome] = yield from exchange([Batch(shard, commands, True)])
    if isinstance(outcome, ShardError):
        return outcome
    for wire, reply in zip(wires, outcome, strict=True):
        seen = reply if isinstance(reply, ShardError) else voter_state_of(reply)
        # Without a token, the lock was released a moment ago.
        if isinstance(seen, ShardError) or seen.token is not None:
            found.setdefault(wire, {})[shard] = seen
    return None
