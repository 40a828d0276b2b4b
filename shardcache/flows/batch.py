"""Many keys at once: one exchange per shard, all shards together."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from shardcache.errors import ShardError, WrongType
from shardcache.flows.operations import INVALIDATE, NUMBER, TEXT, Request
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.placement import Placement
from shardcache.resp import Command, ErrorReply, Op, Reply

__all__ = ("CHUNK", "Pass", "delete", "fetch", "fetch_told", "queue", "store")

Pass = (
    Callable[[bytes], bytes] | None
)  # `KeySpace.load_pass`: what to take away with a key so that loads of it are void
CHUNK = (
    1000  # keys in one MGET or UNLINK: a server serves nobody else while it works on one command
)


def _by_shard(owners: Sequence[int]) -> dict[int, list[int]]:
    """Return the positions of each shard's keys."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for position, owner in enumerate(owners):
        groups[owner].append(position)
    return groups


def _chunks(verb: bytes, keys: list[bytes]) -> list[Command]:
    if len(keys) <= CHUNK:
        return [(verb, *keys)]
    return [(verb, *keys[at : at + CHUNK]) for at in range(0, len(keys), CHUNK)]


def _invalidations(wires: list[bytes], invalidate: Pass) -> list[Command]:
    """Return what voids loads of these keys."""
    return [] if invalidate is None else _chunks(b"UNLINK", list(map(invalidate, wires)))


def _unlinks(wires: list[bytes], invalidate: Pass) -> list[Command]:
    return [*_invalidations(wires, invalidate), *_chunks(b"UNLINK", wires)]


def fetch(placement: Placement, wires: list[bytes]) -> Flow[list[Reply]]:
    """Return for each key what is stored: bytes, None, or the ShardError that hides it."""
    groups = _by_shard(placement.owner_indexes(wires))
    outcomes = yield from exchange(
        [
            Batch(
                shard,
                _chunks(b"MGET", [wires[at] for at in positions]),
                True,
                partial(_lists, len(positions)),
                reads=True,
            )
            for shard, positions in groups.items()
        ]
    )
    raws: list[Reply] = [None] * len(wires)
    for positions, outcome in zip(groups.values(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            for at in positions:
                raws[at] = outcome
            continue
        start = 0
        for reply in outcome:
            chunk = positions if len(outcome) == 1 else positions[start : start + CHUNK]
            start += CHUNK
            if isinstance(reply, ShardError):
                for at in chunk:
                    raws[at] = reply
            else:
                for at, raw in zip(chunk, reply, strict=True):
                    raws[at] = raw
    return raws


def fetch_told(placement: Placement, wires: list[bytes]) -> Flow[list[Reply]]:
    """Return what `fetch` does, with a `WrongType` for a key that holds a list, a hash and the like.

    MGET answers nil for those as for absent ones, so the types of the keys that it did not find are asked for: one more exchange,
    if there are any.
    """
    raws = yield from fetch(placement, wires)
    missing = [at for at, raw in enumerate(raws) if raw is None]
    if not missing:
        return raws
    groups = _by_shard(placement.owner_indexes([wires[at] for at in missing]))
    outcomes = yield from exchange(
        [
            Batch(
                shard, [(b"TYPE", wires[missing[at]]) for at in positions], True, _texts, reads=True
            )
            for shard, positions in groups.items()
        ]
    )
    for (shard, positions), outcome in zip(groups.items(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            continue  # what MGET said stands
        for at, kind in zip(positions, outcome, strict=True):
            if isinstance(kind, bytes) and kind not in (b"none", b"string"):
                reason = f"the key holds a {kind.decode(errors='replace')}, which this cache has not put there"
                raws[missing[at]] = WrongType(placement.nodes[shard].name, reason, "WRONGTYPE")
    return raws


def store(
    placement: Placement,
    wires: list[bytes],
    raws: list[bytes],
    ms: int | None,
    *,
    invalidate: Pass = None,
) -> Flow[dict[int, ShardError]]:
    """Store each value under its key; return the errors, by position. ``ms`` 0 deletes instead; ``void`` voids loads of them."""
    groups = _by_shard(placement.owner_indexes(wires))
    batches = []
    for shard, positions in groups.items():
        commands: list[Command]
        if ms is None:
            commands = [(b"SET", wires[at], raws[at]) for at in positions]
        elif ms:
            life = b"%d" % ms
            commands = [(b"SET", wires[at], raws[at], b"PX", life) for at in positions]
        else:
            commands = [(b"UNLINK", wires[at]) for at in positions]
        batches.append(
            Batch(
                shard,
                [*_invalidations([wires[at] for at in positions], invalidate), *commands],
                True,
            )
        )
    outcomes = yield from exchange(batches)
    failed: dict[int, ShardError] = {}
    for positions, outcome in zip(groups.values(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            failed.update(dict.fromkeys(positions, outcome))
        else:
            voided, stored = outcome[: -len(positions)], outcome[-len(positions) :]
            refusal = next((reply for reply in voided if isinstance(reply, ShardError)), None)
            for at, reply in zip(positions, stored, strict=True):
                error = reply if isinstance(reply, ShardError) else refusal
                if error is not None:
                    failed[at] = error
    return failed


def delete(
    placement: Placement, wires: list[bytes], *, invalidate: Pass = None
) -> Flow[tuple[int, list[tuple[int, ShardError]]]]:
    """Delete the keys; return how many were there, and for each shard that failed its number of keys and why."""
    groups = _by_shard(placement.owner_indexes(wires))
    outcomes = yield from exchange(
        [
            Batch(shard, _unlinks([wires[at] for at in positions], invalidate), True, _numbers)
            for shard, positions in groups.items()
        ]
    )
    count = 0
    failed: list[tuple[int, ShardError]] = []
    for positions, outcome in zip(groups.values(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            failed.append((len(positions), outcome))
            continue
        half = 0 if invalidate is None else len(outcome) // 2
        refusal = next((reply for reply in outcome[:half] if isinstance(reply, ShardError)), None)
        for at, reply in enumerate(outcome[half:]):
            if refusal is not None:
                failed.append((min(CHUNK, len(positions) - at * CHUNK), refusal))
            elif isinstance(reply, ShardError):
                failed.append((min(CHUNK, len(positions) - at * CHUNK), reply))
            else:
                count += reply
    return count, failed


def queue(
    placement: Placement, requests: Sequence[Request], *, part: bool = False
) -> Flow[list[tuple[int, Any]]]:
    """Send requests of any kind, each shard's in their order; return for each its shard and reply or ShardError.

    ``part``: they are a part of a whole whose parts are sent one behind the other, and are to stay so.
    """
    owners = placement.owner_indexes([request.key for request in requests])
    groups = _by_shard(owners)
    outcomes = yield from exchange(
        [
            _batch(shard, [requests[at] for at in positions], bulk=part)
            for shard, positions in groups.items()
        ]
    )
    answers: list[Any] = [None] * len(requests)
    for positions, outcome in zip(groups.values(), outcomes, strict=True):
        replies: list[Any]
        if isinstance(outcome, ShardError):
            replies = [outcome] * len(positions)
        else:
            left = iter(outcome)
            replies = [_own(left, requests[at]) for at in positions]
        for at, reply in zip(positions, replies, strict=True):
            answers[at] = reply
    return list(zip(owners, answers, strict=True))


def _own(replies: Iterator[Reply], request: Request) -> Reply:
    """Return the reply to the request's own command."""
    voided = next(replies) if request.invalidates is not None else None
    reply = next(replies)
    return voided if isinstance(voided, ShardError) and not isinstance(reply, ShardError) else reply


def _batch(shard: int, requests: list[Request], *, bulk: bool) -> Batch:
    ops: list[Op] = []
    commands: list[Command] = []
    for request in requests:
        if request.invalidates is not None:
            ops.append(INVALIDATE)
            commands.append(request.invalidates)
        ops.append(request.op)
        commands.append(request.command)

    def fit(replies: list[Reply]) -> bool:
        return all(
            reply.__class__ in op.reply_types or op.accepts(reply)
            for op, reply in zip(ops, replies, strict=True)
        )

    idempotent = all(op.idempotent for op in ops)
    return Batch(shard, commands, idempotent, fit, bulk=bulk, reads=all(op.reads for op in ops))


def _lists(keys: int, replies: list[Reply]) -> bool:
    """Whether the replies are those to the MGETs of that many keys, `CHUNK` at a time."""
    for reply in replies:
        if reply.__class__ is not ErrorReply and not (
            reply.__class__ is list
            and len(reply) == min(keys, CHUNK)
            and TEXT.issuperset(map(type, reply))
        ):
            return False
        keys -= CHUNK
    return True


def _texts(replies: list[Reply]) -> bool:
    return all(reply.__class__ in TEXT for reply in replies)


def _numbers(replies: list[Reply]) -> bool:
    return all(reply.__class__ in NUMBER for reply in replies)
