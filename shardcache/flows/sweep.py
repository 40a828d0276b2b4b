"""Walking over every key of a namespace: SCAN on each shard, in steps, never KEYS."""

from typing import NamedTuple

from shardcache.commands import Command, Reply
from shardcache.errors import ShardError
from shardcache.flows.requests import NUMBER
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.keys import INTERNAL, load_lock

__all__ = ("Page", "flush", "page", "pattern", "wipe")

COUNT = 500  # keys that a server looks at per step


class Page(NamedTuple):
    """One step of a walk over one shard."""

    cursor: int  # where to go on; 0 when the shard is done
    keys: list[bytes]
    error: ShardError | None


def pattern(prefix: bytes, match: bytes) -> bytes:
    """Return a glob for ``match`` within a prefix that is taken literally."""
    special = b"\\*?[]^"
    literal = b"".join(
        b"\\" + prefix[at : at + 1] if prefix[at] in special else prefix[at : at + 1] for at in range(len(prefix))
    )
    return literal + match


def _scan(cursor: int, glob: bytes) -> Command:
    return (b"SCAN", cursor, b"MATCH", glob, b"COUNT", COUNT)


def _pages(replies: list[Reply]) -> bool:
    """Whether the replies are a count, or a cursor with keys."""
    return all(
        reply.__class__ in NUMBER
        or (reply.__class__ is list and len(reply) == 2 and reply[0].isdigit() and reply[1].__class__ is list)
        for reply in replies
    )


def page(shard: int, cursor: int, glob: bytes) -> Flow[Page]:
    """Return the next keys of one shard."""
    [outcome] = yield from exchange([Batch(shard, [_scan(cursor, glob)], True, _pages)])
    reply = outcome if isinstance(outcome, ShardError) else outcome[0]
    if isinstance(reply, ShardError):
        return Page(0, [], reply)
    return Page(int(reply[0]), list(reply[1]), None)


def _unlinks(keys: list[bytes], *, void: bool = False) -> list[Command]:
    voids: list[Command] = [(b"UNLINK", *map(load_lock, keys))] if void else []
    return [(b"UNLINK", *keys), *voids]


def wipe(shards: int, glob: bytes, *, void: bool = False) -> Flow[tuple[int, list[ShardError]]]:
    """Delete every key that matches, on all shards at once; return how many, and which shards failed.

    The library's own keys stay: locks are not values. ``void`` voids loads of what is deleted.
    """
    cursors = dict.fromkeys(range(shards), 0)
    found: dict[int, list[bytes]] = {}
    count = 0
    failed: list[ShardError] = []
    while cursors or found:
        batches = [
            Batch(
                shard,
                (_unlinks(found[shard], void=void) if found.get(shard) else [])
                + ([_scan(cursors[shard], glob)] if shard in cursors else []),
                True,
                _pages,
            )
            for shard in {**cursors, **found}
        ]
        outcomes = yield from exchange(batches)
        deleting, found = found, {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            shard = batch.shard
            replies: list[Reply] = [outcome] if isinstance(outcome, ShardError) else outcome
            if shard in deleting and not isinstance(replies[0], ShardError):
                count += replies[0]  # what voids comes behind it
            error = next((reply for reply in replies if isinstance(reply, ShardError)), None)
            if error is not None:
                failed.append(error)
                cursors.pop(shard, None)
                continue
            if shard in cursors:
                cursor, keys = replies[-1]
                cursors[shard] = int(cursor)
                if not cursors[shard]:
                    del cursors[shard]
                keys = [key for key in keys if not key.startswith(INTERNAL)]
                if keys:
                    found[shard] = keys
    return count, failed


def flush(shards: int) -> Flow[list[ShardError]]:
    """Empty the whole database of every shard; return which shards failed."""
    outcomes = yield from exchange([Batch(shard, [(b"FLUSHDB", b"ASYNC")], True) for shard in range(shards)])
    replies = [outcome if isinstance(outcome, ShardError) else outcome[0] for outcome in outcomes]
    return [reply for reply in replies if isinstance(reply, ShardError)]
