"""Scenarios with a plot: faults in the order that would do harm if a part of the lock were missing.

A random history seldom has such an order. Each story takes a scenario, adds faults, and may change
when clients come. ``order`` is a random order of the servers. The servers behind the first one, as
many as a minority, may forget.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from shardcache.testing.simulation.parts import FORGETS, Fault, Scenario

__all__ = ("FORGETTING", "STORIES", "forgets")

Story = Callable[[Random, Scenario, list[int]], Scenario]


def forgets(rng: Random, ttl: float, at: float, target: int, lasts: float) -> Fault:
    """Return a fault by which a server loses all or some of its data.

    ``rng``: decides which data.
    ``ttl``: the usual ttl of leases, in seconds.
    ``at``: when.
    ``target``: the index of the server.
    ``lasts``: seconds until the server is up again.
    """
    return Fault(
        rng.choice(FORGETS),
        at,
        target,
        lasts,
        size=ttl * rng.choice((0.05, 0.5, 3.0)) * rng.random(),
    )


def _isolated(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """A client has a bare majority, and then cannot reach all voters of it."""
    ttl, quorum = scenario.ttl, len(order) // 2 + 1
    at, lasts, client = (
        ttl * rng.random() * 0.6,
        ttl * rng.random(),
        rng.randrange(len(scenario.clients)),
    )
    some = order[rng.randint(min(1, quorum - 1), quorum - 1) : quorum]
    return _with(
        scenario,
        [Fault("cut", 0.0, target, 2 * ttl, client) for target in order[quorum:]]
        + [Fault("cut", at, target, lasts, client) for target in some],
    )


def _forgotten(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """A voter forgets a holder whom not all other voters have met."""
    ttl = scenario.ttl
    early = rng.random() < 0.4  # before the holder has registered any voter's life
    holder = 0 if early else rng.randrange(len(scenario.clients))
    wiped, away = _roles(order)
    lasts = ttl * rng.choice((0.02, 0.3, 1.0))
    faults = [Fault("cut", 0.0, target, lasts, holder) for target in away[1:]]
    some = wiped[: rng.randint(1, len(wiped))]
    faults += [
        forgets(rng, ttl, rng.random() ** 2 * ttl, target, ttl * 0.1 * rng.random())
        for target in some
    ]
    if early:
        faults.append(
            Fault(
                "freeze",
                scenario.delay * (0.5 + 6 * rng.random()),
                holder,
                ttl * rng.random() * 0.8,
            )
        )
    return _with(scenario, faults)


def _missed(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """Voters forget a holder, and other clients cannot reach the voters that remember.

    Voters that remember and voters that forget are just a majority. The other voters have never
    met the voters that forget, or do not know so long a ttl.
    """
    ttl = scenario.ttl
    wiped, rest = _roles(order)
    rng.shuffle(rest)
    met = len(order) // 2 + 1 - len(wiped)
    at = ttl * rng.choice((0.05, 0.2, 0.5)) * rng.random()
    faults = [Fault("cut", 0.0, target, 3 * ttl, 0) for target in rest[met:]]
    faults += _cut_from_others(scenario, rest[:met], at, 3 * ttl)
    faults += [forgets(rng, ttl, at, target, ttl * 0.02 * rng.random()) for target in wiped]
    scenario = _longer(rng, _with(scenario, faults))
    clients = scenario.clients
    others = (replace(client, start=at + 0.1 * ttl * rng.random()) for client in clients[1:])
    return replace(
        scenario,
        clients=(clients[0], *others),
        warm=rng.random() < 0.3,
        loss=0.0,
        cancel=0.0,
        pause=0.0,
    )


def _late(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """A holder is slow to register a longer ttl, or only some voters hear of it; voters forget."""
    ttl, delay = scenario.ttl, scenario.delay
    wiped, rest = _roles(order)
    met = len(order) // 2 + 1 - len(wiped)
    at = delay * (0.5 + 6 * rng.random())
    faults = [Fault("cut", 0.0, target, ttl, 0) for target in rest[met:]]
    if rng.random() < 0.5:
        faults.append(Fault("freeze", at, 0, ttl * rng.random() * 0.8))
        lost = at + ttl * 0.2 * rng.random()
    else:  # the holder waits for all voters; then only those that forget get its registration
        timeout = scenario.voter_timeout
        faults += [Fault("cut", timeout * 0.7, target, timeout * 1.4, 0) for target in rest[:met]]
        lost = timeout * (2.2 + rng.random())
    faults += [Fault("wipe", lost, target, delay * rng.random()) for target in wiped]
    scenario = _longer(rng, _with(scenario, faults), always=True)
    return replace(scenario, warm=True, loss=0.0, cancel=0.0, pause=0.0)


def _rolled_back(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """Voters come back with old counters, and later holders meet no voter with the newest one."""
    ttl = scenario.ttl
    wiped, rest = _roles(order)
    met = len(order) // 2 + 1 - len(wiped)
    at = ttl * rng.random() * 0.5
    faults = [Fault("cut", 0.0, target, at, 0) for target in rest[met:]]
    faults += [
        Fault("rollback", at, target, ttl * 0.02 * rng.random(), size=ttl) for target in wiped
    ]
    faults += _cut_from_others(
        scenario, rest[:met], at + ttl * rng.choice((0.0, 0.3, 0.9)), 8 * ttl
    )
    scenario = _with(scenario, faults)
    return replace(scenario, warm=True, pause=0.0)


def _handed_over(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """A lease is handed over, and its text arrives twice.

    In between, voters come back with the data from before the first adoption.
    """
    # The voters go back.
    ttl = scenario.ttl
    wiped, _ = _roles(order)
    at = ttl * (0.2 + rng.random())
    faults = [
        Fault(
            "rollback",
            at,
            target,
            ttl * 0.02 * rng.random(),
            size=ttl * rng.choice((0.05, 0.2)) * rng.random(),
        )
        for target in wiped
    ]
    # The first client hands over; messages are slow, and none is lost.
    scenario = _with(scenario, faults)
    first = replace(scenario.clients[0], style="hand over", start=0.0)
    slow = rng.choice((0.1, 0.3))
    return replace(
        scenario,
        clients=(first, *scenario.clients[1:]),
        slow=slow,
        slowest=0.3 * ttl,
        loss=0.0,
        cancel=0.0,
    )


def _unheard(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """A holder keeps the lock by voters that had not answered when it was granted.

    Then these voters forget, and nobody has met them.
    """
    ttl = scenario.ttl
    wiped, rest = _roles(order)
    met = len(order) // 2 + 1 - len(wiped)
    away = ttl * (0.1 + 0.4 * rng.random())
    faults = [Fault("cut", 0.0, target, away, 0) for target in wiped]
    faults += [
        Fault("cut", away + ttl * 0.5 * rng.random(), target, 4 * ttl, 0) for target in rest[met:]
    ]
    lost = away + ttl * (0.6 + rng.random())
    faults += [forgets(rng, ttl, lost, target, ttl * 0.02 * rng.random()) for target in wiped]
    scenario = _with(scenario, faults)
    first = replace(scenario.clients[0], style="keep", start=0.0, ttl=ttl)
    others = (
        replace(client, start=lost + ttl * 0.3 * rng.random()) for client in scenario.clients[1:]
    )
    return replace(scenario, clients=(first, *others), warm=False, loss=0.0, cancel=0.0, pause=0.0)


def _failed_over(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """What other stories tell, but replicas that lag take the place of voters that forget."""
    told = STORIES[rng.choice(FORGETTING)](rng, scenario, order)
    lag = scenario.ttl * rng.choice((0.05, 0.5, 3.0))
    faults = (
        replace(fault, kind="failover", size=fault.size or lag * rng.random())
        if fault.kind in FORGETS
        else fault
        for fault in told.faults
    )
    return replace(told, faults=tuple(faults), promotes=True)


def _rolled_out(rng: Random, scenario: Scenario, order: list[int]) -> Scenario:
    """Some clients have an older list of servers, some a newer one; the voters may be changed."""
    servers = len(order)
    older = max(servers - 1, 1)
    clients = tuple(
        replace(
            client,
            knows=rng.choice((older, servers)),
            cycles=2,
            start=client.start * rng.choice((0.0, 1.0)),
        )
        for client in scenario.clients
    )
    # Counters begin with the clock when the former voters are forgotten, so the clocks must agree.
    wall = scenario.servers[0].wall
    machines = tuple(replace(server, wall=wall) for server in scenario.servers)
    # Any two majorities of lists that differ by one node have a node in common, so the clients can
    # agree on one membership.
    agreed = rng.choice((0, older, older))
    moved = scenario.ttl * 2 * rng.random() if rng.random() < 0.7 else None
    # The first client reaches some of the voters that all lists share, the others reach the rest.
    if servers > 5 and rng.random() < 0.7:
        shared = rng.sample(range(older), older)
        at, lasts = scenario.ttl * 0.3 * rng.random(), 2 * scenario.ttl
        apart = [Fault("cut", at, target, lasts, 0) for target in shared[: older // 2]]
        scenario = _with(
            scenario, apart + _cut_from_others(scenario, shared[older // 2 :], at, lasts)
        )
    return replace(
        scenario,
        servers=machines,
        clients=clients,
        lists=True,
        agreed=agreed,
        moved=moved,
        warm=False,
    )


def _roles(order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the servers that may forget, and the others."""
    minority = (len(order) - 1) // 2
    return list(order[1 : minority + 1]), [order[0], *order[minority + 1 :]]


def _cut_from_others(
    scenario: Scenario, targets: Sequence[int], at: float, lasts: float
) -> list[Fault]:
    """Return faults by which all clients but the first cannot reach these servers."""
    return [
        Fault("cut", at, target, lasts, client)
        for target in targets
        for client in range(1, len(scenario.clients))
    ]


def _longer(rng: Random, scenario: Scenario, *, always: bool = False) -> Scenario:
    """Let the first client have a longer ttl than the others."""
    if not always and rng.random() < 0.5:
        return scenario
    clients = scenario.clients
    longer = replace(clients[0], ttl=2.5 * scenario.ttl)
    others = (replace(client, ttl=0.5 * scenario.ttl) for client in clients[1:])
    return replace(scenario, clients=(longer, *others))


def _with(scenario: Scenario, faults: list[Fault]) -> Scenario:
    return replace(scenario, faults=(*scenario.faults, *faults))


STORIES: dict[str, Story] = {
    "isolated": _isolated,
    "forgotten": _forgotten,
    "missed": _missed,
    "late": _late,
    "rolled-back": _rolled_back,
    "handed-over": _handed_over,
    "unheard": _unheard,
    "rolled-out": _rolled_out,
    "failed-over": _failed_over,
}
FORGETTING = ("forgotten", "missed", "late", "rolled-back", "handed-over", "unheard")
