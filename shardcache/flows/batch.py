"""Many keys at once: one exchange per shard, all shards together.

The keys of one command lie in one slot, where the shards are a Redis Cluster.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from shardcache.errors import ShardError, WrongType
from shardcache.flows.operations import INVALIDATE, NUMBER, TEXT, Request
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome
from shardcache.per_key import (
    command_of,
    count_absent,
    pack_command,
    pack_gets,
    pack_sets,
    positions_of,
    put,
)
from shardcache.resp import Command, ErrorReply, Op, Reply
from shardcache.topology.current import CurrentTopology
from shardcache.topology.snapshot import Topology

__all__ = (
    "CHUNK",
    "Fetch",
    "FillTokensOf",
    "PlaceOfRead",
    "delete",
    "fetch",
    "fetch_told",
    "queue",
    "store",
)

# `KeySpace.fill_tokens`: what to delete with keys, so that loads of these are not stored; or None.
FillTokensOf = Callable[[list[bytes]], list[bytes]] | None
# Which shard is read from in the place of another: a replica of it, perhaps.
PlaceOfRead = Callable[[int], int]
Fetch = Callable[[Topology, list[bytes], PlaceOfRead], Flow[list[Reply]]]
# Keys in one MGET or UNLINK: a server serves no other client while it works on one command.
CHUNK = 1000
_NO_ERRORS: frozenset[type] = frozenset({bytes, int})


_Groups = dict[int, list[list[int]]]
"""For each shard the positions of its keys, in parts: one command each."""


def _parts(topology: Topology, wires: list[bytes]) -> _Groups:
    """Return for each shard the positions of its keys, in parts of `CHUNK` at most.

    In a Redis Cluster the keys of a part lie in one slot.
    """
    slots = topology.slots_of(wires)
    if slots is None:
        groups = positions_of(topology.owner_indexes(wires))
        return {shard: _cut(positions) for shard, positions in groups.items()}
    by_slot = positions_of(slots)
    parts: defaultdict[int, list[list[int]]] = defaultdict(list)
    for shard, part in zip(topology.shards_of(by_slot), by_slot.values(), strict=True):
        parts[shard] += (part,) if len(part) <= CHUNK else _cut(part)
    return parts


def _cut(positions: list[int]) -> list[list[int]]:
    if len(positions) <= CHUNK:
        return [positions]
    return [positions[at : at + CHUNK] for at in range(0, len(positions), CHUNK)]


def _commands(verb: bytes, keys: list[bytes], parts: list[list[int]]) -> list[Command]:
    return [command_of(verb, keys, part) for part in parts]


def _invalidations(tokens: list[bytes] | None, parts: list[list[int]]) -> list[Command]:
    """Return the commands that delete fill tokens, if there are any: one for each part."""
    return [] if tokens is None else _commands(b"UNLINK", tokens, parts)


def fetch(
    topology: Topology, wires: list[bytes], place: PlaceOfRead = lambda shard: shard
) -> Flow[list[Reply]]:
    """Return for each key what is stored: bytes, None, or the `ShardError` that hides it.

    ``topology``: names the shard of each key.
    ``wires``: the wire keys.
    ``place``: names the shard that is asked in the place of the key's own.
    """
    if topology.slots_of([]) is not None:
        return (yield from _fetch_each(topology, wires, place))
    # Step 1: one batch for each shard, of one MGET or more.
    groups = _parts(topology, wires)
    batches = []
    for shard, parts in groups.items():
        commands = _commands(b"MGET", wires, parts)
        packed = b"".join(map(pack_command, commands))
        fits = partial(_lists, list(map(len, parts)))
        batches.append(Batch(place(shard), commands, True, fits, reads=True, packed=packed))
    outcomes: list[Outcome] = yield Exchange(batches)
    # Step 2: put each value in the place of its key.
    raws: list[Reply] = [None] * len(wires)
    for parts, outcome in zip(groups.values(), outcomes, strict=True):
        replies = [outcome] * len(parts) if isinstance(outcome, ShardError) else outcome
        for part, reply in zip(parts, replies, strict=True):
            if isinstance(reply, ShardError):
                for at in part:
                    raws[at] = reply
            else:
                put(raws, part, reply)
    return raws


def _fetch_each(topology: Topology, wires: list[bytes], place: PlaceOfRead) -> Flow[list[Reply]]:
    """Do as `fetch` does in a Redis Cluster, where hardly two keys of a call lie in one slot.

    So there is one GET for each key: to sort the keys by their slots costs more than it saves.
    """
    groups = positions_of(topology.owner_indexes(wires))
    batches = []
    for shard, positions in groups.items():
        keys = [wires[at] for at in positions]
        commands: list[Command] = [(b"GET", key) for key in keys]
        packed = pack_gets(keys)
        batches.append(Batch(place(shard), commands, True, _texts, reads=True, packed=packed))
    outcomes: list[Outcome] = yield Exchange(batches)
    raws: list[Reply] = [None] * len(wires)
    for positions, outcome in zip(groups.values(), outcomes, strict=True):
        replies = [outcome] * len(positions) if isinstance(outcome, ShardError) else outcome
        for at, reply in zip(positions, replies, strict=True):
            # As MGET answers: a list or a hash is no value.
            raws[at] = None if reply.__class__ is WrongType else reply
    return raws


def fetch_told(
    current: CurrentTopology,
    wires: list[bytes],
    place: PlaceOfRead = lambda shard: shard,
    fetching: Fetch = fetch,
) -> Flow[list[Reply]]:
    """Return what `fetch` does, with a `WrongType` for a key with a list, a hash and the like.

    ``current``: holds the topology that names the shard of each key.
    ``wires``: the wire keys.
    ``place``: as for `fetch`.
    ``fetching``: `fetch`, or what takes its place.

    MGET answers nil for such a key, as for an absent one. So one more exchange asks for the types
    of the keys that it did not find, if there are any.
    """
    topology = current.now
    # Most often all keys are found, and that is all.
    raws = yield from fetching(topology, wires, place)
    missing = [at for at, raw in enumerate(raws) if raw is None]
    if not missing:
        return raws
    # The second exchange.
    groups = positions_of(topology.owner_indexes([wires[at] for at in missing]))
    outcomes: list[Outcome] = yield Exchange(
        [
            Batch(
                place(shard),
                [(b"TYPE", wires[missing[at]]) for at in positions],
                True,
                _texts,
                reads=True,
            )
            for shard, positions in groups.items()
        ]
    )
    for (shard, positions), outcome in zip(groups.items(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            continue  # the answer of MGET stays
        for at, kind in zip(positions, outcome, strict=True):
            if isinstance(kind, bytes) and kind not in (b"none", b"string"):
                found = kind.decode(errors="replace")
                reason = f"the key holds a {found}, which this cache has not put there"
                # Of now: a first call began before any node was known.
                raws[missing[at]] = WrongType(current.now.names[shard], reason, "WRONGTYPE")
    return raws


def store(
    topology: Topology,
    wires: list[bytes],
    raws: list[bytes],
    ms: int | None,
    *,
    invalidate: FillTokensOf = None,
) -> Flow[dict[int, ShardError]]:
    """Store each value under its key; return the errors by position.

    ``topology``: names the shard of each key.
    ``wires``: the wire keys.
    ``raws``: the encoded values.
    ``ms``: the ttl in milliseconds; None: no expiry; 0 deletes instead.
    ``invalidate``: names the fill tokens of keys, which are deleted before; None: loads go on.
    """
    # Step 1: one batch for each shard; what invalidates loads goes before the values.
    groups = _parts(topology, wires)
    tokens = None if invalidate is None else invalidate(wires)
    life = None if ms is None else b"%d" % ms
    batches = []
    for shard, parts in groups.items():
        positions = list(chain.from_iterable(parts))
        first = _invalidations(tokens, parts)
        commands: list[Command]
        if ms == 0:
            commands = [(b"UNLINK", wires[at]) for at in positions]
            batches.append(Batch(shard, [*first, *commands], True, _numbers))
            continue
        if life is None:
            commands = [(b"SET", wires[at], raws[at]) for at in positions]
        else:
            commands = [(b"SET", wires[at], raws[at], b"PX", life) for at in positions]
        packed = b"".join(map(pack_command, first)) + pack_sets(wires, raws, positions, life)
        fits = partial(_numbers_then_texts, len(first))
        batches.append(Batch(shard, [*first, *commands], True, fits, packed=packed))
    outcomes: list[Outcome] = yield Exchange(batches)
    # Step 2: a key has failed if its shard, its own command or the invalidation has.
    failed: dict[int, ShardError] = {}
    for parts, outcome in zip(groups.values(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            failed.update(dict.fromkeys(chain.from_iterable(parts), outcome))
            continue
        if set(map(type, outcome)) <= _NO_ERRORS:
            continue
        invalidations = [None] * len(parts) if invalidate is None else outcome[: len(parts)]
        stored = iter(outcome if invalidate is None else outcome[len(parts) :])
        for part, refusal in zip(parts, invalidations, strict=True):
            for at, reply in zip(part, stored, strict=False):
                error = reply if isinstance(reply, ShardError) else refusal
                if isinstance(error, ShardError):
                    failed[at] = error
    return failed


def delete(
    topology: Topology, wires: list[bytes], *, invalidate: FillTokensOf = None
) -> Flow[tuple[int, list[tuple[int, ShardError]]]]:
    """Delete keys; return how many were there, and the failures as numbers of keys with errors.

    ``topology``: names the shard of each key.
    ``wires``: the wire keys.
    ``invalidate``: names the fill tokens of keys, which are deleted before; None: loads go on.
    """
    # Step 1: one batch for each shard.
    groups = _parts(topology, wires)
    tokens = None if invalidate is None else invalidate(wires)
    outcomes: list[Outcome] = yield Exchange(
        [
            Batch(
                shard,
                [*_invalidations(tokens, parts), *_commands(b"UNLINK", wires, parts)],
                True,
                _numbers,
            )
            for shard, parts in groups.items()
        ]
    )
    # Step 2: the first half of the replies is about fill tokens, and does not count.
    count = 0
    failed: list[tuple[int, ShardError]] = []
    for parts, outcome in zip(groups.values(), outcomes, strict=True):
        if isinstance(outcome, ShardError):
            failed.append((sum(map(len, parts)), outcome))
            continue
        invalidations = [0] * len(parts) if invalidate is None else outcome[: len(parts)]
        for part, refusal, reply in zip(parts, invalidations, outcome[-len(parts) :], strict=True):
            if isinstance(refusal, ShardError):
                failed.append((len(part), refusal))
            elif isinstance(reply, ShardError):
                failed.append((len(part), reply))
            else:
                count += reply
    return count, failed


def queue(
    topology: Topology, requests: Sequence[Request], *, part: bool = False
) -> Flow[list[tuple[int, Any]]]:
    """Send requests of any kind; return for each its shard, and its reply or `ShardError`.

    ``topology``: names the shard of each request's key.
    ``requests``: the requests; those of one shard keep their order.
    ``part``: whether they are a part of a whole whose parts are sent one after another, and have to
        keep that order.
    """
    # One batch for each shard.
    owners = topology.owner_indexes([request.key for request in requests])
    groups = positions_of(owners)
    outcomes: list[Outcome] = yield Exchange(
        [
            _batch(shard, [requests[at] for at in positions], bulk=part)
            for shard, positions in groups.items()
        ]
    )
    # Put each reply in the place of its request.
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
    invalidations = next(replies) if request.invalidates is not None else None
    reply = next(replies)
    return (
        invalidations
        if isinstance(invalidations, ShardError) and not isinstance(reply, ShardError)
        else reply
    )


def _batch(shard: int, requests: list[Request], *, bulk: bool) -> Batch:
    ops: list[Op] = []
    commands: list[Command] = []
    for request in requests:
        if request.invalidates is not None:
            ops.append(INVALIDATE)
            commands.append(request.invalidates)
        ops.append(request.op)
        commands.append(request.command)

    def validate(replies: list[Reply]) -> bool:
        return all(
            reply.__class__ in op.reply_types or op.accepts(reply)
            for op, reply in zip(ops, replies, strict=True)
        )

    idempotent = all(op.idempotent for op in ops)
    return Batch(
        shard, commands, idempotent, validate, bulk=bulk, reads=all(op.reads for op in ops)
    )


def _lists(sizes: list[int], replies: list[Reply]) -> bool:
    """Whether the replies are those to MGETs of so many keys each."""
    return all(
        reply.__class__ is ErrorReply
        or (reply.__class__ is list and len(reply) == size and _texts(reply))
        for size, reply in zip(sizes, replies, strict=True)
    )


def _texts(replies: list[Reply]) -> bool:
    return count_absent(replies) >= 0 or TEXT.issuperset(map(type, replies))


def _numbers_then_texts(numbers: int, replies: list[Reply]) -> bool:
    """Whether so many replies are numbers, as to UNLINK, and the others are those to SET."""
    return _numbers(replies[:numbers]) and _texts(replies[numbers:])


def _numbers(replies: list[Reply]) -> bool:
    return all(reply.__class__ in NUMBER for reply in replies)
