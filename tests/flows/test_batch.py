"""Batches, driven by hand: every result is in its own key's place, whatever fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import ShardError, ShardUnavailable, WrongType
from shardcache.flows import Request, batch
from shardcache.flows.batch import CHUNK
from shardcache.resp import ErrorReply, Op

ANY = frozenset({bytes, int, type(None)})


class Placement:
    """Places a key by the number that it ends with."""

    def __init__(self, shards: int) -> None:
        self.shards = shards

    def owner_indexes(self, wires) -> list[int]:
        return [int(wire.rpartition(b":")[2]) % self.shards for wire in wires]

    def slots_of(self, _) -> None:
        """Return None: these are independent nodes."""


class Cluster(Placement):
    """Places as `Placement` does, in slots."""

    def slots_of(self, wires) -> list[int]:
        """Return a slot for each key."""
        return list(range(len(wires)))


class FirstCall(Cluster):
    """A cluster that becomes known while a first call asks for owners; ``at``: by which step."""

    def __init__(self, shards: int, at: int) -> None:
        super().__init__(shards)
        self.left = at

    def owner_indexes(self, wires) -> list[int]:
        known = self._is_known()
        return super().owner_indexes(wires) if known else [-1] * len(wires)

    def shards_of(self, slots) -> list[int]:
        known = self._is_known()
        return [slot % self.shards if known else -1 for slot in slots]

    def _is_known(self) -> bool:
        self.left -= 1
        return self.left < 0


class Fleet:
    """Shards in memory.

    ``dead``: shards that answer nothing.
    ``refused``: commands, by shard and place, that get an error reply.
    """

    def __init__(self, dead=(), refused=()) -> None:
        self.dead = set(dead)
        self.refused = set(refused)
        self.data: dict[int, dict[bytes, bytes]] = {}
        self.exchanges = 0

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                self.exchanges += 1
                assert len({one.shard for one in step.batches}) == len(step.batches)
                step = flow.send([self._answer(one) for one in step.batches])
        except StopIteration as end:
            return end.value

    def _answer(self, one):
        if one.shard in self.dead:
            return ShardUnavailable(str(one.shard), "dead")
        data = self.data.setdefault(one.shard, {})
        return [
            WrongType(str(one.shard), "refused")
            if (one.shard, at) in self.refused
            else self._do(data, *command)
            for at, command in enumerate(one.commands)
        ]

    @staticmethod
    def _do(data, verb, *args):
        if verb == b"MGET":
            assert len(args) <= CHUNK
            return [data.get(key) for key in args]
        if verb == b"GET":
            return data.get(*args)
        if verb == b"UNLINK":
            assert len(args) <= CHUNK
            return sum(data.pop(key, None) is not None for key in args)
        if verb == b"SET":
            data[args[0]] = args[1]
            return b"OK"
        assert verb == b"ECHO"
        return args[0]


def wire(number: int) -> bytes:
    return b"k:%d" % number


numbers = st.lists(st.integers(0, 500), max_size=60, unique=True)
shard_sets = st.sets(st.integers(0, 6))


@given(numbers, st.integers(1, 7), shard_sets)
def test_fetch_is_in_place(asked, shards, dead) -> None:
    """Each key has its own value, None, or the error of its own shard, in one exchange."""
    fleet = Fleet(dead)
    fleet.data = {
        shard: {wire(n): b"v%d" % n for n in range(0, 500, 2) if n % shards == shard}
        for shard in range(shards)
    }
    raws = fleet.run(batch.fetch(Placement(shards), [wire(number) for number in asked]))
    expected = [
        str(number % shards)
        if number % shards in dead
        else b"v%d" % number
        if number % 2 == 0 and number < 500
        else None
        for number in asked
    ]
    assert [raw.shard if isinstance(raw, ShardError) else raw for raw in raws] == expected
    assert fleet.exchanges == 1


@given(numbers, st.integers(1, 7), shard_sets, st.integers(1, 50))
def test_fetch_in_a_cluster(asked, shards, dead, foreign) -> None:
    """One GET for each key says what MGET would: a list under a key is no value."""
    fleet = Fleet(dead)
    fleet.data = {
        shard: {
            wire(n): WrongType(str(shard), "", "WRONGTYPE") if n % foreign == 0 else b"v%d" % n
            for n in range(0, 500, 2)
            if n % shards == shard
        }
        for shard in range(shards)
    }
    raws = fleet.run(batch.fetch(Cluster(shards), [wire(number) for number in asked]))
    expected = [
        str(number % shards)
        if number % shards in dead
        else b"v%d" % number
        if number % 2 == 0 and number < 500 and number % foreign
        else None
        for number in asked
    ]
    assert [raw.shard if isinstance(raw, ShardError) else raw for raw in raws] == expected
    assert fleet.exchanges == 1


@given(numbers, st.integers(1, 7), shard_sets)
def test_store_tells_what_failed(asked, shards, dead) -> None:
    """Exactly the keys of dead shards fail, each by its place and with its shard's error."""
    fleet = Fleet(dead)
    failed = fleet.run(
        batch.store(Placement(shards), [wire(n) for n in asked], [b"v%d" % n for n in asked], 1000)
    )
    assert {at: error.shard for at, error in failed.items()} == {
        at: str(number % shards) for at, number in enumerate(asked) if number % shards in dead
    }
    stored = {key: value for data in fleet.data.values() for key, value in data.items()}
    assert stored == {wire(n): b"v%d" % n for n in asked if n % shards not in dead}


@given(numbers, st.integers(1, 7), shard_sets)
def test_delete_counts(asked, shards, dead) -> None:
    """The count is of the living shards' keys; every dead shard's keys are told."""
    fleet = Fleet(dead)
    fleet.data = {
        shard: {wire(n): b"" for n in range(0, 500, 2) if n % shards == shard}
        for shard in range(shards)
    }
    count, failed = fleet.run(batch.delete(Placement(shards), [wire(number) for number in asked]))
    assert count == sum(n % 2 == 0 and n < 500 and n % shards not in dead for n in asked)
    assert {error.shard: keys for keys, error in failed} == {
        str(shard): len(lost)
        for shard in dead
        if (lost := [n for n in asked if n % shards == shard])
    }


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 7), shard_sets, st.data())
def test_queue_is_in_place(asked, shards, dead, data) -> None:
    """Answers come in the order of queueing; a refused command's error is in its place alone."""
    refused = data.draw(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 5))))
    op = Op(
        "echo",
        idempotent=True,
        writes=False,
        degraded=None,
        read=lambda reply: reply,
        reply_types=ANY,
    )
    requests = [Request(op, wire(n), (b"ECHO", b"%d" % at)) for at, n in enumerate(asked)]
    answers = Fleet(dead, refused).run(batch.queue(Placement(shards), requests))
    seen = dict.fromkeys(range(shards), -1)
    for at, (number, (shard, answer)) in enumerate(zip(asked, answers, strict=True)):
        seen[shard] += 1
        kind = (
            ShardUnavailable
            if shard in dead
            else WrongType
            if (shard, seen[shard]) in refused
            else bytes
        )
        assert (shard, type(answer)) == (number % shards, kind)
        assert kind is not bytes or answer == b"%d" % at


@pytest.mark.parametrize("count", [CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
def test_chunks(count) -> None:
    """Many keys of one shard are several commands of one exchange; a refused one hides its keys."""
    fleet = Fleet(refused={(0, 1)})
    fleet.data = {0: {wire(n): b"%d" % n for n in range(count)}}
    wires = [wire(n) for n in range(count)]
    raws = fleet.run(batch.fetch(Placement(1), wires))
    hidden = range(CHUNK, min(2 * CHUNK, count))
    assert [at for at, raw in enumerate(raws) if isinstance(raw, ShardError)] == list(hidden)
    assert [raw for raw in raws if isinstance(raw, bytes)] == [
        b"%d" % n for n in range(count) if n not in hidden
    ]
    deleted, failed = fleet.run(batch.delete(Placement(1), wires))
    assert (deleted, [keys for keys, _ in failed]) == (
        count - len(hidden),
        [len(hidden)] if hidden else [],
    )
    assert fleet.exchanges == 2


def test_refused_values() -> None:
    """A value that its server refuses fails alone."""
    failed = Fleet(refused={(0, 1)}).run(
        batch.store(Placement(2), [wire(n) for n in range(6)], [b""] * 6, None)
    )
    assert {at: type(error) for at, error in failed.items()} == {2: WrongType}


@pytest.mark.parametrize(
    ("ms", "command"),
    [
        (None, (b"SET", b"k:0", b"v")),
        (1500, (b"SET", b"k:0", b"v", b"PX", b"1500")),
        (0, (b"UNLINK", b"k:0")),
    ],
)
def test_store_by_ttl(ms, command) -> None:
    """No expiry, milliseconds, and zero, which deletes."""
    step = next(batch.store(Placement(1), [b"k:0"], [b"v"], ms))
    assert [(one.shard, one.commands, one.idempotent) for one in step.batches] == [
        (0, [command], True)
    ]


@pytest.mark.parametrize("idempotent", [True, False])
def test_queue_is_sent_twice_only_if_all_may(idempotent) -> None:
    """One call that is not idempotent keeps its whole batch from a retry, and no other shard's."""
    safe, other = (
        Op("", may, writes=False, degraded=None, read=lambda reply: reply, reply_types=ANY)
        for may in (True, idempotent)
    )
    requests = [
        Request(op, wire(n), (b"ECHO", b"")) for op, n in ((safe, 0), (other, 0), (safe, 1))
    ]
    assert [one.idempotent for one in next(batch.queue(Placement(2), requests)).batches] == [
        idempotent,
        True,
    ]


@pytest.mark.parametrize(
    "replies", [[[b"a"]], [[b"a", b"b", b"c"]], [b"ab"], [7], [None]], ids=repr
)
def test_reply_of_another_shape(replies) -> None:
    """A reply that cannot be the command's is not valid, and ends the connection (G1)."""
    [one] = next(batch.fetch(Placement(1), [wire(1), wire(2)])).batches
    assert one.validate is not None
    assert (
        one.validate(replies),
        one.validate([[b"a", None]]),
        one.validate([ErrorReply("LOADING")]),
    ) == (
        False,
        True,
        True,
    )


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("call", ["fetch", "store", "delete"])
def test_a_cluster_that_becomes_known_meanwhile(at, call) -> None:
    """Whenever that is, no command has keys of several slots, and no key another's shard."""
    topology, seen = FirstCall(3, at), []
    wires = [wire(number) for number in range(9)]
    flow = {
        "fetch": lambda: batch.fetch(topology, wires),
        "store": lambda: batch.store(topology, wires, wires, None, invalidate=lambda key: key),
        "delete": lambda: batch.delete(topology, wires, invalidate=lambda key: key),
    }[call]()
    for one in next(flow).batches:
        seen += [(one.shard, command) for command in one.commands]
    assert {shard for shard, _ in seen} in ({-1}, {0, 1, 2})
    for shard, (verb, *keys) in seen:
        assert len(keys) == (2 if verb == b"SET" else 1)
        assert shard in (-1, int(keys[0].rpartition(b":")[2]) % 3)
