"""One history: a scenario, run to its end and judged."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random

from shardcache.flows.lock import LockKeys, LockPlan, VoterRegistry, Voters
from shardcache.flows.lock.lock_plan import register_key
from shardcache.flows.lock.membership import Electorate, Membership
from shardcache.keys import KeySpace
from shardcache.testing.simulation.behaviour import heir_life, life, mover_life
from shardcache.testing.simulation.client import Client
from shardcache.testing.simulation.judge import Judge, Violation
from shardcache.testing.simulation.memory import acquaint
from shardcache.testing.simulation.scenario import ClientPlan, Fault, Scenario, draw
from shardcache.testing.simulation.server import Server
from shardcache.testing.simulation.world import Note, World

__all__ = ("History", "play", "replay")

_SPACE = KeySpace("n")
_WIRE = b"n:lock"
_KEYS = LockKeys.of(_WIRE, _SPACE)
_MOST_EVENTS = 60_000
_MOST_CHANGE = 5.05  # ttls: clients have up to 2.5, and double them as they extend
_LOCK_KEYS = (_KEYS.lock, _KEYS.waiting, _KEYS.wake)


@dataclass(frozen=True, slots=True)
class History:
    """What came of a scenario.

    ``scenario``: the scenario.
    ``violations``: what the judge found.
    ``acquisitions``: how often the lock was acquired.
    ``writes``: writes that the fenced store took.
    ``refused``: writes that the fenced store refused.
    ``events``: events of virtual time.
    ``notes``: what happened, line by line; empty unless asked for.
    """

    scenario: Scenario
    violations: tuple[Violation, ...]
    acquisitions: int
    writes: int
    refused: int
    events: int
    notes: tuple[Note, ...]


def replay(seed: int, outside: Collection[str] = (), plot: str | None = None) -> History:
    """Run the scenario of a seed, and note everything that happens.

    ``seed``: the seed.
    ``outside``: faults outside of the assumptions to add (`OUTSIDE`).
    ``plot``: a story that the history tells; None lets the seed decide.
    """
    return play(draw(seed, outside, plot), noted=True)


def play(scenario: Scenario, *, noted: bool = False) -> History:
    """Run a scenario to its end, and judge it.

    ``scenario``: the scenario.
    ``noted``: whether to note everything that happens.
    """
    stage = _Stage(scenario, noted=noted)
    world, judge = stage.world, stage.judge
    if not world.run(_MOST_EVENTS):
        judge.found("no-end", f"the history has no end after {_MOST_EVENTS} events")
    else:
        stage.check_remains()
    return History(
        scenario,
        tuple(judge.violations),
        len(judge.grants),
        judge.written,
        judge.refused,
        world.happened,
        tuple(world.notes or ()),
    )


class _Stage:
    """All that takes part in one history: servers, clients, faults and the judge."""

    __slots__ = ("_heirs", "_plans", "clients", "judge", "scenario", "servers", "world")

    def __init__(self, scenario: Scenario, *, noted: bool) -> None:
        self.scenario = scenario
        self.world = World(noted=noted)
        self.judge = Judge(self.world)
        self._heirs: list[str] = []
        self.servers = [Server(place, plan) for place, plan in enumerate(scenario.servers)]
        # All servers vote. Clients have one of a few ttls; each ttl has a plan of its own.
        voters = Voters(
            tuple(range(len(self.servers))), tuple(server.name for server in self.servers)
        )
        self._plans = {
            ttl: LockPlan(
                "lock",
                _KEYS,
                voters,
                ttl,
                scenario.voter_timeout,
                register_key(_SPACE),
                _WIRE if scenario.lists else b"",
            )
            for ttl in {client.ttl for client in scenario.clients}
        }
        # Clients of one process share what is known of the voters. In a warm scenario voters and
        # processes have met before.
        registers: dict[int, VoterRegistry] = {}
        rng = Random(scenario.seed)
        if scenario.warm:
            acquaint(self.servers, self._plans[min(self._plans)], rng)
        self.clients: list[Client] = []
        for number, plan in enumerate(scenario.clients):
            register = registers.setdefault(
                plan.process,
                VoterRegistry(unsure=_MOST_CHANGE * scenario.ttl, promotes=scenario.promotes),
            )
            if scenario.warm and rng.random() < 0.7:
                acquaint(self.servers, self._plans[min(self._plans)], rng, register.status(voters))
            self._enter(f"client-{number + 1}", plan, register)
        # The membership of the voters, and the faults.
        if scenario.agreed:
            self._agree(scenario.agreed)
        if scenario.moved is not None:
            self._change(scenario.moved)
        for fault in scenario.faults:
            if fault.kind in ("rollback", "failover"):
                self.world.at(
                    max(fault.at - fault.size, 0.0), self.servers[fault.target].save, None
                )
            self.world.at(fault.at, self._strike, fault)

    def _enter(self, name: str, plan: ClientPlan, register: VoterRegistry) -> None:
        client = Client(name, plan, self.scenario, self.world, self.judge, self.servers, register)
        client.electorate = self._electorate(plan.knows)
        self.clients.append(client)
        client.begin(
            life(
                client,
                self._plans[plan.ttl],
                lambda token, fence: self._inherit(client, token, fence),
            )
        )

    def _electorate(self, knows: int) -> Electorate | None:
        """Return what a client knows of the membership, with so many first servers in its list."""
        if not self.scenario.lists:
            return None
        shards = {server.name: place for place, server in enumerate(self.servers[:knows])}
        return Electorate(lambda: shards)

    def _agree(self, count: int) -> None:
        """Let the first so many servers have a membership from the start: themselves."""
        first = Membership(1, tuple(server.name for server in self.servers[:count]))
        for server in self.servers[:count]:
            known = server.db.fields(register_key(_SPACE))
            known[b"version"], known[b"members"] = first.version, first.text
            known.setdefault(b"born", b"%d" % int(server.clock(0.0) * 1e6))

    def _change(self, when: float) -> None:
        """Let one more client change the voters to all servers, at a time."""
        plan = self.scenario.clients[0]
        far = tuple(1.0 for _ in self.servers)
        mover = Client(
            "mover",
            replace(plan, rng=plan.rng + 15, far=far),
            *(self.scenario, self.world, self.judge, self.servers, VoterRegistry()),
        )
        mover.electorate = self._electorate(len(self.servers))
        names = tuple(server.name for server in self.servers)
        mover.begin(mover_life(mover, self._plans[plan.ttl], names, when))

    def _inherit(self, giver: Client, token: bytes, fence: int) -> None:
        """Let a new client on another machine go on with a lease."""
        plan = replace(
            giver.plan,
            rng=giver.plan.rng + 8 + 16 * len(self._heirs),
            drift=-giver.plan.drift,
            clock=giver.plan.clock + 50,
        )
        name = f"{giver.name}h{len(self._heirs)}"
        self._heirs.append(name)
        heir = Client(
            name, plan, self.scenario, self.world, self.judge, self.servers, giver.registry
        )
        heir.electorate = giver.electorate
        heir.begin(heir_life(heir, self._plans[plan.ttl], token, fence))

    def _strike(self, fault: Fault) -> None:
        now = self.world.now
        if self.world.notes is not None:
            self.world.note(
                "fault",
                f"{fault.kind} {fault.target + 1} for {fault.lasts:.4f} s {fault.size or ''}",
            )
        match fault.kind:
            # Servers that restart, with the same, no or older data.
            case "restart" | "wipe" | "rollback":
                server = self.servers[fault.target]
                data = {"restart": server.db, "wipe": None, "rollback": server.saved}[fault.kind]
                server.restart(now, fault.lasts, data and data.copy())
            # A replica takes over, with the data that it had got by then.
            case "failover":
                server = self.servers[fault.target]
                server.fail_over(now, fault.lasts, (server.saved or server.db).copy())
            case "flush":
                self.servers[fault.target].flush()
            case "hang":
                self.servers[fault.target].frozen = now + fault.lasts
            # Clients that miss messages, pause or end. An index may be that of no client.
            case "cut":
                if fault.client < len(self.clients):
                    self.clients[fault.client].cuts[fault.target] = now + fault.lasts
            case "freeze":
                if fault.target < len(self.clients):
                    self.clients[fault.target].freeze(fault.lasts)
            case "crash":
                if fault.target < len(self.clients):
                    self.clients[fault.target].crash()
            # Faults outside of the assumptions.
            case "jump":
                self.servers[fault.target].jump(fault.size)
            case "evict":
                db = self.servers[fault.target].db
                for key in (_KEYS.fence, _KEYS.lock) if fault.at * 1e6 % 2 < 1 else (_KEYS.fence,):
                    db.delete(key)

    def check_remains(self) -> None:
        """Check that no key of the lock and no waiting client is left, some time after the end."""
        end = self.world.now + 2 * 1.02 * max(self._plans) + 3
        for server in self.servers:
            server.db.now = int(server.clock(end) * 1e6)
            for key in _LOCK_KEYS:
                left = server.db.left(key)
                if left != -2:
                    self.judge.found(
                        "left-behind", f"{server.name} has {key.decode()} with {left} ms left"
                    )
        for client in self.clients:
            if not client.done and not client.dead:
                self.judge.found("no-end", f"{client.name} waits for ever")
