"""Reading many keys as `batch.fetch` does, and keeping near what was read.

The places are made before anything is sent (`policy/near_store.py`). A value is kept no longer than
its ttl on the server, so behind the reads of each batch stands a PTTL for each key with a place.
"""

from collections.abc import Sequence

from shardcache.errors import ShardError
from shardcache.flows.batch import PlaceOfRead, fetch
from shardcache.flows.operations import NUMBER
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome
from shardcache.keys import Key
from shardcache.per_key import pack_ttls
from shardcache.policy.near_store import NearEntry, NearStore
from shardcache.resp import Reply
from shardcache.topology.snapshot import Topology

__all__ = ("fetch_kept",)

Places = dict[bytes, NearEntry]


def fetch_kept(
    keys: Sequence[Key],
    near: NearStore,
    topology: Topology,
    wires: list[bytes],
    place: PlaceOfRead,
) -> Flow[list[Reply]]:
    """Return what `fetch` does, and keep the values.

    ``keys``: the caller's form of ``wires``.
    ``near``: where values are kept.
    ``topology``, ``wires``, ``place``: as for `fetch`. If there is anything to be kept, all is read
        from the keys' own shards: a replica may answer with what the primary has told to drop.
    """
    places, refusals = near.begin_many(keys, wires, topology)
    if not places:
        raws = yield from fetch(topology, wires, place)
    else:
        raws = yield from _timed(fetch(topology, wires), places, near)
    if refusals:
        owners = topology.owner_indexes(wires)
        return [refusals.get(owner, raw) for raw, owner in zip(raws, owners, strict=True)]
    return raws


def _timed(reading: Flow[list[Reply]], places: Places, near: NearStore) -> Flow[list[Reply]]:
    """Run a flow whose only step reads values; ask for the time that they have left, too."""
    batches = next(reading).batches  # type: ignore[union-attr]  # that step is an `Exchange`
    wanted = [[wire for command in one.commands for wire in command[1:]] for one in batches]
    timed = [[wire for wire in wires if wire in places] for wires in wanted]
    outcomes: list[Outcome] = yield Exchange(list(map(_with_ttls, batches, timed)))
    own: list[Outcome] = []
    for batch, read, wires, outcome in zip(batches, wanted, timed, outcomes, strict=True):
        number = len(batch.commands)
        replies = outcome if isinstance(outcome, ShardError) else outcome[:number]
        own.append(replies)
        values = dict(zip(read, _values(replies, len(read)), strict=True))
        ttls = [outcome] * len(wires) if isinstance(outcome, ShardError) else outcome[number:]
        for wire, left in zip(wires, ttls, strict=True):
            near.keep(places[wire], wire, [values[wire], left])
    try:
        reading.send(own)
    except StopIteration as end:
        raws: list[Reply] = end.value
        return raws
    raise AssertionError("reading is one exchange")


def _with_ttls(batch: Batch, wires: list[bytes]) -> Batch:
    """Return a batch with a PTTL for each of these keys at its end."""
    validate, number = batch.validate, len(batch.commands)

    def accepts(replies: list[Reply]) -> bool:
        return (validate is None or validate(replies[:number])) and NUMBER.issuperset(
            map(type, replies[number:])
        )

    commands = [*batch.commands, *[(b"PTTL", wire) for wire in wires]]
    packed = None if batch.packed is None else batch.packed + pack_ttls(wires)
    return batch._replace(commands=commands, validate=accepts, packed=packed)


def _values(replies: Outcome, number: int) -> list[Reply]:
    """Return the value of each key, in the order of the commands."""
    if isinstance(replies, ShardError):
        return [replies] * number
    values: list[Reply] = []
    for reply in replies:
        values += reply if reply.__class__ is list else (reply,)
    return values
