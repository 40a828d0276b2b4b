"""What a look-up says about one key, a ping about one shard, and `explain` about a key's place."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, Generic, Self, TypeVar

from shardcache.errors import ShardCacheError, ShardError
from shardcache.stats import SERVICE

__all__ = (
    "MISS",
    "Explanation",
    "Failed",
    "Hit",
    "HotKey",
    "Miss",
    "Missing",
    "Outcome",
    "PingResult",
    "Results",
)

T = TypeVar("T")


class Missing(Enum):
    """The type of `MISS`, so that ``value is MISS`` narrows in a type checker."""

    MISS = "MISS"

    def __repr__(self) -> str:
        return "MISS"

    def __bool__(self) -> bool:
        return False


MISS: Final = Missing.MISS
"""A default that no stored value equals: ``cache.get(key, MISS) is MISS`` tells it from None."""


@dataclass(frozen=True, slots=True)
class Hit(Generic[T]):
    """The key is there.

    ``value``: its value.
    """

    value: T


@dataclass(frozen=True, slots=True)
class Miss:
    """The key's shard answered: it is not there."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It is not known whether the key is there: no answer from its shard, or no readable value.

    ``error``: the error that says why.
    """

    error: ShardCacheError


Outcome = Hit[T] | Miss | Failed


class Results(Mapping[str | bytes, "Outcome[T]"], Generic[T]):
    """One outcome per key, in the order of asking: `Hit`, `Miss` or `Failed`. Read-only.

    ``outcomes``: the outcomes by their keys.
    """

    __slots__ = ("_outcomes",)

    def __init__(self, outcomes: dict[str | bytes, Outcome[T]]) -> None:
        self._outcomes = outcomes

    def __getitem__(self, key: str | bytes) -> Outcome[T]:
        return self._outcomes[key]

    def __iter__(self) -> Iterator[str | bytes]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"Results({self._outcomes!r})"

    @property
    def hits(self) -> dict[str | bytes, T]:
        """The keys that were found, with their values."""
        return {key: outcome.value for key, outcome in self.items() if isinstance(outcome, Hit)}

    def with_hits(self, values: Iterable[tuple[str | bytes, T]]) -> "Results[T]":
        """Return these results with other values for some keys.

        ``values``: pairs of key and value; `MISS` as value makes a hit a miss.
        """
        changed: dict[str | bytes, Outcome[T]] = {
            key: Miss() if value is MISS else Hit(value) for key, value in values
        }
        return Results({**self._outcomes, **changed})

    @property
    def misses(self) -> list[str | bytes]:
        """The keys that are certainly not there."""
        return [key for key, outcome in self.items() if isinstance(outcome, Miss)]

    @property
    def failures(self) -> dict[str | bytes, ShardCacheError]:
        """The keys of which nothing is known, and why."""
        return {key: outcome.error for key, outcome in self.items() if isinstance(outcome, Failed)}


@dataclass(frozen=True)
class PingResult:
    """Whether one shard answered a ping. Plain data, which a health endpoint can return as it is.

    ``ok``: whether it answered.
    ``seconds``: how long a new connection and a PING took; None if there was no answer.
    ``error``: why there was none, without the shard's name and without credentials; None if ``ok``.
    ``error_type``: the name of the error's class in `shardcache.errors`; None if ``ok``.
    """

    ok: bool
    seconds: float | None = None
    error: str | None = None
    error_type: str | None = None

    _cause: ClassVar[ShardError | None] = None

    @classmethod
    def of(cls, outcome: float | ShardError) -> Self:
        """Return the result of one ping.

        ``outcome``: the seconds that it took, or the error.
        """
        if not isinstance(outcome, ShardError):
            return cls(True, outcome)
        found = cls(False, None, outcome.reason, type(outcome).__name__)
        # The cause is no field, so that the fields are plain data.
        object.__setattr__(found, "_cause", outcome)
        return found

    def as_dict(self) -> dict[str, bool | float | str | None]:
        """Return the four fields as a dict that ``json.dumps`` takes."""
        return {
            "ok": self.ok,
            "seconds": self.seconds,
            "error": self.error,
            "error_type": self.error_type,
        }

    def raise_for_error(self) -> None:
        """Raise the `ShardError` that prevented an answer; do nothing if there was an answer."""
        if self._cause is not None:
            raise self._cause


@dataclass(frozen=True, slots=True)
class HotKey:
    """One of the keys that this process reads most. Its figures are estimates, from a sample.

    ``key``: the key: str, or bytes where it is no UTF-8.
    ``shard``: the name of the shard that it lives on; empty if no shard has it.
    ``rate``: how often it is read in a second, over the last minutes.
    ``share``: its part of all reads, 0 to 1.
    ``count``: how often it was read at most. A read counts half after a minute, a quarter after
        two, and so on.
    ``error``: how much less than ``count`` it may be, because the key has shared its counter.
    """

    key: str | bytes
    shard: str
    rate: float
    share: float
    count: int
    error: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where one key lives, and why there.

    ``key``: the key as the caller gave it.
    ``wire_key``: the key as the server has it, with its namespace.
    ``hashed``: the part of ``wire_key`` that decides: its ``{tag}``, or all of it.
    ``shard``: the name of the owner.
    ``address``: where the owner listens, without credentials.
    ``successors``: the nodes clockwise from the key, the owner first.
    ``state``: the state of the owner's breaker as this process sees it.
    ``slot``: the slot of the key in a Redis Cluster; None where the nodes are no cluster. If nobody
        serves it, ``shard`` is empty.
    ``replicas``: the names of the replicas of the owner, where they are known: in a Redis Cluster,
        and of Sentinels if replicas are read from.
    ``read_from``: which of these servers reads go to: `Options.read_from`.
    """

    key: str | bytes
    wire_key: bytes
    hashed: bytes
    shard: str
    address: str
    successors: tuple[str, ...]
    state: str
    slot: int | None = None
    replicas: tuple[str, ...] = ()
    read_from: str = "primary"

    def __str__(self) -> str:
        reads = "" if self.read_from == "primary" else f"; read from: {self.read_from}"
        replicas = f"; replicas: {', '.join(self.replicas) or 'none'}{reads}"
        if self.slot is not None:
            where = (
                f"on {self.shard!r} ({SERVICE[self.state]})"
                if self.shard
                else "which nobody serves"
            )
            return (
                f"{self.key!r} is stored as {self.wire_key!r}, hashed by {self.hashed!r}, in slot "
                f"{self.slot}, {where}{replicas}"
            )
        return (
            f"{self.key!r} is stored as {self.wire_key!r}, hashed by {self.hashed!r}, "
            f"on {self.shard!r} ({self.address}, {SERVICE[self.state]}); next on the ring: "
            f"{', '.join(self.successors[1:]) or 'nobody'}{replicas if reads else ''}"
        )
