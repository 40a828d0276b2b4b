"""What is known of one lock before anything is sent: its keys, its voters, its times."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import NamedTuple, Self

from shardcache.flows.lock.scripts import ACQUIRE
from shardcache.flows.steps import Listen
from shardcache.keys import KeySpace
from shardcache.resp import Command

__all__ = (
    "FENCE_TTL",
    "MOST_VOTERS",
    "LockKeys",
    "LockPlan",
    "Voters",
    "drift",
    "load_register_key",
    "register_key",
)

MOST_VOTERS = 5
# ms: a counter that has expired starts again from the server's clock, far above its former values.
FENCE_TTL = 30 * 24 * 3600 * 1000


def drift(ttl: float) -> float:
    """Return the seconds by which two clocks may differ over ``ttl`` seconds.

    Rounding to milliseconds is included. The figure is Redlock's own.
    """
    return ttl * 0.01 + 0.002


def register_key(space: KeySpace) -> bytes:
    """Return the key of the register of voters: each namespace has one."""
    return space.internals + b"voters"


def load_register_key(space: KeySpace) -> bytes:
    """Return the key of the register of the voters on loads.

    They keep no counters, and so no ``born`` either.
    """
    return space.internals + b"load-voters"


class LockKeys(NamedTuple):
    """The keys of one lock, the same on every voter."""

    lock: bytes
    fence: bytes
    waiting: bytes
    wake: bytes

    @classmethod
    def of(cls, wire: bytes, space: KeySpace) -> Self:
        """Return the keys of the lock of this name."""
        begin, end = space.internals, space.internal_end(wire)
        return cls(*(begin + family + end for family in (b"lock", b"fence", b"wait", b"wake")))

    @classmethod
    def of_load(cls, wire: bytes, space: KeySpace) -> Self:
        """Return the keys of the load lock of a value; no user's lock can have these keys."""
        begin, end = space.internals, space.internal_end(wire)
        families = b"load", b"load-token", b"load-wait", b"load-wake"
        return cls(*(begin + family + end for family in families))


class Voters(NamedTuple):
    """The voters of a lock. A *place* is a voter's index in ``names``, and then in ``absent``.

    ``shards``: the shards that this client can ask, by place.
    ``names``: their names.
    ``sets``: the groups of places of each of which a majority is needed. Empty: one of all is
        enough. While the voters are being changed, there are two groups.
    ``absent``: the names of voters that are not among this client's nodes, so that it cannot ask
        them. They count for a majority like voters that do not answer.
    """

    shards: tuple[int, ...]
    names: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...] = ()
    absent: tuple[str, ...] = ()

    def majority(self, places: Collection[int]) -> bool:
        """Whether these are a majority of each set."""
        if not self.sets:
            return 2 * len(places) > len(self.shards) + len(self.absent)
        return all(sum(place in places for place in one) > len(one) // 2 for one in self.sets)

    def hopeless(self, places: Collection[int]) -> bool:
        """Whether no majority is possible without these."""
        if not self.sets:
            return 2 * (len(self.shards) - len(places)) <= len(self.shards) + len(self.absent)
        asked = set(range(len(self.shards))).difference(places)
        return any(len(asked.intersection(one)) <= len(one) // 2 for one in self.sets)

    @property
    def total(self) -> int:
        return len(self.shards) + len(self.absent)

    @property
    def quorum(self) -> int:
        return (len(self.shards) + len(self.absent)) // 2 + 1

    @property
    def id(self) -> bytes:
        """The id of this set of voters, which does not depend on their order."""
        return (
            sha1(repr(sorted(self.names + self.absent)).encode(), usedforsecurity=False)
            .hexdigest()[:16]
            .encode()
        )


_NOBODY = Voters((), ())


@dataclass(frozen=True, slots=True)
class LockPlan:
    """One lock.

    ``name``: for messages.
    ``ttl``: seconds.
    ``voter_timeout``: the longest wait for a voter, in seconds.
    ``register``: the key of the register of voters; empty if they keep none.
    ``wire``: the name from which the voters follow; empty if the voters were chosen by name.
    ``version``: the version of the membership by which they were chosen.
    ``number``: the number of that membership.
    ``electors``: the voters, and behind them, while the voters are being changed, those of the
        former membership, which must be free.
    """

    name: str
    keys: LockKeys
    voters: Voters
    ttl: float
    voter_timeout: float
    register: bytes
    wire: bytes = b""
    version: bytes = b""
    number: int = 0
    electors: Voters = _NOBODY
    quorum: int = field(init=False)
    ttl_ms: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quorum", self.voters.quorum)
        if not self.electors.shards:
            object.__setattr__(self, "electors", self.voters)
        object.__setattr__(self, "ttl_ms", max(round(self.ttl * 1000), 1))

    def text_in_key(self, token: bytes, number: int) -> bytes:
        """Return the text for the key: the token, and the numbers of attempt and membership."""
        return (
            b"%b|%d.%d" % (token, number, self.number)
            if self.number
            else b"%b|%d" % (token, number)
        )

    def on(self, voters: Voters | None) -> Self:
        """Return the plan for a lease that these voters granted, even if they changed since."""
        if voters is None or voters is self.voters is self.electors:
            return self
        return replace(self, voters=voters, electors=voters, version=b"", wire=b"")

    def acquire(
        self, token: bytes, *, polite: bool, announce_ms: int, read_only: bool = False
    ) -> Command:
        keys = self.keys
        return (
            *(b"EVAL", ACQUIRE, b"4", keys.lock, keys.fence, keys.waiting, self.register, token),
            *(b"%d" % self.ttl_ms, b"%d" % FENCE_TTL, b"%d" % polite, b"%d" % announce_ms),
            *(self.version, b"%d" % read_only),
        )

    def script(self, script: bytes, *arguments: bytes | int) -> Command:
        """Return the command that runs one of the shorter scripts."""
        said = [one if isinstance(one, bytes) else b"%d" % one for one in arguments]
        return (b"EVAL", script, b"4", *self.keys, *said)

    def script_with_life(self, script: bytes, *arguments: bytes | int) -> Command:
        """Return the command for a script that says in which life the voter answers."""
        verb, _, _, *rest = self.script(script, *arguments)
        keys = len(self.keys)
        return (verb, script, b"5", *rest[:keys], self.register, *rest[keys:])

    def woken_at(self, shard: int, timeout: float) -> Listen:
        """Return the step that waits on a shard, ``timeout`` seconds at most, to be woken.

        The client that releases the lock wakes it.
        """
        return Listen(shard, (b"BLPOP", self.keys.wake, b"%.3f" % max(timeout, 0.001)), timeout)
