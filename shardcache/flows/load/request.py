"""What is to be loaded: a request for one key or several, and the load lock of each key.

A request of many keys is carried out part by part, so that it delays neither a vote nor another
caller.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from shardcache.errors import InvalidArgument
from shardcache.flows.budget import Budget
from shardcache.flows.load.scripts import CLAIM, FILL, FILL_TOKEN_MS, GIVE_UP, TAKE
from shardcache.flows.lock.lock_plan import LockPlan, Voters
from shardcache.keys import Key
from shardcache.policy import LoadPolicy
from shardcache.resp import Command

__all__ = (
    "BULK_TIMEOUTS",
    "LOOKED_AT_ONCE",
    "SENT_AT_ONCE",
    "LoadKey",
    "LoadRequest",
    "chunked",
    "look_commands",
)

T = TypeVar("T")
LOOKED_AT_ONCE = 1000  # keys in one read: two commands each
SENT_AT_ONCE = 100  # keys in one exchange of a load: about two scripts each
# How long a server may take for one such exchange of many, as a multiple of the client's timeout.
# With the timeout itself, a machine so busy that one in a hundred exchanges takes longer would
# lose some part of a large load.
BULK_TIMEOUTS = 3


def chunked(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, ``size`` at a time."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])


def look_commands(wire: bytes) -> list[Command]:
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
    def own_shard(self) -> int:
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
            b"%d" % self.plan.ttl_ms,
            b"%d" % FILL_TOKEN_MS,
        )

    def take_over(self, token: bytes) -> Command:
        """Return the command that takes the lock, whether or not another load has it."""
        return (
            b"EVAL",
            TAKE,
            b"4",
            *self.plan.keys,
            token,
            b"%d" % self.plan.ttl_ms,
            b"%d" % FILL_TOKEN_MS,
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
            *(token, seen, b"" if ms is None else b"%d" % ms, b"%d" % expired, raw),
        )

    def give_up(self, token: bytes, waiter: bytes = b"") -> Command:
        return (b"EVAL", GIVE_UP, b"4", *self.plan.keys, token, waiter)


@dataclass(slots=True, frozen=True)
class LoadRequest:
    """Keys that are loaded in the same way.

    ``single``: the loader takes no arguments and returns the value of the one key.
    ``background``: the keys have values, so that no caller has to wait until the load ends.
    ``bulk``: the call has more keys than one exchange takes, so each exchange has a deadline of
        its own.
    ``claimed``: the claims that voters may have, by wire key: to be given back if the call is
        broken off.
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
    claimed: dict[bytes, Any] = field(default_factory=dict)

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
        if wires == self.wires and seen is None:
            return self
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
