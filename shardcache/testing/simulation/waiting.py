"""How long those wait who could have the lock: a crowd takes it again and again, and nothing fails but who has died before.

In true time, from the moment when a holder begins to let go to the moment when the next one has the lock, nobody makes use of it. While somebody
waits all that time, that should take a few round trips. What is counted is the longest such gap, in round trips of the slowest kind.
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

_TURNS = 6  # that each client takes
_MOST_EVENTS = 50_000


@dataclass(frozen=True, slots=True)
class Wait:
    """What came of one crowd: the ``longest`` gap in round trips, acquisitions, and the notes, if asked for."""

    longest: float
    acquisitions: int
    notes: tuple[Note, ...] = ()


class _Watch:
    """Sees when the lock is of use to nobody though somebody wants it."""

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
    """Let a crowd of the seed take turns; return the longest time for which a free lock kept somebody waiting."""
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
    if (
        scenario.warm and len(servers) > voters.quorum
    ):  # somebody died in an attempt, and one voter keeps his key for longer than all this takes
        server = servers[scenario.seed % len(servers)]
        server.db.now = int(server.clock(0.0) * 1e6)
        server.db.put(plan.keys.lock, b"dead|1", 600_000)
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
    """Take the faults out, and let the crowd live near all voters."""
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
