"""Simulated connections and messages.

Messages on one connection keep their order. A message on a new connection may overtake messages
that are still under way on the old one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shardcache.testing.simulation.server import Server

if TYPE_CHECKING:
    from shardcache.testing.simulation.client import Client

__all__ = ("Fate", "Message", "SimulatedConnection")

Fate = Literal["", "lost", "late", "silent", "unanswered", "unheard"]


@dataclass(slots=True, eq=False)
class SimulatedConnection:
    """One connection to a server.

    ``server``: the server.
    ``life``: the life of the server that it is connected to; None before the first request arrives.
    ``age``: seconds that this life had lasted then, as the server said.
    ``born``: when that life began, on the client's clock; None before the first reply.
    ``arrived``: true time at which the last request arrives.
    ``answered``: true time at which the last reply arrives.
    ``broken``: whether the connection is lost.
    """

    server: Server
    life: bytes | None = None
    age: float = 0.0
    born: float | None = None
    arrived: float = 0.0
    answered: float = 0.0
    broken: bool = False


@dataclass(slots=True, eq=False)
class Message:
    """One command under way, or its reply.

    ``client``: the sender.
    ``connection``: what it is sent on.
    ``place``: the index of its batch in the step; -1 for a step that waits for a push.
    ``serial``: the number of the client's step.
    ``command``: the command.
    ``idempotent``: whether it may be sent twice.
    ``fate``: what happens to it; empty for nothing:
    "lost": the request is lost, and the client notices;
    "late": the client is told that the request is lost, but it arrives later;
    "silent": the request is lost, and nobody notices;
    "unanswered": the command is carried out, the reply is lost, and the client notices;
    "unheard": the command is carried out, the reply is lost, and nobody notices.
    ``reply``: the reply, when there is one.
    """

    client: "Client"
    connection: SimulatedConnection
    place: int
    serial: int
    command: tuple[Any, ...]
    idempotent: bool
    fate: Fate
    reply: Any = None
