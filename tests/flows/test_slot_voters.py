"""Voters of a Redis Cluster: which slots they are, their keys, and where they are asked."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import LockConflict, QuorumUnavailable, ShardOut
from shardcache.flows.lock import LockKeys, LockPlan, VoterRegistry, acquire, extend, release
from shardcache.flows.lock.scripts import LOOK
from shardcache.flows.lock.slot_voters import (
    load_voter_slots,
    lock_key,
    number_of,
    slots_as_voters,
    voter_key,
    voter_slots,
)
from shardcache.flows.steps import Batch, Broadcast, Listen, ServerRun, Sleep
from shardcache.flows.voter_steps import at_slots
from shardcache.keys import KeySpace, is_own
from shardcache.resp import ErrorReply, as_error
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scripts import run
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import Topology
from shardcache.urls import Address

SPACE = KeySpace("shop")
WIRE = b"shop:report"
SLOTS = voter_slots(WIRE)
SEEDS = ClusterSeeds((Address("h0", 6379),))
wires = (
    st.binary(min_size=1, max_size=12)
    .map(b"shop:".__add__)
    .filter(lambda wire: not is_own(wire))  # no caller's key is like one of these
)


def topology_of(owners: list[int]) -> Topology:
    """Return the topology of a cluster that gives each of the equal parts of the slots to a node.

    ``owners``: for each part the index of its node.
    """
    bounds = [at * 16384 // len(owners) for at in range(len(owners) + 1)]
    ranges: dict[int, list[tuple[int, int]]] = {}
    for at, owner in enumerate(owners):
        ranges.setdefault(owner, []).append((bounds[at], bounds[at + 1] - 1))
    return Topology.of_cluster(
        ClusterMap.of(
            ClusterShard(ClusterNode(f"id{owner}", f"h{owner}", 6379), (), found)
            for owner, found in sorted(ranges.items())
        ),
        SEEDS,
    )


class Cluster:
    """Servers that answer as those of a cluster do, and a driver that asks them.

    ``seen``: the map that the client has.
    ``true``: which server has which slot.
    ``open``: the slots that are under way.
    """

    def __init__(self, seen: list[int], true: list[int], open_: Iterable[int] = ()) -> None:
        self.topology, self.true = topology_of(seen), topology_of(true)
        self.open = set(open_)
        self.dbs: dict[str, Database] = {}
        self.now, self.refreshed = 1000.0, 0
        self.asked: list[list[str]] = []

    def owner_of(self, wire: bytes) -> int:
        return self.topology.owner_index(wire)

    def shard_at(self, host: str, port: int, answered: int) -> int:
        assert host
        return self.topology.names.index(f"{host}:{port}")

    def refresh(self) -> None:
        self.refreshed += 1

    def moved(self, wire: bytes, shard: int) -> None:
        self.refreshed += self.owner_of(wire) != shard

    def clock(self) -> float:
        return self.now

    def answer(self, name: str, command):
        keys = command[3 : 3 + int(command[2])]
        [slot] = {slot_of(key) for key in keys}
        owner = self.true.names[self.true.owner_index(keys[0])]
        if slot in self.open:
            return as_error(name, ErrorReply("TRYAGAIN Multiple keys request"))
        if owner != name:
            return as_error(name, ErrorReply(f"MOVED {slot} {owner}"))
        db = self.dbs.setdefault(name, Database())
        db.now = int(self.now * 1e6)
        return run(db, command)

    def run(self, flow):
        flow = at_slots(flow, self, self.clock, lambda: 0.5)
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = None
            if isinstance(step, Sleep):
                self.now += step.seconds
            elif isinstance(step, Listen):
                self.now += step.timeout
            else:
                self.broadcast(step)

    def broadcast(self, step: Broadcast) -> None:
        names = [self.topology.names[batch.shard] for batch in step.batches]
        assert len(set(names)) == len(names), "one batch for each server"
        self.asked.append(names)
        for at, (name, batch) in enumerate(zip(names, step.batches, strict=True)):
            replies = [self.answer(name, command) for command in batch.commands]
            if step.on_reply and step.on_reply(at, replies, ServerRun(name.encode(), 1e6)):
                break


def plan(ttl: float = 10.0) -> LockPlan:
    keys = LockKeys.of(WIRE, SPACE)
    register = SPACE.internals + b"voters"
    return LockPlan("report", keys, slots_as_voters(SLOTS), ttl, 0.5, register)


def placed(flow, cluster: Cluster):
    return at_slots(flow, cluster, cluster.clock, lambda: 0.5)


def take(cluster: Cluster, token: bytes = b"t", registry: VoterRegistry | None = None):
    flow = acquire(
        *(plan(), registry or VoterRegistry()),
        token=token,
        wait=0,
        clock=cluster.clock,
        random=lambda: 0.5,
    )
    return cluster.run(flow)


@given(wires)
def test_voters_are_the_same_for_ever(wire) -> None:
    """A lock's voters follow from its name: five of forty slots, a fifth of all slots apart."""
    slots = voter_slots(wire)
    first = 204 + (slot_of(wire) % 8) * 409.6
    assert all(abs(slot - first - at * 16384 / 5) < 2 for at, slot in enumerate(slots))


def test_voters_of_some_names() -> None:
    """What is stored under them must be found by later versions: the slots of three names."""
    assert voter_slots(b"a") == (3072, 6348, 9625, 12902, 16179)
    assert voter_slots(b"shop:report") == (1024, 4300, 7577, 10854, 14131)
    assert load_voter_slots(b"a") == (3072, 6348, 9625, 12902)


@pytest.mark.parametrize("masters", range(1, 17))
def test_voters_lie_apart(masters) -> None:
    """Of equal parts no master has more than two voters, if there are three; one, if five."""
    for group in range(8):
        wire = next(wire for n in range(99) if slot_of(wire := b"%d" % n) % 8 == group)
        parts = [slot * masters // 16384 for slot in voter_slots(wire)]
        most = max(parts.count(part) for part in parts)
        assert most <= (5 if masters == 1 else 3 if masters == 2 else 2 if masters < 5 else 1)


@given(wires)
def test_voters_of_a_load_lie_apart_from_its_own_slot(wire) -> None:
    """Beside the key's own slot four others vote, none of them near to it."""
    slots = load_voter_slots(wire)
    assert len(slots) == 4
    gaps = [(slot - slot_of(wire)) % 16384 for slot in slots]
    assert all(1600 < gap < 16384 - 1600 for gap in gaps)


@given(wires, st.integers(0, 16383))
def test_a_voters_keys_lie_in_its_slot(wire, slot) -> None:
    """Every key of a lock has its voter's tag, and can be told from it; a value's key stays."""
    for key in (*LockKeys.of(wire, SPACE), *LockKeys.of_load(wire, SPACE)):
        own = voter_key(key, slot)
        assert slot_of(own) == slot
        assert lock_key(own) == key
    assert slot_of(voter_key(SPACE.internals + b"voters", slot)) == slot
    assert voter_key(wire, slot) == wire


@given(st.lists(st.tuples(wires, st.sampled_from(SLOTS)), min_size=2, max_size=5, unique=True))
def test_no_two_voters_share_a_key(pairs) -> None:
    """Locks of other names, and other voters, have other keys; so has a load at the key's shard."""
    keys = [voter_key(LockKeys.of_load(wire, SPACE).lock, slot) for wire, slot in pairs]
    keys += [LockKeys.of_load(wire, SPACE).lock for wire in {wire for wire, _ in pairs}]
    assert len(set(keys)) == len(keys)


def test_a_lock_lives_in_its_slots() -> None:
    """Taken, extended and given back where the slots are; a second client meets the first."""
    cluster = Cluster([0, 1, 2], [0, 1, 2])
    lease = take(cluster)
    assert lease is not None
    with pytest.raises(LockConflict):
        take(cluster, b"u")
    assert cluster.run(extend(plan(), lease, clock=cluster.clock)) == "extended"
    assert cluster.run(release(plan(), lease)) == "freed"
    later = take(cluster, b"u")
    assert later.fence > lease.fence
    assert cluster.refreshed == 0
    assert all(len(names) <= 3 for names in cluster.asked)


@pytest.mark.parametrize("seen", [[2, 0, 1], [0, 0, 0, 1, 1, 2], [2, 1, 0]])
def test_a_voter_that_moved_is_asked_where_it_is(seen) -> None:
    """Clients with different maps ask the same voters: one holds the lock, the other waits."""
    new, old = Cluster([0, 1, 2], [0, 1, 2]), Cluster(seen, [0, 1, 2])
    old.dbs = new.dbs
    assert take(old) is not None
    assert old.refreshed > 0
    with pytest.raises(LockConflict):
        take(new, b"u")


@pytest.mark.parametrize("open_", [SLOTS[:2], SLOTS[2:4], SLOTS[:1]])
def test_a_slot_under_way_has_no_vote(open_) -> None:
    """A minority under way costs nothing, nor does the holder lose by it."""
    cluster = Cluster([0, 1, 2], [0, 1, 2])
    registry = VoterRegistry()
    assert cluster.run(release(plan(), take(cluster, registry=registry))) == "freed"
    cluster.open = set(open_)
    lease = take(cluster, registry=registry)
    with pytest.raises(LockConflict):
        take(cluster, b"u", registry)
    flow = extend(plan(), lease, clock=cluster.clock, registry=registry)
    assert cluster.run(flow) == "extended"
    assert cluster.run(release(plan(), lease)) == "freed"


def test_a_majority_under_way_says_so() -> None:
    """With most slots under way there is no lock, and the votes say why; it is no lasting error."""
    cluster = Cluster([0, 1, 2], [0, 1, 2], SLOTS[:3])
    with pytest.raises(QuorumUnavailable, match="does not serve the slot of this voter now"):
        take(cluster)


def test_a_voter_that_moves_on_and_on_is_left() -> None:
    """Redirects in a circle end: the voter counts as out."""
    cluster = Cluster([0, 1, 2], [0, 1, 2])
    cluster.answer = lambda name, command: as_error(  # type: ignore[method-assign]
        name, ErrorReply(f"MOVED {slot_of(command[3])} h{(int(name[1]) + 1) % 3}:6379")
    )
    with pytest.raises(QuorumUnavailable):
        take(cluster)


def test_asking_again_takes_no_more_time() -> None:
    """The second question has what is left of the time of the step; without any it is not put."""
    cluster = Cluster([1, 2, 0], [0, 1, 2])

    def flow():
        batches = [Batch(number_of(SLOTS[0]), [plan().script(LOOK)], True)]
        yield Broadcast(batches, lambda *_: False, 5.0)

    for took, limit in ((4.0, 1.0), (5.0, None)):
        going = placed(flow(), cluster)
        step = next(going)
        cluster.now += took
        step.on_reply(0, [as_error("h1:6379", ErrorReply("MOVED 1 h0:6379"))], None)
        if limit is None:
            with pytest.raises(StopIteration):
                going.send(None)
        else:
            assert going.send(None).limit == limit


def test_what_is_thrown_in_reaches_the_flow() -> None:
    """An interruption in a step lets the flow tidy up by further steps, which are placed too."""
    cluster = Cluster([0, 1, 2], [0, 1, 2])
    flow = placed(
        acquire(
            *(plan(), VoterRegistry()),
            token=b"t",
            wait=None,
            clock=cluster.clock,
            random=lambda: 0.5,
        ),
        cluster,
    )
    next(flow)
    step = flow.throw(KeyboardInterrupt())
    assert isinstance(step, Broadcast)
    assert step.on_reply is None
    assert {batch.shard for batch in step.batches} == {0, 1, 2}
    with pytest.raises(KeyboardInterrupt):
        flow.send(None)


def test_a_waiter_listens_in_the_slot() -> None:
    """BLPOP goes to the server of the voter's slot, with the voter's key."""
    cluster = Cluster([0, 1, 2], [0, 1, 2])

    def flow():
        yield plan().woken_at(number_of(SLOTS[4]), 1.0)

    step = next(placed(flow(), cluster))
    assert isinstance(step, Listen)
    assert (step.shard, slot_of(step.command[1])) == (2, SLOTS[4])


def test_other_voters_on_the_shard_are_heard() -> None:
    """A shard that is out is out for each of its voters."""
    told = []

    def flow():
        command = plan().script(LOOK)
        batches = [Batch(number_of(slot), [command], True) for slot in SLOTS]
        yield Broadcast(batches, lambda at, outcome, _: told.append((at, outcome)), 1.0)

    step = next(placed(flow(), Cluster([0, 1, 2], [0, 1, 2])))
    assert isinstance(step, Broadcast)
    assert step.on_reply is not None
    out = ShardOut("h0", "is out")
    for at in range(len(step.batches)):
        step.on_reply(at, out, None)
    assert sorted(at for at, _ in told) == [0, 1, 2, 3, 4]
    assert {id(outcome) for _, outcome in told} == {id(out)}
