"""The near cache in virtual time: the real table and flow, a model of all around them, and a judge.

One client reads two shards and keeps what it reads; others write there. Requests, replies and
invalidations take random times, each connection for invalidations keeps its order, and is cut or
hangs at times, with all that is under way on it. The judge knows when each write was acknowledged.
"""

import random
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from shardcache.errors import ShardUnavailable
from shardcache.flows.near_reads import fetch_kept
from shardcache.flows.steps import Batch, Outcome
from shardcache.near_cache import NearCache
from shardcache.policy.near_store import LEASE, Life, NearStore
from shardcache.resp import Command, Reply
from shardcache.testing.simulation.world import World
from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import members
from shardcache.topology.snapshot import Topology

__all__ = ("NearRun", "play_near")

SECONDS = 20.0  # of a run
KEYS = [f"k{number}" for number in range(12)]
_BEAT = 0.5  # seconds between two questions of a listener
_MOST = 1_000_000  # events of a run


class _Tracked:
    """A connection over which the server of one shard tells of writes.

    ``life``: that of the shard; none before the server has confirmed that it tracks.
    ``answered``: when the last question that was answered was asked.
    """

    def __init__(self, began: float) -> None:
        self.open = True
        self.tracks = False  # what the server knows
        self.life: Life | None = None
        self.answered = began
        self.arrived = began  # the last message, so far


class NearRun:
    """One run.

    ``seed``: of all that is random in it.
    ``store``: makes the table.
    ``lease``: seconds for which a life lasts after a question that was answered.

    ``reads``: how many keys were read; ``hits``: how many from memory.
    ``stale``: what was read from memory and should not have been: when, which key, which write, and
        the write that it should have been at least.
    """

    def __init__(
        self, seed: int, store: Callable[..., NearStore] = NearStore, lease: float = LEASE
    ) -> None:
        self._rng = random.Random(seed)
        self._world = World(noted=False)
        self._current = CurrentTopology(Topology.of(members(["redis://a", "redis://b"]), "ring"))
        self._lease = lease
        self._store = store(NearCache(ttl=10), self._current, lambda: self._world.now)
        self._store.life_of = self._life
        self._connections: dict[int, _Tracked] = {}
        self._data: dict[bytes, tuple[int, float]] = {}  # number of the write, and when it expires
        self._least = dict.fromkeys((key.encode() for key in KEYS), 0)
        self._writes = 0
        self.reads = self.hits = 0
        self.stale: list[tuple[float, bytes, int, int]] = []

    def run(self) -> None:
        """Let it all happen."""
        for shard in self._current.now.numbers:
            self._connect(shard)
        for act in (self._read_one, self._read_many, self._write, self._break):
            self._again(act)
        assert self._world.run(_MOST)  # noqa: S101  it ends, since nothing is planned after the end

    def _again(self, act: Callable[[], float]) -> None:
        """Do something now and then; it returns how long to wait for the next time."""
        pause = self._rng.expovariate(1 / act())
        if self._world.now < SECONDS:
            self._later(pause, partial(self._again, act))

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        self._world.at(self._world.now + seconds, _call, act)

    def _delay(self) -> float:
        """Return how long a message takes: most are quick, and some are not."""
        return self._rng.expovariate(1 / self._rng.choice((0.0005, 0.002, 0.3)))

    # The client reads.

    def _served(self, wire: bytes) -> bool:
        """Return whether a key is read from memory, and judge what is."""
        self.reads += 1
        entry = self._store.find(wire)
        if entry is None:
            return False
        self.hits += 1
        number, now = int(entry.raw), self._world.now
        # What was written over since has no end of its own: the later write counts.
        over = self._data[wire][0] == number and self._data[wire][1] <= now
        if over or number < self._least[wire]:
            self.stale.append((now, wire, number, self._least[wire]))
        return True

    def _read_one(self) -> float:
        key = self._rng.choice(KEYS)
        wire = key.encode()
        if not self._served(wire):
            topology = self._current.now
            shard = topology.owner_index(wire)
            entry = self._store.begin(key, wire, shard, topology)
            batch = Batch(shard, [(b"GET", wire), (b"PTTL", wire)], True)
            self._ask(batch, lambda outcome: self._store.keep(entry, wire, outcome))
        return 0.01

    def _read_many(self) -> float:
        keys = [
            key
            for key in self._rng.sample(KEYS, self._rng.randint(1, 4))
            if not self._served(key.encode())
        ]
        wires = [key.encode() for key in keys]
        flow = fetch_kept(keys, self._store, self._current.now, wires, lambda shard: shard)
        step: Any = next(flow)
        outcomes: dict[int, Outcome] = {}

        def come(place: int, outcome: Outcome) -> None:
            outcomes[place] = outcome
            if len(outcomes) == len(step.batches):
                for _ in _rest(flow, [outcomes[at] for at in range(len(outcomes))]):
                    raise AssertionError("reading is one exchange")

        for place, batch in enumerate(step.batches):
            self._ask(batch, partial(come, place))
        return 0.02

    def _ask(self, batch: Batch, come: Callable[[Outcome], None]) -> None:
        """Send a batch, and hand over its outcome; each command is carried out at its own time."""
        began, took = self._world.now, self._delay()
        replies: list[Reply] = []

        def carry_out(command: Command) -> None:
            replies.append(self._answer(command))
            if len(replies) == len(batch.commands):
                lost = self._rng.random() < 0.02
                outcome = ShardUnavailable("", "lost") if lost else replies
                self._later(self._delay(), lambda: come(outcome))

        for at, command in enumerate(batch.commands):
            # Another's write may come between two commands.
            self._world.at(began + took * (1 + at / 100), carry_out, command)

    def _answer(self, command: Command) -> Reply:
        values = [self._data.get(wire, (0, -inf)) for wire in command[1:]]
        now = self._world.now
        if command[0] == b"PTTL":
            [(_, ends)] = values
            return -2 if ends <= now else -1 if ends == inf else int((ends - now) * 1000)
        found = [None if ends <= now else b"%d" % number for number, ends in values]
        return found if command[0] == b"MGET" else found[0]

    # Others write, and so does the client.

    def _write(self) -> float:
        wire = self._rng.choice(KEYS).encode()
        mine = self._rng.random() < 0.2
        self._later(self._delay(), lambda: self._carry_out(wire, mine=mine))
        return 0.05

    def _carry_out(self, wire: bytes, *, mine: bool) -> None:
        self._writes += 1
        number, now = self._writes, self._world.now
        ends = self._rng.choice((inf, inf, now + self._rng.expovariate(1.0)))
        self._data[wire] = (number, ends)
        self._tell(self._current.now.owner_index(wire), lambda: self._store.drop([wire]))
        self._later(self._delay(), lambda: self._acknowledge(wire, number, mine=mine))

    def _acknowledge(self, wire: bytes, number: int, *, mine: bool) -> None:
        def due() -> None:
            self._least[wire] = max(self._least[wire], number)

        if mine:
            self._store.drop([wire])
            due()
        else:
            self._later(LEASE, due)

    # The listeners.

    def _life(self, shard: int) -> Life | None:
        return self._connections[shard].life

    def _connect(self, shard: int) -> None:
        connection = self._connections[shard] = _Tracked(self._world.now)

        def track() -> None:
            connection.tracks = connection.open
            self._tell(shard, begin)

        def begin() -> None:
            topology = self._current.now
            connection.life = Life(shard, topology, connection.answered + self._lease)
            self._beat(shard, connection)

        def give_up() -> None:
            if connection.life is None:
                self._lose(shard, connection)

        self._later(self._delay(), track)
        self._later(LEASE, give_up)

    def _tell(self, shard: int, act: Callable[[], object]) -> None:
        """Have the client get a message, behind those before it, if it is told of anything."""
        connection = self._connections[shard]

        def arrive(_: object) -> None:
            if connection.open:
                act()

        if connection.tracks:
            arrival = max(connection.arrived, self._world.now + self._delay())
            connection.arrived = arrival
            self._world.at(arrival, arrive, None)

    def _beat(self, shard: int, connection: _Tracked) -> None:
        now = self._world.now
        if self._connections[shard] is not connection or now > SECONDS:
            return
        if now >= connection.answered + LEASE:
            self._lose(shard, connection)
            return

        def answer() -> None:
            connection.answered = now
            if connection.life is not None:
                connection.life.until = max(connection.life.until, now + self._lease)

        def asked() -> None:
            if self._connections[shard] is connection:
                self._tell(shard, answer)

        self._later(self._delay(), asked)
        # Its thread may get no processor for a while.
        self._later(_BEAT + self._delay(), lambda: self._beat(shard, connection))

    def _break(self) -> float:
        """Have a connection cut, or hang without anybody's knowledge."""
        shard = self._rng.choice(self._current.now.numbers)
        connection = self._connections[shard]
        connection.open = connection.tracks = False
        if self._rng.random() < 0.7:
            self._lose(shard, connection)
        return 1.5

    def _lose(self, shard: int, connection: _Tracked) -> None:
        if self._connections[shard] is connection:
            connection.open = connection.tracks = False
            if connection.life is not None:
                self._store.end(connection.life, str(shard))
            self._connections[shard] = _Tracked(inf)  # none, until the pause is over
            self._later(self._delay(), lambda: self._connect(shard))


def _call(act: Callable[[], object]) -> None:
    act()


def _rest(flow: Any, outcomes: list[Outcome]) -> list[Any]:
    """Return the further steps of a flow: there should be none."""
    try:
        return [flow.send(outcomes)]
    except StopIteration:
        return []


def play_near(
    seeds: range, store: Callable[..., NearStore] = NearStore, lease: float = LEASE
) -> tuple[int, int, list[Any]]:
    """Play a run for each seed; return the number of reads, of hits, and all that was stale."""
    reads, hits, stale = 0, 0, list[Any]()
    for seed in seeds:
        run = NearRun(seed, store, lease)
        run.run()
        reads, hits = reads + run.reads, hits + run.hits
        stale += [(seed, *found) for found in run.stale]
    return reads, hits, stale
