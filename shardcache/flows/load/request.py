"""What is to be loaded: an order of one key or several, and for each where it lies and who votes on its load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shardcache.errors import InvalidArgument
from shardcache.flows.budget import Budget
from shardcache.flows.load.scripts import CLAIM, FILL, GIVE_UP, PASS_MS, TAKE
from shardcache.flows.lock.lock_plan import LockPlan, Voters
from shardcache.keys import Key
from shardcache.policy import LoadPolicy
from shardcache.resp import Command, decimal

__all__ = ("LoadKey", "LoadRequest", "asking")


def asking(wire: bytes) -> list[Command]:
    """Return what reads the value of a key and the time that it has left, in one exchange."""
    return [(b"GET", wire), (b"PTTL", wire)]


@dataclass(slots=True, frozen=True)
class LoadKey:
    """The load of one key. ``plan`` is that of its load lock, whose first voter is the key's own shard (its home).

    ``seen``: the PTTL with which a reader who wants it refreshed saw the value; None if it was a miss.
    """

    key: Key
    wire: bytes
    plan: LockPlan
    seen: int | None = None

    @property
    def home(self) -> int:
        return self.plan.voters.shards[0]

    @property
    def solo(self) -> LockPlan:
        """The plan with no voter but the home: nobody else is kept from loading, but what is stored is still checked."""
        voters = self.plan.voters
        return replace(self.plan, voters=Voters(voters.shards[:1], voters.names[:1]))

    def claim(self, token: bytes, waiter: bytes = b"") -> Command:
        return (
            b"EVAL",
            CLAIM,
            b"4",
            *self.plan.keys,
            token,
            waiter,
            decimal(self.plan.ttl_ms),
            decimal(PASS_MS),
        )

    def take_over(self, token: bytes) -> Command:
        """Return what takes the lock from whoever has it."""
        return (
            b"EVAL",
            TAKE,
            b"4",
            *self.plan.keys,
            token,
            decimal(self.plan.ttl_ms),
            decimal(PASS_MS),
        )

    def fill(
        self, token: bytes, seen: bytes, ms: int | None, raw: bytes, *, expired: bool
    ) -> Command:
        """Return what stores ``raw`` if the value is still the one that was ``seen``, or none because that has ``expired`` meanwhile."""
        return (
            *(b"EVAL", FILL, b"5", *self.plan.keys, self.wire),
            *(token, seen, b"" if ms is None else decimal(ms), decimal(expired), raw),
        )

    def give_up(self, token: bytes, waiter: bytes = b"") -> Command:
        return (b"EVAL", GIVE_UP, b"4", *self.plan.keys, token, waiter)

    def read(self) -> list[Command]:
        """Return what reads value and time left in one exchange."""
        return asking(self.wire)


@dataclass(slots=True, frozen=True)
class LoadRequest:
    """Keys that are loaded in the same way. ``single``: the loader is called without arguments and returns the value of the one key.

    ``behind``: nobody need wait for it to its end, since there are values. ``bulk``: it is part of a call with more keys than go out at
    once, so that each exchange has a deadline of its own.
    """

    load_keys: tuple[LoadKey, ...]
    loader: Callable[..., Any]
    ttl_ms: int | None
    policy: LoadPolicy
    tags: tuple[bytes, ...]
    single: bool
    name: str  # of the method, for events
    budget: Budget  # what the exchanges of the call may take
    background: bool = False
    bulk: bool = False

    def renew_budget(self) -> None:
        """Give the next exchange a deadline of its own."""
        self.budget.renew(self.load_keys[0].plan.voter_timeout)

    @property
    def wires(self) -> tuple[bytes, ...]:
        return tuple(load_key.wire for load_key in self.load_keys)

    def of(
        self, wires: tuple[bytes, ...], seen: Mapping[bytes, int] | None = None
    ) -> "LoadRequest":
        """Return the part of it that is about these keys, which a reader saw with these PTTLs and wants refreshed."""
        wanted = frozenset(wires)
        load_keys = tuple(load_key for load_key in self.load_keys if load_key.wire in wanted)
        if seen is not None:
            load_keys = tuple(replace(load_key, seen=seen[load_key.wire]) for load_key in load_keys)
        return replace(self, load_keys=load_keys)

    def call(self, keys: list[Key]) -> Callable[[], Any]:
        """Return what runs the loader."""
        return self.loader if self.single else lambda: self.loader(keys)

    def results(self, keys: list[Key], found: Any) -> Mapping[Key, Any]:
        """Return what the loader returned, by key; raise `InvalidArgument` for what it must not return."""
        if self.single:
            return {keys[0]: found}
        if not isinstance(found, Mapping):
            raise InvalidArgument(
                f"the loader of many keys must return a mapping, it returned a {type(found).__name__}"
            )
        return found
