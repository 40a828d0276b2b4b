"""The closed vocabulary of flows.

A flow is a generator that decides; a driver does. It yields a step, and is sent what came of it:

    step        what the driver does                               what it sends back
    ---------   ------------------------------------------------   ---------------------------------
    Exchange    sends each batch to its shard, all shards at       a list, one entry per batch: the
                once, within one deadline                          list of its replies, or the
                                                                   ShardError that took their place

A sync driver, an async driver and a simulator run the same flow.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from shardcache.commands import Command, Reply
from shardcache.errors import ShardError

__all__ = ("Batch", "Exchange", "Flow", "Outcome", "Step", "exchange")

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


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with several shards."""

    batches: list[Batch]


Step = Exchange
Flow = Generator[Step, Any, T]


def exchange(batches: list[Batch]) -> Flow[list[Outcome]]:
    """Yield one exchange and return its outcomes, typed (the one place that hides the ``Any``)."""
    outcomes: list[Outcome] = yield Exchange(batches)
    return outcomes
