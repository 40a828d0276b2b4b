"""The parts of a scenario: servers, clients, and what happens to them. All times are seconds."""

from dataclasses import dataclass
from typing import Literal

__all__ = ("FORGETS", "ClientPlan", "Fault", "FaultKind", "Scenario", "ServerPlan")

FaultKind = Literal[
    "restart",
    "wipe",
    "flush",
    "rollback",
    "failover",
    "hang",
    "cut",
    "freeze",
    "crash",
    "jump",
    "evict",
]
FORGETS: tuple[FaultKind, ...] = ("wipe", "flush", "rollback")


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server.

    ``drift``: its clock runs ``1 + drift`` times as fast as true time.
    ``wall``: what its clock shows at the start.
    ``age``: how long it has been up at the start.
    """

    drift: float
    wall: float
    age: float


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """A client.

    ``rng``: the seed of all that it does.
    ``process``: clients with the same number share what is known of the voters.
    ``drift``: its clock runs ``1 + drift`` times as fast as true time.
    ``clock``: what its clock shows at the start.
    ``start``: when it first wants the lock, on its clock.
    ``cycles``: how often it acquires the lock.
    ``ttl``: the ttl of its leases.
    ``far``: for each server, how many times longer its messages take than others'.
    ``knows``: how many first servers are in its list; 0 for all.
    ``style``: what it does with the lock, see `behaviour`; empty: drawn anew each time.
    """

    rng: int
    process: int
    drift: float
    clock: float
    start: float
    cycles: int
    ttl: float
    far: tuple[float, ...]
    knows: int = 0
    style: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    ``kind``: what happens.
    ``at``: when it happens.
    ``target``: the index of the server, or of the client for "freeze" and "crash".
    ``lasts``: for how long.
    ``client``: for a "cut", the index of the client that cannot reach the server.
    ``size``: how far a clock jumps, a rollback goes back, or a replica lags.
    """

    kind: FaultKind
    at: float
    target: int
    lasts: float = 0.0
    client: int = 0
    size: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that one history begins with.

    ``seed``: the seed that it was drawn from.
    ``servers``: the servers; all of them vote unless ``lists`` says otherwise.
    ``clients``: the clients.
    ``faults``: what happens, and when.
    ``ttl``: the usual ttl of leases.
    ``voter_timeout``: how long a client waits for a voter.
    ``delay``: how long a message takes, about.
    ``slow``: the chance of a message to take longer.
    ``slowest``: how much longer such a message takes at most.
    ``loss``: the chance of a message to be lost.
    ``calm``: after this time messages are neither slow nor lost, so every wait has an end.
    ``pause``: the chance of a client to be paused before a step.
    ``cancel``: the chance of an operation to be cancelled.
    ``mixed``: whether clients have several ttls, and change them as they extend.
    ``warm``: whether voters and processes have met before.
    ``lists``: whether the voters follow from the membership that the servers keep.
    ``agreed``: of how many first servers there is a membership from the start; 0 for none.
    ``moved``: when the voters are changed to all servers; None for never.
    ``promotes``: whether a replica may take the place of a server.
    """

    seed: int
    servers: tuple[ServerPlan, ...]
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...]
    ttl: float
    voter_timeout: float
    delay: float
    slow: float
    slowest: float
    loss: float
    calm: float
    pause: float
    cancel: float
    mixed: bool
    warm: bool
    lists: bool = False
    agreed: int = 0
    moved: float | None = None
    promotes: bool = False
