"""What every load of one client needs, apart from the load itself."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shardcache.codecs import Codec, Loaded
from shardcache.codecs.load_record import refusal_text
from shardcache.errors import DamagedPayload
from shardcache.flows.budget import Budget
from shardcache.flows.load.chunks import BULK_PATIENCE, lock_ms_of
from shardcache.flows.load.load_outcome import LoadOutcome
from shardcache.flows.load.request import LoadKey
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.flows.reply_policy import ReplyPolicy
from shardcache.keys import Key
from shardcache.policy import Freshness, LoadPolicy
from shardcache.policy.freshness import LONGEST_DRAW, jittered, judge, lock_ttl_ms, version_draw
from shardcache.policy.load_result import LoadResult
from shardcache.stats import LoadTally
from shardcache.ttl import DEFAULT, milliseconds

__all__ = ("LoadContext", "fingerprint")

_MOST_PACES = 4096
_UNCHANGING = frozenset({type(None), bool, int, float, complex, str, bytes, Loaded})


@dataclass(slots=True)
class LoadContext:
    """Codec, ledger and lock room of one client, and the clock, chance and names that loads are given."""

    codec: Codec
    reply_policy: ReplyPolicy
    planner: LockPlanner
    clock: Callable[[], float]
    random: Callable[[], float]
    new_token: Callable[[str], bytes]  # a token nobody else has
    version: Callable[[], bytes]  # 16 bytes nobody else has
    tally: LoadTally
    timeout: float  # seconds: the client's
    batch: int  # keys in one call of a loader of many, at most
    salt: Callable[
        [], bytes
    ]  # 16 bytes that no other process has: what its draws are made of where processes do not wait for each other
    paces: dict[bytes, int] = field(
        default_factory=dict
    )  # ms that loading took last time, where that was long
    tended: dict[bytes, float] = field(
        default_factory=dict
    )  # until when nobody here need see to a refresh

    @property
    def registry(self) -> VoterRegistry:
        return self.planner.load_register

    def load_key(
        self, key: Key, wire: bytes, policy: LoadPolicy, *, keys: int = 1, bulk: bool = False
    ) -> LoadKey:
        """Return the job of one key, which is loaded with so many ``keys``; ``bulk``: part of a call with more than go out at once."""
        ttl_ms = max(lock_ttl_ms(self.paces.get(wire, 0), policy), lock_ms_of(keys))
        return LoadKey(
            key,
            wire,
            self.planner.load_plan(key, wire, ttl_ms / 1000, BULK_PATIENCE if bulk else 1),
        )

    def paced(self, wires: Iterable[bytes], took: float, policy: LoadPolicy) -> None:
        """Remember how long loading took: the next lock must last as long."""
        took_ms = round(took * 1000)
        for wire in wires:
            if lock_ttl_ms(took_ms, policy) > lock_ttl_ms(0, policy):
                if len(self.paces) >= _MOST_PACES:
                    self.paces.clear()
                self.paces[wire] = took_ms
            else:
                self.paces.pop(wire, None)

    def tend(self, wires: Iterable[bytes], seconds: float) -> None:
        """Note that a refresh of these keys is seen to for so long: readers need not even ask who does it."""
        for wire in wires:
            if seconds:
                if len(self.tended) >= _MOST_PACES:
                    self.tended.clear()
                self.tended[wire] = self.clock() + seconds
            else:
                self.tended.pop(wire, None)

    def is_tended(self, wire: bytes) -> bool:
        """Whether somebody sees to a refresh of this key."""
        return self.tended.get(wire, 0.0) > self.clock()

    def budget(self, began: float | None = None) -> Budget:
        """Return what the exchanges of one call may take, less what they have taken since it ``began``."""
        return Budget(self.timeout, self.clock, began)

    def abandoned(self) -> None:
        """Note that a loader was given up and runs on."""
        self.tally.abandoned += 1

    def joined(self, keys: int) -> None:
        """Note that a call waits for loads of this process."""
        self.tally.joined += keys

    def judge(
        self, raw: bytes, pttl: int, wire: bytes, policy: LoadPolicy
    ) -> tuple[Loaded, Freshness]:
        """Return what is stored and how fresh it is. Raises `DamagedPayload`."""
        found = self.codec.decode_loaded(raw, wire)
        if not found.grace and not found.delta:
            return found, Freshness.FRESH if pttl != -2 else Freshness.GONE
        return found, judge(
            pttl, found.grace, found.delta, policy, self._draw(raw, pttl, wire, found, policy)
        )

    def _draw(self, raw: bytes, pttl: int, wire: bytes, found: Loaded, policy: LoadPolicy) -> float:
        """Return the draw of an early refresh: one for each stored version; where nobody is kept from loading, one for each read."""
        if policy.protect == "none":
            return 1.0 - self.random()
        if pttl - found.grace > LONGEST_DRAW * found.delta * policy.beta:
            return 1.0  # whatever the draw, it is too soon
        return version_draw(raw, wire, b"" if policy.protect == "fleet" else self.salt())

    def own(self, brought: LoadOutcome, wire: bytes) -> LoadOutcome:
        """Return what a load of somebody else has brought with an object of one's own for a value that could be changed.

        Raises `DamagedPayload` where what is stored does not decode.
        """
        if type(brought.value) in _UNCHANGING:
            return brought
        return brought._replace(value=self.codec.decode_loaded(brought.raw, wire).value)

    def newer(
        self, load_key: LoadKey, policy: LoadPolicy, raw: bytes | None, pttl: int
    ) -> Loaded | None:
        """Return what a load found when it looked again, if that makes loading unnecessary."""
        if raw is None or (load_key.seen is not None and 0 <= pttl <= load_key.seen):
            return None  # what is to be refreshed is what is still there: time only runs down until somebody writes
        try:
            found, freshness = self.judge(raw, pttl, load_key.wire, policy)
        except DamagedPayload:
            return None
        return None if freshness in (Freshness.STALE, Freshness.GONE) else found

    def seal(
        self,
        wire: bytes,
        result: Any,
        policy: LoadPolicy,
        ttl_ms: int | None,
        took: float,
        tags: Any,
    ) -> tuple[Any, bytes, int | None]:
        """Return the value of a loader's result, what is to be stored for it, and its life in ms (0: not to be stored)."""
        if isinstance(result, LoadResult):
            ttl_ms = ttl_ms if result.ttl is DEFAULT else milliseconds(result.ttl)
            result = result.value
        ttl_ms = jittered(ttl_ms, policy.jitter, 1.0 - self.random())
        delta = max(round(took * 1000), 1) if policy.early and ttl_ms is not None else 0
        grace = policy.grace_ms if ttl_ms else 0
        # An int that nobody has to know more about stays a number that INCR works on.
        if (type(result) is int and not grace and not tags) or not (delta or grace or tags):
            raw = self.codec.encode(result, wire)
        else:
            raw = self.codec.encode_loaded(result, wire, grace_ms=grace, delta_ms=delta, tags=tags)
        return result, raw, None if ttl_ms is None else ttl_ms + grace if ttl_ms else 0

    def seal_refusal(
        self, wire: bytes, policy: LoadPolicy, error: BaseException
    ) -> tuple[bytes, int]:
        """Return what is stored for a loader's refusal, and for how many ms."""
        raw = self.codec.encode_loaded(refusal_text(error), wire, negative=True)
        return raw, max(round((policy.negative_ttl or 0) * 1000), 1)


def fingerprint(raw: bytes | None) -> bytes:
    """Return what the fill script compares the stored value with."""
    return b"" if raw is None else hashlib.sha1(raw, usedforsecurity=False).hexdigest().encode()
