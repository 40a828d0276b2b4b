"""The values that a process keeps near, and why none of them is served after its invalidation.

Theory of operation
-------------------
Every read puts an entry into the table *before* it is sent, and fills that entry when the reply has
come. An invalidation takes the entry of its key out of the table, filled or not. So if one arrives
while the read is under way, the reply fills an entry that nobody finds any more: no stale fill.
An invalidation that arrives later takes out the filled one.

Whether invalidations of a shard arrive is what a `Life` says. Each entry has the life that was
there before its read was sent, and is served only while

| condition | it fails when |
|---|---|
| the entry is filled, and now < ``expires`` | the ttl here, or that of the server, is over |
| now < ``life.until`` | the shard's connection is lost (at once), or has given no sign of life |
| ``life.topology`` is in service | the nodes or their addresses have changed |

and the states of a shard's part are those of its life:

| state | what happens | next |
|---|---|---|
| no life | a read: it is sent as without a near cache, nothing is stored | no life |
| | the server has confirmed that it tracks | a new life |
| a life | a sign of life that was asked for at t | until t + `LEASE` |
| | an invalidation of a key, or of all keys | its entry, or all of them, are gone |
| | another topology is in service | another life: entries of the former one are not served |
| | the connection is lost | no life: its entries are gone |

The table is a dict, whose single operations are atomic, because a signal handler or a finalizer may
call the client while it is at work here: a lock would stand in its way (`system/queue.py`). What is
evicted is the oldest entry that was not used since it was looked at last (second chance).
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import translate
from math import inf
from re import compile as compiled
from typing import Any

from shardcache.errors import ShardError
from shardcache.keys import Key
from shardcache.near_cache import NearCache
from shardcache.policy.hot_keys import HotKeyCounter
from shardcache.results import MISS
from shardcache.stats import NearStats
from shardcache.topology.current import CurrentTopology
from shardcache.topology.snapshot import Topology

__all__ = ("LEASE", "Life", "NearEntry", "NearStore")

LEASE = 2.0  # seconds from the asking for a sign of life, for which values are served
_OVERHEAD = 400  # bytes of an entry, its places in table and queue, and its objects
_SHARED: frozenset[type] = frozenset({str, bytes, int, float, bool, type(None)})


class Life:
    """The time for which the invalidations of one shard arrive without a gap.

    ``until``: the time up to which that is known.
    """

    __slots__ = ("shard", "topology", "until")

    def __init__(self, shard: int, topology: Topology, until: float) -> None:
        self.shard = shard
        self.topology = topology
        self.until = until


class NearEntry:
    """One value, or the place for one that is being read.

    ``value``: what all callers get; `MISS`: each gets a value of its own, made from ``raw``.
    ``began``: when the read was sent.
    ``dies``: when the server's ttl of the value ends.
    """

    __slots__ = ("began", "charge", "dies", "expires", "life", "raw", "used", "value")

    def __init__(self, life: Life, began: float) -> None:
        self.life = life
        self.began = began
        self.raw = b""
        self.value: Any = MISS
        self.expires = self.dies = -inf
        self.used = False
        self.charge: list[int] = []  # its bytes, as long as they are counted


class NearStore:
    """All values that one client keeps near.

    ``clock``: the time in seconds.
    ``life_of``: returns the life of a shard, None if it has none; it may raise `ShardError`.
    ``hot_keys``: what says which keys are hot, if only hot ones are kept.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_closed",
        "_current",
        "_items",
        "_order",
        "_settings",
        "_wanted",
        "flushes",
        "hits",
        "hot_keys",
        "invalidations",
        "life_of",
        "misses",
    )

    def __init__(
        self, settings: NearCache, current: CurrentTopology, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._current = current
        self._clock = clock
        self._items: dict[bytes, NearEntry] = {}
        # Keys in the order of their reading, each with the `charge` of its entry: that names the
        # entry, and does not keep the value of one that is gone.
        self._order: deque[tuple[bytes, list[int]]] = deque()
        self._bytes = 0
        self._closed = False
        self._wanted = _chooser(settings.keys)
        self.life_of: Callable[[int], Life | None] = lambda _: None
        self.hot_keys: HotKeyCounter | None = None
        self.hits = self.misses = self.invalidations = 0
        self.flushes: dict[str, int] = {}

    def find(self, wire: bytes) -> NearEntry | None:
        """Return the entry that may be served now."""
        entry = self._items.get(wire)
        if entry is not None:
            now, life = self._clock(), entry.life
            if now < entry.expires and now < life.until and life.topology is self._current.now:
                entry.used = True
                self.hits += 1
                return entry
        return None

    def look(self, wire: bytes) -> list[bytes | int] | None:
        """Return the entry as a server answers: the value's bytes, and the milliseconds left."""
        entry = self.find(wire)
        if entry is None:
            return None
        if entry.dies == inf:
            return [entry.raw, -1]
        return [entry.raw, max(int((entry.dies - self._clock()) * 1000), 0)]

    def begin(self, key: Key, wire: bytes, shard: int, topology: Topology) -> NearEntry | None:
        """Make the place for a value that is read next; None if it is not to be stored.

        ``key``, ``wire``: the key in both forms.
        ``shard``: its shard, by ``topology``; that may have been replaced since.

        Raises `ShardError` if the shard cannot tell of invalidations.
        """
        if self._closed or not self._keeps(key, wire):
            return None
        self.misses += 1
        life = self.life_of(shard)
        if life is None or not (life.topology is topology is self._current.now):
            return None
        entry = self._place(wire, life, self._clock())
        self._evict()
        return entry

    def begin_many(
        self, keys: Sequence[Key], wires: list[bytes], topology: Topology
    ) -> tuple[dict[bytes, NearEntry], dict[int, ShardError]]:
        """Make the places for values that are read next; return them by wire key.

        ``keys``, ``wires``: the keys in both forms, each one once.
        ``topology``: names the shards that are asked.

        Returned too, by shard: the errors of those that cannot tell of invalidations.
        """
        places: dict[bytes, NearEntry] = {}
        refusals: dict[int, ShardError] = {}
        if self._closed or topology is not self._current.now:
            return places, refusals
        now = self._clock()
        lives: dict[int, Life | None] = {}
        for key, wire, shard in zip(keys, wires, topology.owner_indexes(wires), strict=True):
            if not self._keeps(key, wire):
                continue
            self.misses += 1
            if shard not in lives:
                try:
                    lives[shard] = self.life_of(shard)
                except ShardError as error:
                    lives[shard], refusals[shard] = None, error
            life = lives[shard]
            if life is not None and life.topology is topology:
                places[wire] = self._place(wire, life, now)
        self._evict()
        return places, refusals

    def _place(self, wire: bytes, life: Life, now: float) -> NearEntry:
        entry = NearEntry(life, now)
        former = self._items.get(wire)
        self._items[wire] = entry
        if former is not None:
            self._discharge(former.charge)
        self._order.append((wire, entry.charge))
        return entry

    def fill(self, entry: NearEntry, wire: bytes, outcome: Any) -> bytes | None:
        """Fill an entry as `keep` does; return the value's bytes, None if there is no value.

        Raises the `ShardError` that came instead.
        """
        self.keep(entry, wire, outcome)
        for reply in (outcome,) if isinstance(outcome, ShardError) else outcome:
            if isinstance(reply, ShardError):
                raise reply
        raw: bytes | None = outcome[0]
        return raw

    def keep(self, entry: NearEntry | None, wire: bytes, outcome: Any) -> None:
        """Fill an entry, if there is one, with the reply to GET and PTTL: value and time left."""
        if entry is None or entry.charge:  # its key came in two forms, and it is filled already
            return
        raw, pttl = (outcome, 0) if isinstance(outcome, ShardError) else outcome
        if (
            raw.__class__ is bytes
            and pttl.__class__ is int
            and pttl not in (0, -2)
            # One that is too large for memory would push out all others, and then itself.
            and (size := _OVERHEAD + len(wire) + 2 * len(raw)) <= self._settings.max_bytes
        ):
            entry.raw = raw
            entry.dies = inf if pttl < 0 else entry.began + pttl / 1000
            self._bytes += size
            entry.charge.append(size)
            entry.expires = min(entry.dies, entry.began + self._settings.ttl)
            if self._items.get(wire) is not entry:
                self._discharge(entry.charge)
            self._evict()
        else:
            self._forget(wire, entry)

    def share(self, entry: NearEntry, value: Any) -> None:
        """Let all callers have this very object, if they may."""
        if self._settings.share or value.__class__ in _SHARED:
            entry.value = value

    def drop(self, wires: list[bytes] | None) -> None:
        """Take out entries, because of an invalidation or a write of this process; None: all."""
        if wires is None:
            wires = list(self._items)
        for wire in wires:
            entry = self._items.pop(wire, None)
            if entry is not None:
                self._discharge(entry.charge)

    def end(self, life: Life, name: str) -> None:
        """Serve nothing of ``life`` any more: the connection of its shard, ``name``, is lost."""
        life.until = -inf
        self.flushes[name] = self.flushes.get(name, 0) + 1
        for wire, entry in list(self._items.items()):
            if entry.life.until == -inf:
                self._forget(wire, entry)

    def close(self) -> None:
        """Keep nothing from now on."""
        self._closed = True
        self.drop(None)

    def empty(self) -> None:
        """Begin anew, as in a forked child."""
        self._items, self._order, self._bytes = {}, deque(), 0

    def stats(self) -> NearStats:
        """Return the counters."""
        return NearStats(
            self.hits,
            self.misses,
            self.invalidations,
            dict(self.flushes),
            len(self._items),
            self._bytes,
        )

    def _keeps(self, key: Key, wire: bytes) -> object:
        """Whether the value of this key is to be kept."""
        if self.hot_keys is not None and wire not in self.hot_keys.hot:
            return False
        return self._wanted is None or self._wanted(key)

    def _forget(self, wire: bytes, entry: NearEntry) -> None:
        """Take out an entry, or what has come in its place meanwhile."""
        entry.expires = -inf
        if self._items.get(wire) is entry:
            self.drop([wire])

    def _discharge(self, charge: list[int]) -> None:
        """Count these bytes of an entry no more. Two threads may come here: one of them does."""
        if charge:
            try:
                size = charge.pop()
            except IndexError:
                return
            # By itself: no other thread comes between the reading and the writing of the sum, as it
            # may where something is called in between.
            self._bytes -= size

    def _evict(self) -> None:
        """Make room. Each turn shortens the queue, or takes back that an entry was used."""
        settings, order = self._settings, self._order
        while (
            len(self._items) > settings.max_items
            or self._bytes > settings.max_bytes
            or len(order) > 2 * settings.max_items + 16
        ):
            try:
                wire, charge = order.popleft()
            except IndexError:
                # What signal handlers broke off has left bytes that nobody counts any more.
                self.empty()
                return
            entry = self._items.get(wire)
            if entry is None or entry.charge is not charge:
                # Of two reads that begin at once, one may have put its entry over the other's.
                self._discharge(charge)
                continue
            if entry.used:
                entry.used = False
                order.append((wire, charge))
            else:
                self._forget(wire, entry)


def _chooser(
    keys: str | Callable[[str | bytes], object] | None,
) -> Callable[[Key], object] | None:
    if keys is None:
        return None
    if isinstance(keys, str):
        matches = compiled(translate(keys)).match
        choose: Callable[[Key], object] = lambda key: isinstance(key, str) and matches(key)  # noqa: E731
    else:
        choose = keys

    def wanted(key: Key) -> object:
        if isinstance(key, bytes):
            with suppress(UnicodeDecodeError):
                key = key.decode()
        return choose(key)

    return wanted
