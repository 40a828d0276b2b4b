"""One slot of a Redis Cluster that moves to another server, key by key, as the servers do it.

state        the source answers                       the target answers
-----------  ---------------------------------------  ------------------------------------------
stays        everything                               MOVED
opens        as below                                 with ASKING as below, else MOVED
under way    what it has; ASK if it has no key of it;  with ASKING what it has, and one key that is
             TRYAGAIN if it has some                  nowhere; TRYAGAIN for several of which it
                                                      lacks one; without ASKING MOVED
handed over  as under way                             everything
moved        MOVED                                    everything
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from shardcache.flows import redirection
from shardcache.flows.steps import Exchange, Flow, Step
from shardcache.resp import ErrorReply, as_error
from shardcache.testing.simulation.database import Database

__all__ = ("MapOfOne", "SlotMigration", "followed")

T = TypeVar("T")
_STAYS, _UNDER_WAY, _HANDED_OVER, _MOVED = range(4)


class SlotMigration:
    """The slot.

    ``dbs``: the data of all servers; those of the source hold nothing but this slot.
    ``source``: the index of the server that has the slot.
    ``target``: the index of the server that gets it.
    ``rng``: decides which key moves next.
    """

    def __init__(self, dbs: Sequence[Database], source: int, target: int, rng: Random) -> None:
        self._dbs = dbs
        self.source = source
        self.target = target
        self._rng = rng
        self._state = _STAYS

    @property
    def over(self) -> bool:
        return self._state == _MOVED

    def advance(self, now: float) -> None:
        """Take the next step of the move."""
        source, target = self._dbs[self.source], self._dbs[self.target]
        source.now = target.now = int(now * 1e6)
        keys = sorted(key for key in [*source.values] if source.exists(key))
        if self._state == _UNDER_WAY and keys:
            key = self._rng.choice(keys)
            target.values[key] = source.values.pop(key)
            if key in source.expiries:
                target.expiries[key] = source.expiries.pop(key)
        else:
            self._state += 1

    def redirect(self, shard: int, keys: Sequence[bytes], *, asking: bool) -> Any:
        """Return what a server answers instead of carrying a command out; None if it does."""
        if shard not in (self.source, self.target):
            return None
        here = sum(map(self._dbs[shard].exists, keys))
        said = None
        if shard == self.source:
            if self._state == _MOVED:
                said = f"MOVED 1 h{self.target}:1"
            elif self._state != _STAYS and here < len(keys):
                said = "TRYAGAIN" if here else f"ASK 1 h{self.target}:1"
        elif self._state < _HANDED_OVER:
            if not asking or self._state == _STAYS:
                said = f"MOVED 1 h{self.source}:1"
            elif len(keys) > 1 and here < len(keys):
                said = "TRYAGAIN"
        return None if said is None else as_error(f"server-{shard}", ErrorReply(said))


class MapOfOne:
    """What one client knows of the slot: `ClusterLinks`, as far as its flows use it."""

    def __init__(self, migration: SlotMigration) -> None:
        self._migration = migration
        self._moved = False

    def owner_of(self, _: bytes) -> int:
        return self._migration.target if self._moved else self._migration.source

    def shard_at(self, host: str, _: int, __: int) -> int:
        return int(host[1:])

    def moved(self, _: bytes, __: int) -> None:
        self.refresh()

    def refresh(self) -> None:
        self._moved = self._migration.over

    def sent_again(self, _: list[bytes]) -> None:
        """Do nothing: this client has no near cache."""


def followed(
    flow: Flow[T],
    links: Any,
    clock: Callable[[], float],
    random: Callable[[], float],
    timeout: float,
) -> Generator[Step, Any, T]:
    """Run a flow whose exchanges are followed where they are redirected, as the drivers do it."""
    outcome: Any = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        end_at = clock() + timeout
        outcome = yield step
        if isinstance(step, Exchange) and redirection.concerns(outcome):
            outcome = yield from redirection.follow(
                step.batches, outcome, links, timeout, partial(_left, end_at, clock), random
            )


def _left(end: float, clock: Callable[[], float]) -> float:
    return end - clock()
