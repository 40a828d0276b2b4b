"""Walking over every key of a namespace: SCAN on each shard, in steps, never KEYS."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.keys import INTERNAL, is_own, literal
from shardcache.resp import Command, Reply

__all__ = ("Page", "fill_token_pattern", "flush", "page", "pattern", "wipe")

COUNT = 500  # keys that a server looks at per step


SlotsOf = Callable[[list[bytes]], list[int] | None]
"""`Topology.slots_of`."""


class Page(NamedTuple):
    """One step of a walk over one shard."""

    cursor: int  # where to go on; 0 when the shard is done
    keys: list[bytes]
    error: ShardError | None


def pattern(prefix: bytes, match: bytes) -> bytes:
    """Return a glob for ``match`` within a prefix that is taken literally."""
    return literal(prefix) + match


def fill_token_pattern(prefix: bytes, wires: bytes = b"") -> bytes:
    """Return a glob for the fill tokens (`KeySpace.fill_token`) below the namespace ``prefix``.

    ``wires``: a glob of wire keys: only tokens that end with such a key; more may fit, and a load
        that is invalidated without need is only not stored. Default: all.
    """
    every = literal(prefix) + b"*" + INTERNAL + b"load-token:*"
    return every + wires + b"*" if wires else every


def _scan(cursor: int, glob: bytes) -> Command:
    return (b"SCAN", b"%d" % cursor, b"MATCH", glob, b"COUNT", b"%d" % COUNT)


def page(shard: int, cursor: int, glob: bytes) -> Flow[Page]:
    """Return the next keys of one shard."""
    [outcome] = yield from exchange([Batch(shard, [_scan(cursor, glob)], True)])
    reply = outcome if isinstance(outcome, ShardError) else outcome[0]
    if isinstance(reply, ShardError):
        return Page(0, [], reply)
    return Page(int(reply[0]), list(reply[1]), None)


def wipe(
    shards: Sequence[int],
    glob: bytes,
    fill_tokens: bytes | None = None,
    slots_of: SlotsOf = lambda _: None,
) -> Flow[tuple[int, list[ShardError]]]:
    """Delete each key that matches, on all shards at once; return how many, and the errors.

    The library's own keys stay: locks are not values. Running loads whose fill tokens match
    ``fill_tokens`` are invalidated first: what they store, they have stored before the walk over
    the keys begins.
    """
    failed: dict[int, ShardError] = {}
    if fill_tokens is not None:
        yield from _wipe(shards, fill_tokens, failed, slots_of, own=True)
    count = yield from _wipe(
        [shard for shard in shards if shard not in failed], glob, failed, slots_of, own=False
    )
    return count, list(failed.values())


def _wipe(
    shards: Iterable[int],
    glob: bytes,
    failed: dict[int, ShardError],
    slots_of: SlotsOf,
    *,
    own: bool,
) -> Flow[int]:
    # A shard is done when it has no cursor any more, and no keys that are still to be deleted.
    cursors = dict.fromkeys(shards, 0)
    found: dict[int, list[bytes]] = {}
    count = 0
    while cursors or found:
        # One exchange deletes the keys of the page before, and asks for the next page.
        batches = [
            Batch(
                shard,
                _unlinks(found.get(shard, []), slots_of)
                + ([_scan(cursors[shard], glob)] if shard in cursors else []),
                True,
            )
            for shard in {**cursors, **found}
        ]
        outcomes = yield from exchange(batches)
        deleting, found = found, {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            shard = batch.shard
            replies: list[Reply] = [outcome] if isinstance(outcome, ShardError) else outcome
            if shard in deleting:
                deleted = replies[:-1] if shard in cursors else replies
                count += sum(reply for reply in deleted if not isinstance(reply, ShardError))
            # After an error the walk over this shard ends; the others go on.
            error = next((reply for reply in replies if isinstance(reply, ShardError)), None)
            if error is not None:
                failed.setdefault(shard, error)
                cursors.pop(shard, None)
                continue
            if shard in cursors:
                cursor, keys = replies[-1]
                cursors[shard] = int(cursor)
                if not cursors[shard]:
                    del cursors[shard]
                keys = [key for key in keys if own or not is_own(key)]
                if keys:
                    found[shard] = keys
    return count


def _unlinks(keys: list[bytes], slots_of: SlotsOf) -> list[Command]:
    """Return the commands that delete keys: one, or in a cluster one for each slot."""
    slots = slots_of(keys)
    if slots is None:
        return [(b"UNLINK", *keys)] if keys else []
    by_slot: dict[int, list[bytes]] = {}
    for slot, key in zip(slots, keys, strict=True):
        by_slot.setdefault(slot, []).append(key)
    return [(b"UNLINK", *found) for found in by_slot.values()]


def flush(shards: Sequence[int]) -> Flow[tuple[int, list[ShardError]]]:
    """Empty the database of each shard; return 0, since nothing counts the keys, and the errors."""
    outcomes = yield from exchange(
        [Batch(shard, [(b"FLUSHDB", b"ASYNC")], True) for shard in shards]
    )
    replies = [outcome if isinstance(outcome, ShardError) else outcome[0] for outcome in outcomes]
    return 0, [reply for reply in replies if isinstance(reply, ShardError)]
