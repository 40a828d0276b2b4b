"""How long a free lock keeps waiting clients waiting.

Several clients take the lock again and again. Nothing fails, except that a client may have died
before the history. From the moment when a holder begins to release the lock to the moment when the
next client has it, nobody uses it. If a client waits all that time, the gap should take a few
round trips. The result is the longest such gap, in round trips of the slowest kind.
"""

from dataclasses import dataclass, replace
from random import Random

from shardcache.flows.lock import LockKeys, LockPlan, VoterRegistry, Voters, acquire, release
from shardcache.flows.lock.lock_plan import register_key
from shardcache.flows.steps import Sleep
from shardcache.keys import KeySpace
from shardcache.testing.simulation.client import Client, Life
from shardcache.testing.simulation.judge import Judge
from shardcache.testing.simulation.memory import acquaint
from shardcache.testing.simulation.scenario import ClientPlan, Scenario, draw
from shardcache.testing.simulation.server import Server
from shardcache.testing.simulation.world import Note, World

__all__ = ("Wait", "idle")

_TURNS = 6  # how often each client takes the lock
_MOST_EVENTS = 50_000


@dataclass(frozen=True, slots=True)
class Wait:
    """What came of one history.

    ``longest``: the longest gap, in round trips.
    ``acquisitions``: how often the lock was acquired.
    ``notes``: what happened, line by line; empty unless asked for.
    """

    longest: float
    acquisitions: int
    notes: tuple[Note, ...] = ()


class _Watch:
    """Measures how long the lock is free while a client wants it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting = 0  # clients that want it
        self.held = 0
        self.free_since = 0.0  # since when it is free and wanted
        self.longest = 0.0
        self.acquisitions = 0

    def wants(self) -> None:
        if not self.waiting and not self.held:
            self.free_since = self.world.now
        self.waiting += 1

    def has(self) -> None:
        self.waiting -= 1
        if not self.held:
            self.longest = max(self.longest, self.world.now - self.free_since)
        self.held += 1
        self.acquisitions += 1

    def leaves(self) -> None:
        self.held -= 1
        self.free_since = self.world.now


def idle(seed: int, *, noted: bool = False) -> Wait:
    """Let several clients take turns; return the longest gap.

    ``seed``: decides everything.
    ``noted``: whether to note everything that happens.

    Raises `AssertionError` if a client does not come to its end, or the judge finds a violation.
    """
    # All voters know each other, and nothing fails.
    scenario = _calm(draw(seed), Random(seed))
    world = World(noted=noted)
    judge = Judge(world)
    servers = [Server(place, plan) for place, plan in enumerate(scenario.servers)]
    voters = Voters(tuple(range(len(servers))), tuple(server.name for server in servers))
    space = KeySpace("n")
    plan = LockPlan(
        "lock",
        LockKeys.of(b"n:lock", space),
        voters,
        10.0,
        scenario.voter_timeout,
        register_key(space),
    )
    acquaint(servers, plan, Random(seed))
    # Sometimes a client died in an attempt: one voter has its key for longer than the history.
    if scenario.warm and len(servers) > voters.quorum:
        server = servers[scenario.seed % len(servers)]
        server.db.now = int(server.clock(0.0) * 1e6)
        server.db.put(plan.keys.lock, b"dead|1", 600_000)
    # Every client is a process of its own.
    watch = _Watch(world)
    clients = []
    for number, one in enumerate(scenario.clients):
        register = VoterRegistry()
        acquaint(servers, plan, Random(seed), register.status(voters))
        client = Client(f"client-{number + 1}", one, scenario, world, judge, servers, register)
        client.begin(_life(client, plan, watch))
        clients.append(client)
    if (
        not world.run(_MOST_EVENTS)
        or not all(client.done for client in clients)
        or judge.violations
    ):
        raise AssertionError(
            f"a crowd of the lock, seed {seed}, does not end well: {judge.violations}"
        )
    return Wait(watch.longest / (3 * scenario.delay), watch.acquisitions, tuple(world.notes or ()))


def _calm(scenario: Scenario, rng: Random) -> Scenario:
    """Take the faults out, and let the clients be near all voters."""
    near = tuple(1.0 for _ in scenario.servers)
    delay = rng.choice((0.0002, 0.001))
    clients = tuple(
        ClientPlan(
            rng.randrange(2**32),
            number,
            0.0,
            rng.random(),
            rng.random() * 10 * delay,
            _TURNS,
            10.0,
            near,
        )
        for number in range(rng.choice((2, 3, 4, 6)))
    )
    quiet = replace(scenario, faults=(), slow=0.0, loss=0.0, pause=0.0, cancel=0.0, mixed=False)
    return replace(quiet, clients=clients, delay=delay, voter_timeout=1.0, ttl=10.0)


def _life(client: Client, plan: LockPlan, watch: _Watch) -> Life:
    rng = client.rng.random
    work = client.scenario.delay * client.rng.choice((0.0, 0.0, 3.0, 30.0))
    rest = client.scenario.delay * client.rng.choice((0.0, 3.0, 30.0, 300.0))
    yield Sleep(client.plan.start)
    for turn in range(client.plan.cycles):
        watch.wants()
        client.note("wants it")
        token = b"%b-%d" % (client.name.encode(), turn)
        lease = yield from acquire(
            plan, client.registry, token=token, wait=None, clock=client.clock, random=rng
        )
        watch.has()
        client.note("has it")
        if work:
            yield Sleep(work * rng())
        watch.leaves()
        yield from release(plan, lease)
        if rest:
            yield Sleep(rest * rng())
