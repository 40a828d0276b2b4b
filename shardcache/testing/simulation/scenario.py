"""What one history is made of, drawn from a seed: everything but the luck of the single messages.

The assumptions (see docs/guarantees.md) are kept here: clocks that drift apart by less than a lease allows for, and memory lost by
a minority only, which is then also the only one that messages are lost to. `OUTSIDE` names what leaves them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Literal

__all__ = ("OUTSIDE", "ClientPlan", "Fault", "FaultKind", "Scenario", "ServerPlan", "draw")

OUTSIDE = ("clock-jumps", "eviction", "mass-amnesia")
_MOST_DRIFT = 0.0049  # of each clock; two of them are within the 1 % of a lease's drift term

FaultKind = Literal["restart", "wipe", "hang", "cut", "freeze", "crash", "jump", "evict"]


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server: its clock runs at ``1 + drift`` and shows ``wall`` at the start; it has been up for ``age`` seconds."""

    drift: float
    wall: float
    age: float


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """A client.

    ``process`` says with whom it shares what is known of the voters; ``far``, how many times longer than others its
    messages take to each server; ``luck`` is the seed of all it does.
    """

    luck: int
    process: int
    drift: float
    clock: float
    start: float
    cycles: int
    ttl: float
    far: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to somebody at a time, for a while. ``size``: seconds that a clock jumps; ``client`` only for a cut."""

    kind: FaultKind
    at: float
    target: int
    lasts: float = 0.0
    client: int = 0
    size: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One history to be. Chances are per message (``loss``, ``slow``) or per step of a client (``pause``) or operation (the rest)."""

    seed: int
    servers: tuple[ServerPlan, ...]
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...]
    ttl: float
    patience: float
    delay: float  # seconds that a message takes, about
    slow: float
    slowest: float  # seconds
    loss: float
    calm: float  # seconds after which messages are neither slow nor lost, so that every wait has an end
    pause: float
    cancel: float
    mixed: bool  # clients have several ttls, and change them as they extend
    warm: bool  # the voters have been met before
    frail: frozenset[int]  # servers that messages may be lost to and that may be slow beyond patience


def draw(seed: int, outside: Collection[str] = ()) -> Scenario:
    """Return the scenario of a seed."""
    rng = Random(seed)
    roll = rng.random
    count = 3 if roll() < 0.75 else 5
    minority = (count - 1) // 2
    ttl = 0.4 * 10 ** roll()
    patience = ttl * rng.choice((0.06, 0.2, 0.5, 0.9))
    order = rng.sample(range(count), count)
    forgetful = roll() < 0.4 or "mass-amnesia" in outside
    # One voter at least neither forgets nor is out of reach while others forget.
    frail = frozenset(order[1:] if forgetful else order)
    wiped = order[1 : minority + 1] if forgetful else []
    # Where counters may be lost, the walls of the servers are about right; else they may show anything.
    apart = 0.01 if forgetful or "eviction" in outside else rng.choice((0.0, 1.0, 1e5))
    base = 1.7e9 + roll() * 1000
    young = roll() < 0.3
    servers = tuple(
        ServerPlan(_drift(rng), base + apart * (roll() - 0.5), 3 * ttl * roll() if young else 1e4) for _ in range(count)
    )
    delay = min(ttl * rng.choice((0.0005, 0.002, 0.01)), patience / 25)
    mixed = roll() < 0.3
    crowd = rng.choice((2, 2, 3, 3, 4))
    shared = roll() < 0.4
    clients = tuple(
        ClientPlan(
            luck=seed * 16 + number + 1,
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
    faults = [_fault(rng, ttl, crowd, wiped, frail) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    if forgetful and roll() < 0.7:
        faults += _forgotten(rng, ttl, delay, crowd, order, minority)
    if not forgetful and roll() < 0.25:
        faults += _isolated(rng, ttl, crowd, order)
    faults += _outside(rng, outside, ttl, count)
    calm = roll() < 0.3
    return Scenario(
        seed=seed,
        servers=servers,
        clients=clients,
        faults=tuple(faults),
        ttl=ttl,
        patience=patience,
        delay=delay,
        slow=0.0 if calm else rng.choice((0.0, 0.02, 0.1)),
        slowest=ttl * rng.choice((0.1, 0.5, 1.2)),
        loss=0.0 if calm else rng.choice((0.0, 0.02, 0.1, 0.2)),
        calm=20 * ttl,
        pause=rng.choice((0.0, 0.01, 0.05)),
        cancel=rng.choice((0.0, 0.0, 0.3)),
        mixed=mixed,
        warm=roll() < 0.45,
        frail=frail,
    )


def _drift(rng: Random) -> float:
    return rng.choice((-1.0, 1.0, rng.random())) * _MOST_DRIFT


def _fault(rng: Random, ttl: float, clients: int, wiped: list[int], frail: frozenset[int]) -> Fault:
    at = ttl * 2.5 * rng.random()
    lasts = ttl * rng.choice((0.01, 0.3, 1.2)) * rng.random()
    kind: FaultKind = rng.choice(("wipe", "wipe", "restart", "hang", "cut", "freeze", "crash"))
    if kind in ("freeze", "crash"):
        return Fault(kind, at, rng.randrange(clients), lasts)
    if kind == "wipe" and wiped:
        return Fault(kind, at, rng.choice(wiped), lasts)
    if kind == "wipe":
        kind = "restart"
    target = rng.choice(sorted(frail))
    return Fault(kind, at, target, lasts, rng.randrange(clients) if kind == "cut" else 0)


def _forgotten(rng: Random, ttl: float, delay: float, clients: int, order: list[int], minority: int) -> list[Fault]:
    """Return faults by which a voter forgets a holder whom its peers have not all met."""
    early = rng.random() < 0.4  # before the holder has put down anywhere whom it met
    holder = 0 if early else rng.randrange(clients)
    wiped, away = order[1 : minority + 1], order[minority + 1 :]
    lasts = ttl * rng.choice((0.02, 0.3, 1.0))
    cuts = [Fault("cut", 0.0, target, lasts, holder) for target in away]
    some = wiped[: rng.randint(1, minority)]
    cuts += [Fault("wipe", rng.random() ** 2 * ttl, target, ttl * 0.1 * rng.random()) for target in some]
    if early:
        cuts.append(Fault("freeze", delay * (0.5 + 6 * rng.random()), holder, ttl * rng.random() * 0.8))
    return cuts


def _isolated(rng: Random, ttl: float, clients: int, order: list[int]) -> list[Fault]:
    """Return faults by which a client has a bare majority, and then cannot reach all of that."""
    at, lasts, client = ttl * rng.random() * 0.6, ttl * rng.random(), rng.randrange(clients)
    quorum = len(order) // 2 + 1
    missing = [Fault("cut", 0.0, target, 2 * ttl, client) for target in order[quorum:]]
    return missing + [Fault("cut", at, target, lasts, client) for target in order[rng.randrange(1, quorum) : quorum]]


def _outside(rng: Random, outside: Collection[str], ttl: float, servers: int) -> list[Fault]:
    """Return the faults that are outside the assumptions, as far as they are asked for."""
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
