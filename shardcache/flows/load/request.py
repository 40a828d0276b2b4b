"""What is to be loaded: a request for one key or several, and the load lock of each key."""

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
    """Return the commands that read the value of a key and its time left in one exchange."""
    return [(b"GET", wire), (b"PTTL", wire)]


@dataclass(slots=True, frozen=True)
class LoadKey:
    """The load of one key.

    ``plan``: the plan of its load lock. Its first voter is the key's own shard.
    ``seen``: the PTTL in ms with which the value was read that is to be refreshed; None for a miss.
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
        """The plan with the key's own shard as the only voter.

        It does not keep others from loading, but the fill is still checked.
        """
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
        """Return the command that takes the lock, whether or not another load has it."""
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
        """Return the command that stores ``raw`` if the value is still the one that was read.

        ``seen``: the SHA-1 of the value that was read, empty for a miss.
        ``ms``: the lifetime of the value in ms; None: for ever.
        ``expired``: the value that was read has expired by now, so that there may be none.
        """
        return (
            *(b"EVAL", FILL, b"5", *self.plan.keys, self.wire),
            *(token, seen, b"" if ms is None else decimal(ms), decimal(expired), raw),
        )

    def give_up(self, token: bytes, waiter: bytes = b"") -> Command:
        return (b"EVAL", GIVE_UP, b"4", *self.plan.keys, token, waiter)

    def read(self) -> list[Command]:
        """Return the commands that read value and time left in one exchange."""
        return asking(self.wire)


@dataclass(slots=True, frozen=True)
class LoadRequest:
    """Keys that are loaded in the same way.

    ``single``: the loader takes no arguments and returns the value of the one key.
    ``background``: the keys have values, so that no caller has to wait until the load ends.
    ``bulk``: the call has more keys than one exchange takes, so each exchange has a deadline of
        its own.
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
        """Return the part of the request that is about these keys.

        ``seen``: if they are to be refreshed, the PTTL in ms with which each was read.
        """
        wanted = frozenset(wires)
        load_keys = tuple(load_key for load_key in self.load_keys if load_key.wire in wanted)
        if seen is not None:
            load_keys = tuple(replace(load_key, seen=seen[load_key.wire]) for load_key in load_keys)
        return replace(self, load_keys=load_keys)

    def call(self, keys: list[Key]) -> Callable[[], Any]:
        """Return the function that runs the loader."""
        return self.loader if self.single else lambda: self.loader(keys)

    def results(self, keys: list[Key], found: Any) -> Mapping[Key, Any]:
        """Return the loaded values by key; raise `InvalidArgument` if ``found`` is no mapping."""
        if self.single:
            return {keys[0]: found}
        if not isinstance(found, Mapping):
            raise InvalidArgument(
                "the loader of many keys must return a mapping, "
                f"it returned a {type(found).__name__}"
            )
        return found
