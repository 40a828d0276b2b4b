"""The closed vocabulary of flows.

A flow is a generator that decides; a driver does. It yields a step, and is sent what came of it:

    step        what the driver does                               what it sends back
    ---------   ------------------------------------------------   ---------------------------------
    Exchange    sends each batch to its shard, all shards at       a list, one entry per batch: the
                once, within one deadline                          list of its replies, or the
                                                                   ShardError that took their place
    Canvass     sends each batch to its shard, all shards at       None, as soon as ``take`` has said
                once; gives every outcome to ``take`` as it        that enough is known, all have
                comes in                                           answered, or ``patience`` is over
    Listen      waits for the reply to one blocking command,       the reply; None if there was none
                on a connection of its own                         in time; or the ShardError
    Sleep       waits                                              None
    Load        runs the caller's loader, and ``renew`` in         what the loader returned; what it
                the background while it runs                       raises is thrown into the flow

A sync driver, an async driver and a simulator run the same flow. What is thrown into a flow (a cancellation,
say) may make it yield further steps, to tidy up: they are carried out as well.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from shardcache.commands import Command, Reply
from shardcache.errors import ShardError

__all__ = (
    "Batch",
    "Canvass",
    "Exchange",
    "Flow",
    "Listen",
    "Load",
    "Outcome",
    "Run",
    "Sleep",
    "Step",
    "Take",
    "exchange",
)

T = TypeVar("T")
Outcome = list[Reply] | ShardError


class Batch(NamedTuple):
    """Commands for one shard, by its place in the topology; ``twice`` if all may be sent again.

    ``fit`` says whether replies can be answers to these commands at all; if not, the connection is out
    of step and the driver closes it.
    """

    shard: int
    commands: list[Command]
    twice: bool
    fit: Callable[[list[Reply]], bool] | None = None


class Run(NamedTuple):
    """One life of a server process: its run id, and the seconds that it has been up at least."""

    id: bytes
    age: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with several shards."""

    batches: list[Batch]


Take = Callable[[int, Outcome, Run | None], bool]


@dataclass(frozen=True, slots=True)
class Canvass:
    """Ask several shards, and wait for no more answers than are needed.

    ``take`` is given the batch's place, its outcome, and who answered (None if unknown), and says whether
    enough is known. What comes in later is dropped; but on every shard commands of later steps take effect behind
    these. Batches that share one list of commands are packed once. ``take`` None: nobody waits for any answer.
    ``undo``: the commands undo earlier ones, so they go out behind them even to a shard that is found to hang.
    """

    batches: Sequence[Batch]
    take: Take | None
    patience: float  # seconds
    undo: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for one command that blocks on the server, such as BLPOP."""

    shard: int
    command: Command
    patience: float  # seconds


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for a time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Run the caller's loader for the key ``wire``, within ``patience`` seconds (None: however long it takes).

    While it runs, ``renew()`` is a flow to be run every ``gap`` seconds, until it returns False.
    """

    wire: bytes
    loader: Callable[[], Any]
    patience: float | None
    gap: float
    renew: "Callable[[], Flow[bool]]"


Step = Exchange | Canvass | Listen | Sleep | Load
Flow = Generator[Step, Any, T]


def exchange(batches: list[Batch]) -> Flow[list[Outcome]]:
    """Yield one exchange and return its outcomes, typed (the one place that hides the ``Any``)."""
    outcomes: list[Outcome] = yield Exchange(batches)
    return outcomes
