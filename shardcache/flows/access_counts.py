"""How often each key of a shard is accessed, as a server with an LFU policy counts it."""

from collections.abc import Sequence
from typing import NamedTuple

from shardcache.errors import ShardError
from shardcache.flows import scan as sweep
from shardcache.flows.operations import NUMBER
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.keys import is_own
from shardcache.resp import Reply

__all__ = ("AccessCounts", "count_accesses")

_KINDS = NUMBER | {type(None)}


class AccessCounts(NamedTuple):
    """One step of a walk over one shard."""

    cursor: int  # where to go on; 0 when the shard is done
    counts: Sequence[tuple[int, bytes]]  # count and key
    error: ShardError | None


def count_accesses(shard: int, cursor: int, glob: bytes) -> Flow[AccessCounts]:
    """Return the next keys of one shard, each with what OBJECT FREQ says.

    ``shard``: the shard.
    ``cursor``: that of the step before; 0 at first.
    ``glob``: which keys.
    """
    cursor, found, error = yield from sweep.page(shard, cursor, glob)
    keys = [key for key in found if not is_own(key)]
    if error is not None or not keys:
        return AccessCounts(cursor, (), error)
    asked = [(b"OBJECT", b"FREQ", key) for key in keys]
    [outcome] = yield from exchange([Batch(shard, [*asked], True, _fits)])
    if isinstance(outcome, ShardError):
        return AccessCounts(0, (), outcome)
    # A key may be gone by now. A refusal is the same for all.
    refused = next((reply for reply in outcome if isinstance(reply, ShardError)), None)
    if refused is not None:
        return AccessCounts(0, (), refused)
    counts = [
        (count, key) for count, key in zip(outcome, keys, strict=True) if isinstance(count, int)
    ]
    return AccessCounts(cursor, counts, None)


def _fits(replies: list[Reply]) -> bool:
    return _KINDS.issuperset(map(type, replies))
