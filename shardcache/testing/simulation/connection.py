"""Connections and messages: order is kept on a connection, and a new one may overtake what is still under way on the old one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shardcache.testing.simulation.server import Server

if TYPE_CHECKING:
    from shardcache.testing.simulation.client import Client

__all__ = ("Fate", "Message", "SimulatedConnection")

Fate = Literal["", "lost", "late", "silent", "unanswered", "unheard"]


@dataclass(slots=True, eq=False)
class SimulatedConnection:
    """One connection. ``life``: which life of the server it ends in; known to the client from the first reply on."""

    server: Server
    life: bytes | None = None
    age: float = 0.0  # seconds, as the server said it
    born: float | None = None  # on the client's clock
    arrived: float = 0.0  # when the last request gets there
    answered: float = 0.0  # when the last reply gets back
    broken: bool = False


@dataclass(slots=True, eq=False)
class Message:
    """One command under way, or its reply. ``serial``: the step of the client that it belongs to.

    ``fate``: lost (and the client notices), late (the client is told that it is lost, and it gets there all the same), silent (lost and
    nobody notices); unanswered, unheard: the effect takes place, and the reply is lost, noticed or not.
    """

    client: "Client"
    connection: SimulatedConnection
    place: int
    serial: int
    command: tuple[Any, ...]
    idempotent: bool
    fate: Fate
    reply: Any = None
