"""What a scenario is made of: servers, clients, and what happens to them."""

from dataclasses import dataclass
from typing import Literal

__all__ = ("FORGETS", "ClientPlan", "Fault", "FaultKind", "Scenario", "ServerPlan")

FaultKind = Literal[
    "restart", "wipe", "flush", "rollback", "hang", "cut", "freeze", "crash", "jump", "evict"
]
FORGETS: tuple[FaultKind, ...] = ("wipe", "flush", "rollback")


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
    messages take to each server; ``rng`` is the seed of all it does.
    """

    rng: int
    process: int
    drift: float
    clock: float
    start: float
    cycles: int
    ttl: float
    far: tuple[float, ...]
    knows: int = 0  # how many of the servers it has in its list, the first ones; 0: all
    style: str = ""  # what it does with the lock, see `behaviour`; empty: drawn anew each time


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to somebody at a time, for a while.

    ``size``: seconds that a clock jumps, or that a rollback goes back; ``client`` only for a cut.
    """

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
    voter_timeout: float
    delay: float  # seconds that a message takes, about
    slow: float
    slowest: float  # seconds
    loss: float
    calm: float  # seconds after which messages are neither slow nor lost, so that every wait has an end
    pause: float
    cancel: float
    mixed: bool  # clients have several ttls, and change them as they extend
    warm: bool  # the voters have been met before
    lists: bool = False  # voters follow from the membership that the servers keep
    agreed: int = (
        0  # of so many servers, the first ones, do the servers keep a membership; 0: none yet
    )
    moved: float | None = (
        None  # when the first client changes the voters to all servers that it knows
    )
