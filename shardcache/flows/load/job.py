"""One key that may have to be loaded: where it lies, who votes on its load, and how its value is to be kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shardcache.commands import Command
from shardcache.flows.load.scripts import CLAIM, FILL, GIVE_UP
from shardcache.flows.lock.plan import LockPlan, Voters
from shardcache.keys import Key
from shardcache.policy import LoadPolicy

__all__ = ("Entry", "Job")


class Entry(NamedTuple):
    """A value on its way to a caller.

    ``raw``: what is stored (None: nothing). ``stored``: whether it is in the cache. ``stale``: whether its time was over.
    """

    value: Any
    raw: bytes | None = None
    stored: bool = True
    stale: bool = False


@dataclass(slots=True, frozen=True)
class Job:
    """The load of one key. ``plan`` is that of its load lock, whose first voter is the key's own shard (its home)."""

    key: Key
    wire: bytes
    plan: LockPlan
    loader: Callable[[], Any]
    ttl_ms: int | None
    policy: LoadPolicy
    tags: tuple[bytes, ...] = ()

    @property
    def home(self) -> int:
        return self.plan.voters.shards[0]

    @property
    def solo(self) -> "Job":
        """This job with no voter but its home: nobody is kept from loading, but what is stored is still checked."""
        voters = self.plan.voters
        return replace(self, plan=replace(self.plan, voters=Voters(voters.shards[:1], voters.names[:1])))

    def claim(self, token: bytes, ttl_ms: int, announce_ms: int) -> Command:
        return (b"EVAL", CLAIM, 4, *self.plan.keys, token, ttl_ms, announce_ms)

    def fill(self, token: bytes, seen: bytes, ms: int | None, raw: bytes) -> Command:
        return (b"EVAL", FILL, 5, *self.plan.keys, self.wire, token, seen, b"" if ms is None else ms, raw)

    def give_up(self, token: bytes) -> Command:
        return (b"EVAL", GIVE_UP, 4, *self.plan.keys, token)

    def read(self) -> list[Command]:
        """Return what reads value and time left in one exchange."""
        return [(b"GET", self.wire), (b"PTTL", self.wire)]
