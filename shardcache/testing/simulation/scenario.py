"""Draws the scenario of one history from a seed: all but what happens to each single message.

It keeps to the assumptions (see docs/guarantees.md). Clocks drift apart by less than a lease allows
for. Only a minority of servers loses data: all of them with the process ("wipe"), all of them
without ("flush"), or those since an older state ("rollback"); or a replica that lags takes the
place of the server ("failover", in the story of that). Any client may miss any message.
`OUTSIDE` names the faults that leave the assumptions.
"""

from collections.abc import Collection
from random import Random

from shardcache.testing.simulation.parts import ClientPlan, Fault, FaultKind, Scenario, ServerPlan
from shardcache.testing.simulation.stories import FORGETTING, STORIES, forgets

__all__ = ("OUTSIDE", "ClientPlan", "Fault", "FaultKind", "Scenario", "ServerPlan", "draw")

OUTSIDE = ("clock-jumps", "eviction", "mass-amnesia")
_MOST_DRIFT = 0.0049  # of each clock; two clocks are within the 1 % of a lease's drift term


def draw(seed: int, outside: Collection[str] = (), plot: str | None = None) -> Scenario:
    """Return the scenario of a seed.

    ``seed``: decides everything.
    ``outside``: faults outside of the assumptions to add (`OUTSIDE`).
    ``plot``: a story that the scenario tells (`STORIES`); None lets the seed decide.
    """
    # How many servers there are, and how long leases and timeouts are.
    rng = Random(seed)
    roll = rng.random
    few = (1, 2) if plot is None else ()
    count = 3 if roll() < 0.55 else rng.choice((*few, 4, 5, 5, 6, 7))
    if plot == "rolled-out":
        count = rng.choice((2, 3, 4, 5, 6, 6, 6, 6, 7))
    minority = (count - 1) // 2
    ttl = 0.4 * 10 ** roll()
    timeout = ttl * rng.choice((0.06, 0.2, 0.5, 0.9))
    order = rng.sample(range(count), count)
    # A counter that is lost or old starts again from the server's clock. So a server must not
    # forget in a history where clocks jump: that would leave two assumptions at once.
    forgetful = (
        (plot != "rolled-out" and (roll() < 0.4 and "clock-jumps" not in outside))
        or "mass-amnesia" in outside
        or plot in (*FORGETTING, "failed-over")
    )
    wiped = order[1 : minority + 1] if forgetful else []
    # Where counters may be lost, the servers' clocks are about right; else they may show anything.
    apart = 0.01 if forgetful or "eviction" in outside else rng.choice((0.0, 1.0, 1e5))
    base = 1.7e9 + roll() * 1000
    young = roll() < 0.3
    servers = tuple(
        ServerPlan(_drift(rng), base + apart * (roll() - 0.5), 3 * ttl * roll() if young else 1e4)
        for _ in range(count)
    )
    # The clients, some of which may share a process.
    delay = min(ttl * rng.choice((0.0005, 0.002, 0.01)), timeout / 25)
    mixed = roll() < 0.3
    crowd = rng.choice((2, 2, 3, 3, 4))
    shared = roll() < 0.4
    clients = tuple(
        ClientPlan(
            rng=seed * 16 + number + 1,
            process=number % 2 if shared else number,
            drift=_drift(rng),
            clock=roll() * 100,
            start=0.0 if number == 0 else ttl * roll() * rng.choice((0.02, 0.5, 1.5)),
            cycles=rng.choice((1, 1, 2)),
            ttl=ttl * (rng.choice((0.5, 1.0, 2.5)) if mixed else 1.0),
            far=tuple(rng.choice((0.5, 1.0, 1.0, 6.0)) for _ in range(count)),
        )
        for number in range(crowd)
    )
    # The faults: some with a time, the others by their chance per message or step.
    faults = [_fault(rng, ttl, crowd, wiped, count) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    faults += _outside(rng, outside, ttl, count)
    calm = roll() < 0.3
    scenario = Scenario(
        seed=seed,
        servers=servers,
        clients=clients,
        faults=tuple(faults),
        ttl=ttl,
        voter_timeout=timeout,
        delay=delay,
        slow=0.0 if calm else rng.choice((0.0, 0.02, 0.1)),
        slowest=ttl * rng.choice((0.1, 0.5, 1.2)),
        loss=0.0 if calm else rng.choice((0.0, 0.02, 0.1, 0.2)),
        calm=20 * ttl,
        pause=rng.choice((0.0, 0.01, 0.05)),
        cancel=rng.choice((0.0, 0.0, 0.3)),
        mixed=mixed,
        warm=roll() < 0.45,
    )
    # Some histories tell a story: one about servers that forget, if they may.
    told = roll()
    if plot is None and wiped and told < 0.7:
        plot = rng.choice(FORGETTING)
    elif plot is None and not forgetful and told < 0.5:
        plot = rng.choice(("isolated", "rolled-out"))
    return scenario if plot is None else STORIES[plot](rng, scenario, order)


def _drift(rng: Random) -> float:
    return rng.choice((-1.0, 1.0, rng.random())) * _MOST_DRIFT


def _fault(rng: Random, ttl: float, clients: int, wiped: list[int], servers: int) -> Fault:
    at = ttl * 2.5 * rng.random()
    lasts = ttl * rng.choice((0.01, 0.3, 1.2)) * rng.random()
    kind: FaultKind = rng.choice(("wipe", "wipe", "restart", "hang", "cut", "freeze", "crash"))
    if kind in ("freeze", "crash"):
        return Fault(kind, at, rng.randrange(clients), lasts)
    if kind == "wipe" and wiped:
        return forgets(rng, ttl, at, rng.choice(wiped), lasts)
    if kind == "wipe":
        kind = "restart"
    return Fault(
        kind, at, rng.randrange(servers), lasts, rng.randrange(clients) if kind == "cut" else 0
    )


def _outside(rng: Random, outside: Collection[str], ttl: float, servers: int) -> list[Fault]:
    """Return faults outside of the assumptions, of the kinds that are asked for."""
    found: list[Fault] = []
    for _ in range(2):
        at = ttl * 2.5 * rng.random()
        target = rng.randrange(servers)
        if "clock-jumps" in outside:
            found.append(Fault("jump", at, target, size=ttl * rng.choice((-2.0, 0.5, 1.5, 3.0))))
        if "eviction" in outside:
            found.append(Fault("evict", at, target))
    if "mass-amnesia" in outside:
        at = ttl * 2.5 * rng.random()
        found += [Fault("wipe", at, target, 0.01 * ttl) for target in range(servers // 2 + 1)]
    return found
